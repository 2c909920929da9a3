//! Names that both ends must spell alike: labels, annotations, keys, ports.

/// API group of the five kinds; also the prefix of our labels, annotations and finalizers.
pub const GROUP: &str = "tenantry.dev";

/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "tenantry.dev/operator";
/// Field manager of the status it writes; its own, so that an apply of the spec never takes a status field along.
pub const STATUS_FIELD_MANAGER: &str = "tenantry.dev/operator-status";
/// Field manager of the one condition of an object that cannot be read as its kind.
pub const MALFORMED_FIELD_MANAGER: &str = "tenantry.dev/operator-malformed";
/// Finalizer that holds a Tenant until its configuration (and, where asked, its data) is gone.
pub const FINALIZER: &str = "tenantry.dev/cleanup";

pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const LABEL_PART_OF: &str = "app.kubernetes.io/part-of";
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub const LABEL_PLATFORM: &str = "tenantry.dev/platform";
pub const LABEL_TENANT: &str = "tenantry.dev/tenant";
/// Marks a ConfigMap that holds a contract document; its value is [`CONTRACT_VERSION`].
pub const LABEL_CONTRACT: &str = "tenantry.dev/contract";
/// Revision of the document in the same ConfigMap, for people and for selectors on metadata only.
pub const ANNOTATION_REVISION: &str = "tenantry.dev/revision";

/// On a Tenant: whatever new it says asks for a new signing key.
pub const ANNOTATION_ROTATE_SIGNING_KEY: &str = "tenantry.dev/rotate-signing-key";

/// Colour of the API's pods: `blue` or `green`. The active Service selects one.
pub const LABEL_COLOR: &str = "tenantry.dev/color";
/// Release that a pod, a Deployment's template or a ConfigMap of settings is of.
pub const LABEL_RELEASE: &str = "tenantry.dev/release";
/// Annotation with which a person tells a Platform's rollout what to do: `promote`, `abort`, `retry`, `undo` or
/// `undo:<release>`. The operator removes it when it is done.
pub const ANNOTATION_ROLLOUT: &str = "tenantry.dev/rollout";

pub const MANAGED_BY: &str = "tenantry-operator";
pub const PART_OF: &str = "tenantry";
/// `app.kubernetes.io/name` of the API's pods.
pub const API_NAME: &str = "tenantry-api";

/// Version of the document format, in the document and on [`LABEL_CONTRACT`].
pub const CONTRACT_VERSION: &str = "v1";
/// Key of the document in its ConfigMap, and its file name in a folder of documents is `<tenant>.json`.
pub const DOCUMENT_KEY: &str = "tenant.json";

/// Key of the 32 random bytes in the Secret `<platform>-sealing-key`.
pub const SEALING_KEY: &str = "key";
/// Key of the PKCS#8 PEM in the Secret `<tenant>-signing-key`.
pub const SIGNING_KEY_PEM: &str = "ed25519.pem";

/// Container port names of the API.
pub const PORT_HTTP: &str = "http";
pub const PORT_MANAGEMENT: &str = "management";

/// Name of the ConfigMap that holds a tenant's document.
#[must_use]
pub fn config_map(tenant: &str) -> String {
    format!("{tenant}-tenant-config")
}

/// Name of the Secret that holds a tenant's own signing key.
#[must_use]
pub fn signing_key_secret(tenant: &str) -> String {
    format!("{tenant}-signing-key")
}

/// Name of the Secret that holds a platform's sealing key.
#[must_use]
pub fn sealing_key_secret(platform: &str) -> String {
    format!("{platform}-sealing-key")
}

/// Name shared by the API's Service, ServiceAccount, Role and Ingress.
#[must_use]
pub fn api(platform: &str) -> String {
    format!("{platform}-api")
}

/// Name of the Deployment of one colour of the API.
#[must_use]
pub fn api_color(platform: &str, color: &str) -> String {
    format!("{platform}-api-{color}")
}

/// Name of the Service that leads to the release that is being tried, or else to the active one.
#[must_use]
pub fn api_preview(platform: &str) -> String {
    format!("{platform}-api-preview")
}

/// Name of the ConfigMap that keeps a release: its settings and its pods' template.
#[must_use]
pub fn release(platform: &str, release: &str) -> String {
    format!("{platform}-release-{release}")
}

/// Label selector of a platform's contract documents.
#[must_use]
pub fn document_selector(platform: &str) -> String {
    format!("{LABEL_CONTRACT}={CONTRACT_VERSION},{LABEL_PLATFORM}={platform}")
}

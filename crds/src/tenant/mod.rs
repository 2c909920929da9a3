//! Tenant: who is served.

mod auth;

use contract::tenant::Dialect;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::auth::{Argon2, AuthPolicy, IdentityProvider, PasswordPolicy, Signing};
use crate::refs::{HOSTNAME, PlatformRef, URL};

/// Who is served, under which names and by which rules.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "Tenant",
    namespaced,
    status = "TenantStatus",
    doc = "A Tenant is one customer of a Platform: its hostnames, how its people sign in, and what it may use.",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ptn",
    category = "tenantry",
    selectable = ".spec.platformRef.name",
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan"),
    printcolumn(name = "Loaded", type_ = "integer", json_path = ".status.config.loadedReplicas",
        description = "Replicas that serve this tenant's current revision."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Hostname", type_ = "string", priority = 1, json_path = ".status.hostnames[0]"),
    printcolumn(name = "Revision", type_ = "string", priority = 1, json_path = ".status.config.revision"),
    printcolumn(name = "Message", type_ = "string", priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message"),
    validation = Rule::new("self.metadata.name.size() <= 50 && !self.metadata.name.contains('.')")
        .message("metadata.name must be at most 50 characters long and have no dot, because Secrets and labels are named after it"),
    cel
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.platformRef) || (has(self.platformRef) && self.platformRef == oldSelf.platformRef)").message("platformRef is immutable once it is set: delete the Tenant and create it for the other Platform"))]
pub struct TenantSpec {
    /// The Platform that serves this tenant. May be left out where the namespace has only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_ref: Option<PlatformRef>,

    /// Name for people; `metadata.name` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,

    /// Hostnames under which this tenant is reached, in lower case and without port. Where two Tenants of a Platform
    /// ask for one hostname, the older one holds it and the other is told so in its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = HOSTNAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,

    /// Plan that the tenant is on: a label in metrics and logs, of which there should be few.
    #[serde(default = "default_plan")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub plan: String,

    /// Refuse every request of this tenant with 403. Its data and its configuration are kept.
    #[serde(default)]
    pub suspended: bool,

    /// What happens to the tenant's data when the Tenant is deleted. `Retain` keeps it, and a Tenant of the same name
    /// finds it again; `Delete` removes it for good.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Refuse to delete this object until the field is set to false.
    #[serde(default)]
    pub deletion_protection: bool,

    /// How the tenant's data is kept apart from other tenants' data.
    #[serde(default)]
    pub isolation: Isolation,

    /// How the API answers this tenant's frontends.
    #[serde(default)]
    pub api: TenantApi,

    /// How the tenant's people prove who they are.
    #[serde(default)]
    pub auth: AuthPolicy,

    /// Which browsers' pages may call the API.
    #[serde(default, skip_serializing_if = "CorsPolicy::is_empty")]
    pub cors: CorsPolicy,

    /// What mails and payment pages show.
    #[serde(default, skip_serializing_if = "Branding::is_empty")]
    pub branding: Branding,

    /// Upper bounds of what the tenant may use; a bound that is left out does not exist.
    #[serde(default, skip_serializing_if = "Quotas::is_empty")]
    pub quotas: Quotas,
}

fn default_plan() -> String {
    "standard".to_owned()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

impl DeletionPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Isolation {
    /// `RowLevelSecurity` shares tables with other tenants, kept apart by PostgreSQL's row security. `Database` gives the
    /// tenant a database of its own. May only be strengthened, from `RowLevelSecurity` to `Database`.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf || self == 'Database'").message("isolation.database can be strengthened from RowLevelSecurity to Database, never weakened").reason(Reason::FieldValueForbidden))]
    pub database: DatabaseIsolation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseIsolation {
    #[default]
    RowLevelSecurity,
    Database,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct TenantApi {
    /// Shape of the answers. `Envelope` is `{success, data, message}`; `Flat` puts the fields at the top and errors as
    /// `{code, message}`; `Legacy` is `{token, user}` and errors as `{error, details}`.
    #[serde(default)]
    pub dialect: Dialect,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Origins such as `https://app.example.com` whose pages may call the API with credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 300), regex(pattern = r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_origins: Vec<String>,
}

impl CorsPolicy {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Branding {
    /// Name of the product in mails; the tenant's display name when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub product_name: Option<String>,

    /// Where links in mails and returns from a payment page lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = URL))]
    pub frontend_url: Option<String>,

    /// Sender of mails, such as `Acme <no-reply@acme.example>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320), regex(pattern = r"^[^\r\n]*[^\s@<>]+@[^\s@<>]+>?$"))]
    pub mail_from: Option<String>,
}

impl Branding {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quotas {
    /// Most users that may be registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub users: Option<u64>,

    /// Most bytes of uploaded files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub storage_bytes: Option<u64>,

    /// Most requests between two midnights, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_day: Option<u64>,
}

impl Quotas {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// What the operator knows about the tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Id of the tenant in the database and in tokens, derived from namespace and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,

    /// Hostnames that the tenant holds, after conflicts were resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,

    /// Where the tenant's data is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<TenantDatabase>,

    /// Which configuration the API serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<LoadedConfig>,

    /// The key that signs access tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SigningKeyInUse>,

    /// RoleBindings in force.
    #[serde(default)]
    pub bindings: u32,

    /// RateLimitPolicies in force.
    #[serde(default)]
    pub policies: u32,

    /// PaymentProviders in force.
    #[serde(default)]
    pub providers: u32,

    /// `Ready`, `Accepted`, `ResolvedRefs`, `DatabaseReady`, `Programmed` and `Suspended`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct TenantDatabase {
    /// Isolation that is in force.
    pub mode: DatabaseIsolation,

    /// Name of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The key that signs now. Those before it go on verifying until their last token has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyInUse {
    /// Secret that holds it.
    pub secret_name: String,

    /// When it began to sign.
    pub since: Time,

    /// What the annotation `tenantry.dev/rotate-signing-key` said when it was last carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
}

/// The proof that an apply has arrived: the revision of the tenant's configuration and how many replicas serve it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadedConfig {
    /// Hash of the configuration.
    pub revision: String,

    /// Replicas that serve this revision.
    pub loaded_replicas: u32,

    /// Replicas that are ready.
    pub ready_replicas: u32,
}

impl Tenant {
    /// A Tenant with one hostname and the defaults of everything else.
    pub fn new_minimal(name: &str, hostname: &str) -> Self {
        Self::new(
            name,
            TenantSpec { hostnames: vec![hostname.to_owned()], plan: default_plan(), ..TenantSpec::default() },
        )
    }

    /// Name for people.
    pub fn display_name(&self) -> &str {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.display_name.as_deref().unwrap_or(name)
    }
}

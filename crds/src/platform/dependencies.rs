//! What a Platform stands on: made by the operator (`managed`) or there already (`external`).

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    refs::{HOSTNAME, SecretRef, URL},
    tenant::DeletionPolicy,
};

/// Pattern of a size that can be compared and grown.
const SIZE: &str = r"^[1-9][0-9]*(Mi|Gi|Ti)$";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.managed) != has(self.external)").message("postgres needs exactly one of managed and external"))]
pub struct Postgres {
    /// Let the operator run it: a CloudNativePG Cluster where that operator is installed, a single StatefulSet elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedPostgres>,

    /// Use a database that is there already. The Secret has the key `uri`, or `host`, `port`, `dbname`, `username` and
    /// `password`; optionally `sslmode`, `ca` (a PEM certificate), and `adminUri`: a role with CREATEDB and CREATEROLE, for
    /// Tenants with `isolation.database: Database`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.managed) != has(self.external)").message("redis needs exactly one of managed and external"))]
pub struct Redis {
    /// Let the operator run it as a StatefulSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedRedis>,

    /// Use a Redis or Valkey that is there already. The Secret has the key `uri`, or `host`, `port` and `password`;
    /// optionally `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Secret that says how to connect.
    pub secret_ref: SecretRef,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedPostgres {
    /// Instances: one primary, the others stand by. More than one needs CloudNativePG.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 9))]
    pub instances: u32,

    /// Disk of each instance.
    pub storage: Storage,

    /// Major version of PostgreSQL.
    #[serde(default = "default_postgres_version")]
    #[schemars(range(min = 15, max = 99))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("postgres.managed.version can be raised, never lowered"))]
    pub version: u32,

    /// CPU and memory of each instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Backups; none are made when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,

    /// What happens to the data, its credentials and its backups when the Platform is deleted. `Retain` keeps them, and a
    /// Platform of the same name finds them again; `Delete` removes them for good.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn one() -> u32 {
    1
}

fn default_postgres_version() -> u32 {
    17
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size, such as `20Gi`. Can be grown, never shrunk.
    #[schemars(length(max = 16), regex(pattern = SIZE))]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message("storage.size can be grown, never shrunk").reason(Reason::FieldValueForbidden))]
    pub size: String,

    /// StorageClass; the cluster's default when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Backup {
    /// When, as a cron expression in UTC such as `0 3 * * *`.
    #[schemars(length(max = 64), regex(pattern = r"^(\S+ ){4}\S+$"))]
    pub schedule: String,

    /// How long backups are kept: a number of days, weeks or months such as `30d`, `8w`, `12m`.
    #[serde(default = "default_retention")]
    #[schemars(length(max = 5), regex(pattern = r"^[1-9][0-9]*[dwm]$"))]
    pub retention: String,

    /// Object store that they are put into, by CloudNativePG. Without CloudNativePG backups are files on a volume of their
    /// own, and the destination is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<BackupDestination>,
}

fn default_retention() -> String {
    "30d".to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupDestination {
    /// Bucket and folder: `s3://<bucket>/<folder>`, `gs://<bucket>/<folder>` or `azure://<account>/<container>/<folder>`.
    #[schemars(length(max = 512), regex(pattern = r"^(s3|gs|azure)://\S+$"))]
    pub path: String,

    /// Address of an object store that is not the cloud's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = URL))]
    pub endpoint: Option<String>,

    /// Secret that opens it. For `s3://` the keys `accessKeyId` and `secretAccessKey`; for `gs://` the key
    /// `applicationCredentials`, the JSON of a service account; for `azure://` the key `connectionString`.
    pub secret_ref: SecretRef,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedRedis {
    /// Disk, so that a restart finds its counters; memory only when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Most memory for data, such as `256Mi`; beyond it the entries that expire soonest go first.
    #[serde(default = "default_max_memory")]
    #[schemars(length(max = 16), regex(pattern = SIZE))]
    pub max_memory: String,

    /// CPU and memory of the pod; its memory is derived from `maxMemory` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

fn default_max_memory() -> String {
    "256Mi".to_owned()
}

/// What became of the annotation `tenantry.dev/rotate-credentials`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// Value of the annotation that was carried out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated: Option<String>,

    /// When it had been carried out: since then the former passwords are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Time>,

    /// What a rotation under way waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotating: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Mail {
    /// Server that takes the mail.
    pub smtp: Smtp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tls) || self.tls != 'None' || !has(self.secretRef)").message("smtp.tls None sends in the clear, and a password is not sent so: leave out secretRef, or use StartTls or Implicit"))]
pub struct Smtp {
    /// Name of the server.
    #[schemars(length(min = 1, max = 253), regex(pattern = HOSTNAME))]
    pub host: String,

    /// Port; 465 speaks TLS from the start, others begin it with STARTTLS.
    #[serde(default = "default_smtp_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,

    /// How the connection is encrypted: `Implicit` from the first byte, `StartTls` (a server that does not offer it gets no mail),
    /// or `None` for a relay beside the pods. By the port when left out: `Implicit` on 465, `StartTls` on any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<SmtpTls>,

    /// Sender of tenants that name none.
    #[schemars(length(max = 320), regex(pattern = r"^[^\r\n]*[^\s@<>]+@[^\s@<>]+>?$"))]
    pub from: String,

    /// Secret with `username` and `password`, and optionally `ca`, the certificates (PEM) that the server's may be signed by
    /// beside those that everybody trusts; nobody signs in when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SmtpTls {
    Implicit,
    StartTls,
    None,
}

impl SmtpTls {
    /// As the API's setting has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::StartTls => "starttls",
            Self::None => "none",
        }
    }
}

fn default_smtp_port() -> u16 {
    587
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebPush {
    /// Secret with the VAPID key pair: `privateKey`, `publicKey` (base64url) and `subject` (a `mailto:` address).
    pub vapid_secret_ref: SecretRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStore {
    /// Address of an S3-compatible store.
    #[schemars(length(max = 512), regex(pattern = URL))]
    pub endpoint: String,

    /// Bucket.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,

    /// Secret with `accessKeyId` and `secretAccessKey`.
    pub secret_ref: SecretRef,
}

impl Postgres {
    /// A database that is there already.
    pub fn external(secret: impl Into<String>) -> Self {
        Self { managed: None, external: Some(External { secret_ref: secret.into().into() }) }
    }
}

impl Redis {
    /// A Redis that is there already.
    pub fn external(secret: impl Into<String>) -> Self {
        Self { managed: None, external: Some(External { secret_ref: secret.into().into() }) }
    }
}

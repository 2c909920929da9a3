//! Platform: one deployment of the API, and what it stands on.

mod dependencies;
mod exposure;
mod rollout;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        autoscaling::v2::HorizontalPodAutoscalerBehavior,
        core::v1::{Affinity, EnvVar, ResourceRequirements, Toleration, TopologySpreadConstraint},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    dependencies::{
        Backup, BackupDestination, CredentialsStatus, External, Mail, ManagedPostgres, ManagedRedis, ObjectStore,
        Postgres, Redis, Smtp, SmtpTls, Storage, WebPush,
    },
    exposure::{Gateway, Ingress, IngressTls, IssuerKind, IssuerRef, ParentRef},
    rollout::{
        Analysis, AnalysisStatus, Color, CommandStatus, Instead, InsteadReason, Metric, MetricStatus, Prometheus,
        Rollout, RolloutPhase, RolloutStatus, RolloutStrategy, Stage, ThresholdRange, Verdict,
    },
};
use crate::refs::{OBJECT_NAME, SecretKeyRef, SecretRef, URL};

/// One deployment of the API, and what it stands on.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "Platform",
    namespaced,
    status = "PlatformStatus",
    doc = "A Platform is one deployment of the API with its PostgreSQL and Redis. The Tenants of its namespace are served by it.",
    derive = "PartialEq",
    shortname = "tplat",
    category = "tenantry",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Tenants", type_ = "integer", json_path = ".status.tenants"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "URL", type_ = "string", priority = 1, json_path = ".status.url"),
    printcolumn(name = "Color", type_ = "string", priority = 1, json_path = ".status.activeColor"),
    printcolumn(name = "Active", type_ = "string", priority = 1, json_path = ".status.activeRevision"),
    printcolumn(name = "Preview", type_ = "string", priority = 1, json_path = ".status.previewRevision"),
    printcolumn(name = "Message", type_ = "string", priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message"),
    validation = Rule::new("self.metadata.name.size() <= 36 || !(has(self.spec.postgres.managed) || has(self.spec.redis.managed))")
        .message("metadata.name must be at most 36 characters long where postgres or redis is managed, because StatefulSets and CronJobs are named after it"),
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z][-a-z0-9]*$')")
        .message("metadata.name must be at most 50 characters long, begin with a letter and have no dot, because Services are named after it"),
    cel
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.ingress) && has(self.gateway))").message("at most one of ingress and gateway can be given"))]
pub struct PlatformSpec {
    /// Image of the API; the one that came with the operator when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,

    /// Secrets of type `kubernetes.io/dockerconfigjson` to pull images with: the API's, and those of managed PostgreSQL and
    /// Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretRef>,

    /// Pods of the API. Leave it out of what you apply while autoscaling is on: the autoscaler then writes it, and each
    /// apply that names a number takes it back to that. 0 stops the API, and the autoscaler with it.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: u32,

    /// Let load decide the number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// CPU and memory of each pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels of the nodes that pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,

    /// Which nodes pods prefer or need, beside or away from which other pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// PriorityClass of the pods: what has less of it makes room when nodes are full.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub priority_class_name: Option<String>,

    /// How pods are spread over nodes and zones; evenly over both where possible when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// Annotations to add to each pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_annotations: BTreeMap<String, String>,

    /// Environment variables to add to the API's container. They cannot replace those that the operator sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub extra_env: Vec<EnvVar>,

    /// How requests are understood.
    #[serde(default)]
    pub api: PlatformApi,

    /// The database. Exactly one of `managed` and `external`.
    pub postgres: Postgres,

    /// Counters, cache and fan-out; nothing that may not be lost. Exactly one of `managed` and `external`.
    pub redis: Redis,

    /// Make the API reachable through an Ingress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,

    /// Make the API reachable through an HTTPRoute of the Gateway API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,

    /// How a new version takes over.
    #[serde(default)]
    pub rollout: Rollout,

    /// Hold rollouts where they are. Tenants' configuration goes on being served and changed.
    #[serde(default)]
    pub paused: bool,

    /// Refuse to delete this object until the field is set to false.
    #[serde(default)]
    pub deletion_protection: bool,

    /// Logs, traces, metrics.
    #[serde(default)]
    pub observability: Observability,

    /// How mail is sent. When left out none is, and what needs a mail (a forgotten password, the verification of an address)
    /// says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,

    /// Notifications to browsers; none when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_push: Option<WebPush>,

    /// Where uploaded files are kept; none can be uploaded when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStore>,
}

fn default_replicas() -> u32 {
    2
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tag) != has(self.digest)").message("image needs exactly one of tag and digest"))]
pub struct Image {
    /// Registry and repository, such as `ghcr.io/tenantry/tenantry-api`.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$"))]
    pub repository: String,

    /// Tag, such as `0.1.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub tag: Option<String>,

    /// Digest, such as `sha256:…`; what runs is then certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[a-f0-9]{64}$"))]
    pub digest: Option<String>,

    /// When the image is pulled: `IfNotPresent`, `Always` or `Never`.
    #[serde(default)]
    pub pull_policy: PullPolicy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    #[default]
    IfNotPresent,
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("autoscaling.minReplicas must not be greater than autoscaling.maxReplicas"))]
#[x_kube(validation = Rule::new("self.engine != 'Keda' || !has(self.targetRequestsInFlightPerPod) || has(self.prometheus)").message("autoscaling.targetRequestsInFlightPerPod with engine Keda needs autoscaling.prometheus.address, where KEDA asks for the number"))]
#[x_kube(validation = Rule::new("has(self.targetCPUUtilizationPercentage) || has(self.targetRequestsInFlightPerPod)").message("autoscaling needs a target: targetCPUUtilizationPercentage, targetRequestsInFlightPerPod or both"))]
pub struct Autoscaling {
    /// Whether load decides the number of pods.
    #[serde(default = "default_true")]
    pub enabled: bool,

    /// Who does it: `HorizontalPodAutoscaler` of Kubernetes, or `Keda` by a ScaledObject where KEDA is installed.
    #[serde(default)]
    pub engine: AutoscalingEngine,

    /// Least pods.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: u32,

    /// Most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u32,

    /// CPU use to aim at, in percent of what the pods request in `resources.requests.cpu`; needs metrics-server.
    #[serde(rename = "targetCPUUtilizationPercentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: Option<u32>,

    /// Requests in flight to aim at in each pod. A HorizontalPodAutoscaler needs a metrics adapter that serves
    /// `tenantry_http_requests_in_flight` of pods; KEDA asks Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub target_requests_in_flight_per_pod: Option<u32>,

    /// Prometheus that KEDA asks for the requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,

    /// How fast the number of pods may change, as in a HorizontalPodAutoscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

fn default_true() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoscalingEngine {
    #[default]
    HorizontalPodAutoscaler,
    Keda,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformApi {
    /// Whether the header `X-Tenant` may name the tenant in place of the hostname: `Allowed` or `Refused`. Allow it only
    /// where everyone who can reach the API may choose among tenants.
    #[serde(default)]
    pub tenant_header: TenantHeader,

    /// Address ranges of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 43)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(range, isCIDR(range))").message("trustedProxies must be address ranges such as 10.0.0.0/8"))]
    pub trusted_proxies: Vec<String>,

    /// How long a pod that was told to stop goes on taking requests, in seconds, while load balancers take notice that it
    /// is not ready any more. What is in flight then has 75 seconds more.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 0, max = 600))]
    pub drain_seconds: u32,
}

fn default_drain_seconds() -> u32 {
    5
}

impl Default for PlatformApi {
    fn default() -> Self {
        Self {
            tenant_header: TenantHeader::default(),
            trusted_proxies: Vec::new(),
            drain_seconds: default_drain_seconds(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TenantHeader {
    Allowed,
    #[default]
    Refused,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observability {
    /// Least severity that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(default)]
    pub log_level: LogLevel,

    /// `json` for machines, `text` for people.
    #[serde(default)]
    pub log_format: LogFormat,

    /// Where traces are sent by OTLP over HTTP; nowhere when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = URL))]
    pub otlp_endpoint: Option<String>,

    /// Key of a Secret that holds a Sentry DSN; errors are then reported there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentry_dsn_secret_ref: Option<SecretKeyRef>,

    /// Have the Prometheus operator scrape the pods. A PodMonitor is made, so that both colours are seen; each series
    /// carries the labels `platform`, `color` and `release`.
    #[serde(default)]
    pub service_monitor: bool,

    /// Labels by which your Prometheus selects that monitor, such as `release: kube-prometheus-stack`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub service_monitor_labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Json,
    Text,
}

/// What the operator knows about the platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformStatus {
    /// `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Colour that takes requests: `blue` or `green`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_color: Option<Color>,

    /// Release that takes requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_revision: Option<String>,

    /// Release that is being tried, beside the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_revision: Option<String>,

    /// Last release that was rolled out to the end; what a failure goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,

    /// Where the rollout is, and what it will go on with after a restart of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// Pods that take requests, of the active colour only.
    #[serde(default)]
    pub replicas: u32,

    /// Label selector of those pods, for the autoscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// Tenants that it serves.
    #[serde(default)]
    pub tenants: u32,

    /// Where the API is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// Rotation of the passwords of managed PostgreSQL and Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,

    /// `Ready`, `Available`, `Progressing`, `Paused`, `PostgresReady`, `RedisReady`, `Routed` and `Degraded`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Platform {
    /// A Platform on services that exist already, with the defaults of everything else.
    pub fn new_minimal(name: &str, postgres_secret: &str, redis_secret: &str) -> Self {
        Self::new(
            name,
            PlatformSpec {
                image: None,
                image_pull_secrets: Vec::new(),
                replicas: default_replicas(),
                autoscaling: None,
                resources: None,
                node_selector: BTreeMap::new(),
                tolerations: Vec::new(),
                affinity: None,
                priority_class_name: None,
                topology_spread_constraints: Vec::new(),
                pod_annotations: BTreeMap::new(),
                extra_env: Vec::new(),
                api: PlatformApi::default(),
                postgres: Postgres::external(postgres_secret),
                redis: Redis::external(redis_secret),
                ingress: None,
                gateway: None,
                rollout: Rollout::default(),
                paused: false,
                deletion_protection: false,
                observability: Observability::default(),
                mail: None,
                web_push: None,
                object_store: None,
            },
        )
    }
}

impl Image {
    /// The reference as a container runtime reads it.
    pub fn reference(&self) -> String {
        let Self { repository, tag, digest, .. } = self;
        match (digest, tag) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, Some(tag)) => format!("{repository}:{tag}"),
            (None, None) => repository.clone(),
        }
    }
}

impl PullPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

impl TenantHeader {
    /// The value of `TENANTRY_TENANT_HEADER`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
        }
    }
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

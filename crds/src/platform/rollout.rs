//! How a new version of the API takes over, and what is known about it while it does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::URL;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.analysis) || self.strategy == 'BlueGreen'").message("rollout.analysis needs strategy BlueGreen: a rolling update has nothing to compare").field_path(".analysis"))]
pub struct Rollout {
    /// `RollingUpdate` replaces pods one after the other. `BlueGreen` starts the new version beside the old one and
    /// switches over when it is ready and the analysis passes.
    #[serde(default)]
    pub strategy: RolloutStrategy,

    /// Switch over without being asked. When false, `kubectl annotate platform <name> tenantry.dev/rollout=promote` is
    /// what switches over.
    #[serde(default = "default_true")]
    pub auto_promotion_enabled: bool,

    /// How long the new version is ready beside the old one before it takes over by itself, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub auto_promotion_seconds: Option<u32>,

    /// How long the old version stays after the switch, in seconds, so that going back is immediate.
    #[serde(default = "default_scale_down_delay_seconds")]
    #[schemars(range(min = 0, max = 86_400))]
    pub scale_down_delay_seconds: u32,

    /// After this many seconds without progress the rollout has failed and is taken back. Migrations are not counted.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 30, max = 86_400))]
    pub progress_deadline_seconds: u32,

    /// Pods of the new version before the switch; as many as the old one has when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub preview_replicas: Option<u32>,

    /// Releases that are kept besides those that run, so that `undo` can bring them back with their settings.
    #[serde(default = "default_revision_history_limit")]
    #[schemars(range(min = 0, max = 20))]
    pub revision_history_limit: u32,

    /// What Prometheus must say for the switch to happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

fn default_revision_history_limit() -> u32 {
    5
}

fn default_true() -> bool {
    true
}

fn default_scale_down_delay_seconds() -> u32 {
    30
}

fn default_progress_deadline_seconds() -> u32 {
    600
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            auto_promotion_enabled: true,
            auto_promotion_seconds: None,
            scale_down_delay_seconds: default_scale_down_delay_seconds(),
            progress_deadline_seconds: default_progress_deadline_seconds(),
            preview_replicas: None,
            revision_history_limit: default_revision_history_limit(),
            analysis: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    BlueGreen,
    #[default]
    RollingUpdate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Who is asked.
    pub prometheus: Prometheus,

    /// Seconds between two measurements.
    #[serde(default = "default_interval_seconds")]
    #[schemars(range(min = 5, max = 3600))]
    pub interval_seconds: u32,

    /// Measurements of each metric that must have an answer before the switch.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,

    /// Measurements of each metric that may be outside of its range.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub failure_limit: u32,

    /// What is measured. A query without one number as its answer is neither good nor bad: it is asked again, and never
    /// lets the switch happen.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub metrics: Vec<Metric>,
}

fn default_interval_seconds() -> u32 {
    30
}

fn default_count() -> u32 {
    5
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Prometheus {
    /// Address, such as `http://prometheus.monitoring:9090`.
    #[schemars(length(max = 512), regex(pattern = URL))]
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Name for messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// PromQL with one number as its answer. `{{revision}}` and `{{color}}` stand for the release and the colour that
    /// are tried (labels `tenantry.dev/release` and `tenantry.dev/color` of the pods), `{{namespace}}` and `{{platform}}`
    /// for this Platform.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,

    /// Numbers that are well.
    pub threshold_range: ThresholdRange,

    /// When it is measured: `BeforePromotion` decides about the switch, `AfterPromotion` may switch back while the old
    /// colour is still there (`scaleDownDelaySeconds`), `Both` does both.
    #[serde(default)]
    pub stage: Stage,
}

/// When a metric is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    BeforePromotion,
    AfterPromotion,
    #[default]
    Both,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.min) || has(self.max)").message("thresholdRange needs min, max or both"))]
#[x_kube(validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max").message("thresholdRange.min must not be greater than thresholdRange.max"))]
pub struct ThresholdRange {
    /// Least number that is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,

    /// Greatest number that is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Blue,
    Green,
}

impl Color {
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The word in names and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// The colour of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|color| color.as_str() == word)
    }
}

/// Where a rollout is. The operator goes on from here after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// `Idle`, `Migrating`, `Starting`, `Analyzing`, `AwaitingPromotion`, `Promoting`, `Promoted` (the old colour is
    /// still there), `Aborted`, `RolledBack` or `Undone`.
    #[serde(default)]
    pub phase: RolloutPhase,

    /// What is waited for, or why it was taken back.
    #[serde(default)]
    pub message: String,

    /// Release that the spec asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_revision: Option<String>,

    /// Release that was aborted or rolled back; it is not tried again until the spec asks for another, or `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted_revision: Option<String>,

    /// What runs instead of what is declared, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<Instead>,

    /// Release whose promotion a person asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_revision: Option<String>,

    /// When the try of the preview release began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_time: Option<Time>,

    /// When it last got on; `progressDeadlineSeconds` counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progressed_time: Option<Time>,

    /// How far it got on.
    #[serde(default)]
    pub progress: u32,

    /// Since when all replicas of the preview release are ready; `autoPromotionSeconds` counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_time: Option<Time>,

    /// When the active Service was switched last, while the other colour is still there; `scaleDownDelaySeconds` counts
    /// from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched_time: Option<Time>,

    /// Since when the rollout is held by `spec.paused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_time: Option<Time>,

    /// Releases that were rolled out to the end, newest first.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[schemars(length(max = 32))]
    pub history: Vec<String>,

    /// What was measured so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStatus>,

    /// The last command of the annotation `tenantry.dev/rollout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandStatus>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// What is declared runs, and nothing is under way.
    #[default]
    Idle,
    Migrating,
    Starting,
    Analyzing,
    AwaitingPromotion,
    Promoting,
    Promoted,
    Aborted,
    RolledBack,
    Undone,
}

impl RolloutPhase {
    /// The word, which is also the reason of conditions and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Migrating => "Migrating",
            Self::Starting => "Starting",
            Self::Analyzing => "Analyzing",
            Self::AwaitingPromotion => "AwaitingPromotion",
            Self::Promoting => "Promoting",
            Self::Promoted => "Promoted",
            Self::Aborted => "Aborted",
            Self::RolledBack => "RolledBack",
            Self::Undone => "Undone",
        }
    }
}

/// A release that runs instead of the declared one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instead {
    /// Release that was declared when it came to this; another one ends it.
    pub declared_revision: String,

    /// Release that runs instead.
    pub revision: String,

    /// `Aborted` or `Undone` by a person, or `RolledBack` by itself.
    pub reason: InsteadReason,

    /// What happened.
    pub message: String,

    /// When.
    pub time: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum InsteadReason {
    Aborted,
    RolledBack,
    Undone,
}

/// Measurements of one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    /// Release that is measured.
    pub revision: String,

    /// Whether it takes the requests already.
    #[serde(default)]
    pub promoted: bool,

    /// What each metric said; nothing where none belongs to this stage.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub metrics: Vec<MetricStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricStatus {
    /// Name of the metric.
    pub name: String,

    /// Last answer, if it was one number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// Verdict on the last answer: `Pass`, `Fail` or `Inconclusive`.
    pub verdict: Verdict,

    /// The verdict in words, with the number and the range.
    #[serde(default)]
    pub message: String,

    /// Answers within the range.
    #[serde(default)]
    pub passed: u32,

    /// Answers outside of it.
    #[serde(default)]
    pub failed: u32,

    /// Inconclusive answers in a row, up to now.
    #[serde(default)]
    pub inconclusive: u32,

    /// When it was measured last.
    pub measured_time: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    Pass,
    Fail,
    Inconclusive,
}

/// A command and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandStatus {
    /// Value of the annotation.
    pub value: String,

    /// What was done, or why nothing was.
    #[serde(default)]
    pub message: String,

    /// Whether it was refused: nothing was done.
    #[serde(default)]
    pub refused: bool,

    /// When.
    pub time: Time,

    /// Whether the annotation has still to be removed; it is not carried out again.
    #[serde(default)]
    pub pending_removal: bool,
}

//! How a new version of the API takes over.

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

    /// Switch over without being asked.
    #[serde(default = "default_true")]
    pub auto_promotion_enabled: bool,

    /// Wait this long before switching over, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub auto_promotion_seconds: Option<u32>,

    /// How long the old version stays after the switch, in seconds, so that going back is immediate.
    #[serde(default = "default_scale_down_delay_seconds")]
    #[schemars(range(min = 0, max = 86_400))]
    pub scale_down_delay_seconds: u32,

    /// After this many seconds without progress the rollout has failed and is taken back.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 30, max = 86_400))]
    pub progress_deadline_seconds: u32,

    /// Pods of the new version before the switch; as many as the old one has when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub preview_replicas: Option<u32>,

    /// What Prometheus must say for the switch to happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
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

    /// Measurements that are made.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,

    /// Measurements that may fail.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub failure_limit: u32,

    /// What is measured. A query without an answer is neither good nor bad, and never lets the switch happen.
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

    /// PromQL with one number as its answer; `{{revision}}` stands for the new revision.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,

    /// Numbers that are well.
    pub threshold_range: ThresholdRange,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Blue,
    Green,
}

//! What the machine is told: what is wished, what is observed, and what was recorded before.

use crds::platform::{Color, Rollout, RolloutStatus};
use jiff::Timestamp;

use super::super::analysis::Measured;

/// What the decision is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// In whole seconds, as times are recorded.
    pub now: Timestamp,
    pub rollout: Rollout,
    /// Pods that are wished for.
    pub replicas: u32,
    pub paused: bool,
    /// The release that the spec asks for; `None` while it cannot be made.
    pub declared: Option<String>,
    /// How far the migration of the declared release is.
    pub migration: Migration,
    /// The colour that the active Service selects.
    pub selected: Option<Color>,
    /// Whether the Deployment of version 0.1.0, which knew no colours, is there.
    pub uncolored: bool,
    pub blue: Option<Pods>,
    pub green: Option<Pods>,
    /// Releases that are kept.
    pub kept: Vec<String>,
    /// The value of the annotation.
    pub command: Option<String>,
    pub measured: Vec<Measured>,
    pub record: Record,
}

/// One colour's Deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pods {
    pub release: String,
    pub wanted: u32,
    /// Pods of this release that are available; 0 while the numbers are about an older template.
    pub ready: u32,
    /// Pods that are available, of whatever template.
    pub available: u32,
    /// Whether all pods are of this release and the numbers are about it.
    pub only: bool,
    /// Ready pods that serve the newest configuration of every tenant.
    pub holding: u32,
    /// Which replica lacks which tenant's revision.
    pub lacking: Option<String>,
    pub trouble: Option<Trouble>,
}

/// What keeps pods from becoming ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// It does not pass by itself.
    pub fatal: bool,
    /// When the pod was made: one that is left over from an earlier try says nothing about this one.
    pub since: Timestamp,
    /// The container's waiting reason and the pod's name.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Migration {
    #[default]
    NotStarted,
    Running {
        job: String,
    },
    Failed {
        job: String,
        message: String,
    },
    Done,
}

/// What has to survive a restart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    pub active: Option<Color>,
    /// The release that is being tried.
    pub preview: Option<String>,
    pub stable: Option<String>,
    pub rollout: RolloutStatus,
}

impl Pods {
    /// Everything that is wanted is ready, and nothing else is there.
    pub fn full(&self) -> bool {
        self.only && self.ready >= self.wanted
    }

    pub(super) fn holds(&self, size: u32) -> bool {
        self.full() && self.wanted >= size && self.holding >= self.wanted
    }

    /// Why it is not ready, in words.
    pub(super) fn why_not(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.message.clone();
        }
        if self.full()
            && let Some(lacking) = &self.lacking
        {
            return lacking.clone();
        }
        format!("{} of {} replicas are ready", self.ready, self.wanted)
    }
}

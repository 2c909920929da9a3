//! What the metrics are told apart by. Of low cardinality: an object is named only while something is the matter with it.

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Failure {
    pub(super) kind: String,
    pub(super) reason: String,
}

/// One object, in metrics only while it is being worked on: few at any time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    pub(super) verb: String,
    pub(super) resource: String,
    pub(super) code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct Unready {
    pub(super) kind: String,
    pub(super) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct Verdict {
    pub(super) kind: String,
    pub(super) condition: String,
    pub(super) status: String,
}

/// A Platform is named where a Tenant is only counted: there are few, and an alert should say which.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PlatformVerdict {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) condition: String,
    pub(super) status: String,
    pub(super) reason: String,
}

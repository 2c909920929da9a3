//! What can go wrong in a reconcile, and when it is worth trying again.

use std::time::Duration;

use crate::kube_ext::is_not_served;

/// When an object that could not be reconciled is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Only a change of the object, or of something it refers to, can help.
    AwaitChange,
    /// A passing state (a conflict, a time-out): again at once, then slower and slower.
    Soon,
    /// Something outside that nobody tells us about has to change: again after a while, then slower and slower.
    Later,
}

impl Retry {
    /// First delay and longest delay.
    const fn bounds(self) -> Option<(Duration, Duration)> {
        match self {
            Self::AwaitChange => None,
            Self::Soon => Some((Duration::from_millis(200), Duration::from_mins(1))),
            Self::Later => Some((Duration::from_secs(5), Duration::from_mins(5))),
        }
    }

    /// Delay after this many failures in a row: doubled each time up to the longest, of which `jitter` (0 to 1) takes
    /// away up to a half so that objects that failed together do not come back together. `None`: wait for a change.
    #[must_use]
    pub fn delay(self, failures: u32, jitter: f64) -> Option<Duration> {
        let (first, longest) = self.bounds()?;
        let full = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
        Some(full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0))
    }
}

/// Why a reconcile ended without its work done. The message reads alone; it never holds Secret material.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or did not answer.
    #[error("could not {doing}: {}", brief(.source))]
    Kube { doing: String, source: Box<kube::Error> },

    /// The object, or what it refers to, is not acceptable; the object's conditions say so too.
    #[error("{message}")]
    Invalid { reason: &'static str, message: String },

    /// Something that this object needs is not there yet and nothing will announce it.
    #[error("{message}")]
    Waiting { reason: &'static str, message: String },
}

/// The words for what the API server says, or does not say.
pub const API_SERVER_REASONS: [&str; 6] =
    ["Conflict", "Forbidden", "Refused", "NotFound", "ApiServerError", "ApiServerUnreachable"];

impl ReconcileError {
    pub fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { reason, message: message.into() }
    }

    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Waiting { reason, message: message.into() }
    }

    /// When to look again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Invalid { .. } => Retry::AwaitChange,
            Self::Waiting { .. } => Retry::Later,
            // Forbidden: the operator lacks a right; someone has to grant it. Invalid: our own object is refused by a
            // newer schema or a policy. Both are cured from outside, without an event for us.
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.is_forbidden() || status.is_invalid() => Retry::Later,
                _ => Retry::Soon,
            },
        }
    }

    /// Whether the API server refused what was asked for: a policy, a quota, a right, a value that it does not take.
    pub fn is_refusal(&self) -> bool {
        let Self::Kube { source, .. } = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if status.is_forbidden() || status.is_invalid())
    }

    /// A word for metrics and events.
    pub fn reason(&self) -> &'static str {
        let [conflict, forbidden, refused, not_found, error, unreachable] = API_SERVER_REASONS;
        match self {
            Self::Invalid { reason, .. } | Self::Waiting { reason, .. } => reason,
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.is_conflict() => conflict,
                kube::Error::Api(status) if status.is_forbidden() => forbidden,
                kube::Error::Api(status) if status.is_invalid() => refused,
                kube::Error::Api(status) if is_not_served(status) => not_found,
                kube::Error::Api(_) => error,
                _ => unreachable,
            },
        }
    }
}

/// The API server's own sentence where there is one; kube's `Display` repeats the whole `Status` in `Debug`.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Says what was being done when a request failed.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, ReconcileError>;
}

impl<T> Doing<T> for kube::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, ReconcileError> {
        self.map_err(|source| ReconcileError::Kube { doing: what(), source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(reason: &str, code: u16) -> ReconcileError {
        let source = Box::new(kube::Error::Api(Status::failure("no", reason).with_code(code).boxed()));
        ReconcileError::Kube { doing: "apply ConfigMap a/b".into(), source }
    }

    #[test]
    fn delays_double_up_to_the_longest_and_jitter_only_shortens() {
        let delays: Vec<_> = (1..=4).filter_map(|n| Retry::Soon.delay(n, 0.0)).map(|d| d.as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600]);
        assert_eq!(Retry::Soon.delay(1000, 0.0), Some(Duration::from_mins(1)));
        assert_eq!(Retry::Later.delay(1, 1.0), Some(Duration::from_millis(2500)));
        assert_eq!(Retry::AwaitChange.delay(1, 0.0), None);
    }

    #[test]
    fn only_what_can_pass_by_itself_is_tried_again_at_once() {
        assert_eq!(refused("Conflict", 409).retry(), Retry::Soon);
        assert_eq!(refused("Forbidden", 403).retry(), Retry::Later);
        assert_eq!(refused("Invalid", 422).retry(), Retry::Later);
        assert_eq!(ReconcileError::invalid("Conflicted", "taken").retry(), Retry::AwaitChange);
    }

    #[test]
    fn the_message_says_what_was_done_and_what_the_server_answered() {
        assert_eq!(refused("Forbidden", 403).to_string(), "could not apply ConfigMap a/b: no");
        assert_eq!(refused("Forbidden", 403).reason(), "Forbidden");
    }
}

//! The one place that asks the system for the time.

use std::time::Instant;

use jiff::Timestamp;

/// The hour as the API server has it: the machine's, and in a runtime whose time is virtual as far ahead of it as that
/// time was advanced.
#[expect(clippy::disallowed_methods, reason = "this is the clock: objects carry the wall time of their creation")]
pub fn now() -> Timestamp {
    let advanced = tokio::time::Instant::now().into_std().saturating_duration_since(Instant::now());
    Timestamp::now().saturating_add(advanced).unwrap_or(Timestamp::MAX)
}

/// RFC 3339 in whole seconds, as every `metav1.Time` is written.
pub fn stamp() -> String {
    now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

//! The one place that asks the system for the time.

use jiff::Timestamp;

#[expect(clippy::disallowed_methods, reason = "this is the clock: objects carry the wall time of their creation")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// RFC 3339 in whole seconds, as every `metav1.Time` is written.
pub fn stamp() -> String {
    now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

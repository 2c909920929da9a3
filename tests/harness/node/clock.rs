//! The one place of the harness that asks the system for the time.

use jiff::Timestamp;

#[expect(clippy::disallowed_methods, reason = "this is the harness's clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// In whole seconds, as Kubernetes writes times: what is read back equals what was written.
pub fn seconds() -> Timestamp {
    Timestamp::from_second(now().as_second()).unwrap_or_default()
}

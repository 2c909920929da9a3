//! Numbers about the operator's own work.

/// Handles to every metric of the process.
#[derive(Debug, Clone, Default)]
pub struct Metrics {}

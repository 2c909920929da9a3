//! What the process is told while it runs: the tenants it serves, each swapped whole.
//!
//! A source ([`source_kube`], [`source_dir`]) hands over documents; [`snapshot`] compiles one into what requests need;
//! [`Tenants`] finds it by host or name. A document that does not compile changes nothing: the last good one goes on
//! serving, and the refusal is counted, logged and told on the management port.

pub mod cache;
mod keeper;
pub mod keys;
pub mod snapshot;
pub mod source_dir;
pub mod source_kube;
mod tenants;
#[cfg(test)]
mod tests;

pub use snapshot::TenantSnapshot;
pub use tenants::{Changes, Found, Rejected, Report, Tenants};

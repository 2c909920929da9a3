//! What a tenant is, right now: the one page that the operator and the API agree on.
//!
//! The operator renders custom resources into a [`TenantConfig`], seals its credentials ([`seal`]) and writes it with
//! [`codec::encode`]; the API reads it with [`codec::decode`] and serves from it. Plain serde words: no Kubernetes type
//! and no HTTP type may enter here, so that neither side can lean on the other's machinery.
//!
//! A document is read by the version before and the version after the one that wrote it: fields are only added, each
//! with a default, and an unknown field is ignored.

pub mod access;
pub mod auth;
pub mod codec;
#[cfg(feature = "conditions")]
pub mod condition;
pub mod expression;
pub mod ids;
pub mod limits;
pub mod names;
pub mod payments;
pub mod seal;
pub mod secret;
pub mod tenant;
pub mod version;

pub use ids::{Currency, Hostname, Revision, RoleName, TenantId, TenantName};
pub use secret::Secret;
pub use tenant::TenantConfig;

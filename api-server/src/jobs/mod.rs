//! Work that is done once and apart from serving: `tenantry-api job <name>`, which the operator runs in a Kubernetes Job.
//! Every job may be run again after it was interrupted.

pub mod login;
pub mod purge_tenant;
pub mod redis_users;
pub mod settings;

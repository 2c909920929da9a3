//! The stateless HTTP API of a Tenantry platform.
//!
//! | where | what |
//! |---|---|
//! | [`router`] | every route on one page |
//! | [`middleware`] | what a request passes, in order, with the reasons |
//! | [`extract`] | what a handler may ask for: the tenant, the user, a permission, a checked body |
//! | [`features`] | the rooms, all of one shape |
//! | [`tenancy`] | the tenants: documents in, snapshots out, swapped while running |
//! | [`infra`] | PostgreSQL with a tenant or not at all, Redis, the clock |
//! | [`serve`] | start, readiness, drain |
//! | [`jobs`] | work that is done once, apart from serving |
#![doc = include_str!("../README.md")]

pub mod app;
pub mod condition;
pub mod error;
pub mod extract;
pub mod features;
pub mod infra;
pub mod jobs;
pub mod limits;
pub mod management;
pub mod metrics;
pub mod middleware;
pub mod openapi;
#[cfg(test)]
mod outages;
pub mod reply;
pub mod router;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod tenancy;
#[cfg(test)]
mod testing;

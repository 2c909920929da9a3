//! The operator: turns custom resources into the configuration that the API serves, and proves that it does.
//!
//! | kind | reconciled by | looked at again when |
//! |---|---|---|
//! | `Platform` | `platform` | its workload, its Secrets, its Tenants or its pods change |
//! | `Tenant` | `tenant` | its bindings, providers, policies, Secrets, document, Platform or the API's pods change |
//! | `RoleBinding`, `PaymentProvider`, `RateLimitPolicy` | the room of that name | itself, its Tenant or what it refers to changes |
//!
//! Every kind's status has one author: its own reconciler. Rendered configuration has one author too: `tenant`.
//! What watches what is written on one page, `controllers`.

pub mod cli;
pub mod clock;
pub mod context;
pub mod error;
pub mod events;
pub mod kube_ext;
pub mod leader;
pub mod metrics;
pub mod replicas;
pub mod stores;

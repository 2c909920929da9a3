//! How the service is: `/health` for people and load balancers, readiness for the orchestrator, figures for dashboards.

mod figures;
mod http;
mod process;
mod service;

pub use http::{at_root, router};
pub use service::{Health, Standing};

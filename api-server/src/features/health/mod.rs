//! How the service is: `/health` for people and load balancers, readiness for the orchestrator, figures for dashboards.

mod http;
mod service;

pub use http::router;
pub use service::{Health, Standing};

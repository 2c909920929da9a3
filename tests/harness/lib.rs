//! A whole platform in the hands of one test, and of `cargo dev up`.
//!
//! [`Platform`] owns everything that it starts and takes it down again: a database, a Redis, a Kubernetes API, the real
//! operator, the pods (by a small local [`node`]), an [`ingress`] in front of them and a fake payment [`provider`]. Every
//! world has its own folder, ports and namespace, so any number of them run side by side.
//!
//! For each service the order is the same: what an environment variable names is borrowed, else a local binary is started
//! privately, else the error says which package is missing. What ran is always printed.

pub mod actors;
pub mod binaries;
pub mod control_plane;
pub mod ingress;
pub mod kubectl;
pub mod load;
pub mod node;
pub mod node_js;
pub mod objects;
pub mod operator;
pub mod platform;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod provider;
pub mod python;
pub mod redis;
pub mod rights;
pub mod rollout;
pub mod scale;
pub mod smtp;
pub mod wait;
pub mod workdir;

pub use actors::{Tenant, User};
pub use kubectl::Kubectl;
pub use load::Load;
pub use platform::Platform;

//! The whole operator against an API server, without pods: a test plays the kubelet where it has to.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures,
    reason = "tests may panic, and their futures are not many"
)]

mod around;
#[path = "../common/mod.rs"]
mod common;
mod documents;
mod leadership;
mod managed;
mod platform;
mod rollout;
mod world;

//! The operator in this process against the stand-in control plane: what it does when a Tenant and what is attached to it
//! appear, change, break and go, and when it is itself interrupted. The tests wait for conditions of objects and never
//! for a time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod attached;
#[path = "../common/mod.rs"]
mod common;
mod life;
mod world;

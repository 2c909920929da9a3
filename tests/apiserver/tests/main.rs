//! The stand-in's behaviour, pinned from the Kubernetes documentation: each module cites the page it was written from. The
//! same requests against a real API server get the same answers; where this one is ever kinder, a test is missing here.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]
#![expect(clippy::needless_pass_by_value, reason = "bodies are written where they are sent")]

mod access;
mod admission;
mod kubectl;
mod lifecycle;
mod ownership;
mod persistence;
mod pods;
mod reflector;
mod refusals;
mod schemas;
mod watches;
mod world;
mod writes;

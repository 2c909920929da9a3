//! Journeys: what people come for, from `kubectl apply` to an answered request, with every part real.
//!
//! Each runs in a world of its own ([`harness::Platform`]), on whatever Kubernetes API the harness finds, and waits on
//! conditions only.

mod access;
mod autoscaling;
mod clients;
mod drain;
mod hot_reload;
mod isolation;
mod mail;
mod managed;
mod outage;
mod payments;
mod pipeline;
mod plugin;
mod quick_start;
mod refusals;
mod rollout;
mod scale;
mod wishes;

//! The machine against a world that does its worst: every reachable state × what pods do × what Prometheus answers ×
//! what people declare and command × a crash of the operator before, between and after the steps.

mod explored;
mod stories;
mod world;

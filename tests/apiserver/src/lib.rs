//! A stand-in for a Kubernetes API server: one process, everything in memory (and, with a data directory, on disk), good
//! enough that this machine's `kubectl` and kube-rs cannot tell. It is for tests and `cargo dev up` and never ships.
//!
//! | room | what it holds |
//! |---|---|
//! | [`http`] | the wire: routing, discovery, OpenAPI, reads, watches, writes, tables |
//! | `api` | the life of an object: create, update, patch, apply, delete – one pipeline for every kind |
//! | `store` | objects, the one revision counter, bounded history, change notice, the log on disk |
//! | `registry`, `builtin`, `crd` | which kinds there are: the built-in table with its defaults and rules, and the CustomResourceDefinitions |
//! | `schema` | structural schemas: defaults, pruning, validation, CEL; for CRDs and built-in kinds alike |
//! | `access`, `audit` | tokens, RBAC, impersonation, reviews; who asked for what |
//! | `patch` | JSON patch, merge patch, strategic merge patch, server-side apply with field ownership |
//! | `gc` | what happens later: owners, finalizers of deletion, namespaces, CRDs |
//!
//! The rule of the house: never kinder than the real one. What the real API server refuses is refused here, with its words.

mod access;
mod admission;
mod api;
mod audit;
mod builtin;
mod certificate;
mod clock;
mod convert;
mod crd;
mod gc;
pub mod http;
mod metadata;
mod object;
mod options;
mod patch;
mod registry;
mod schema;
mod selectors;
mod server;
mod status;
mod store;

pub use audit::Record;
pub use clock::now;
pub use options::Options;
pub use server::{Handle, Server};

//! Ways back into an account, and proofs of an address: what a link or a code from a mail is good for.
//!
//! - A link holds 32 random bytes, of which the SHA-256 is kept. It is good for one thing, once, for a while, and until the
//!   next one for the same thing is asked for.
//! - Who asks by an address alone gets the same answer after the same work, whether there is such an account or not:
//!   the request is written down, and looked into when its mail is about to be sent ([`Recovery::grant`]).
//! - An account changes its address when both the old and the new one have said yes.

mod http;
mod model;
mod repo;
mod service;
#[cfg(test)]
mod tests;

pub use self::{http::router, repo::clear, service::Recovery};

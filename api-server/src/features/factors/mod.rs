//! What proves who somebody is besides a password: an authenticator app (TOTP), passkeys, and codes for the day when those are lost.
//!
//! - A factor counts once it has shown that it works; what is being set up opens nothing.
//! - A code, a recovery code, a token and a ceremony are good once, over all replicas: PostgreSQL decides, so a Redis that
//!   forgets opens nothing.
//! - A passkey is of one host and asks for a finger or a PIN: alone it signs in as surely as a password with a code.
//! - Wrong codes are throttled by account, apart from its password, and a login ends after a few of them.
//! - The secret of an app is sealed under the platform's key for one user of one tenant; recovery codes and tokens are hashes.

mod ceremonies;
mod challenges;
mod http;
mod model;
mod passkeys;
mod repo;
mod service;
mod site;
#[cfg(test)]
mod tests;
mod totp;

pub use self::{
    challenges::{LIFETIME, begin_login},
    http::{router, well_known},
    model::{FactorsError, Held},
    repo::{forget, held},
    service::Factors,
};

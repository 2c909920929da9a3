//! Keys for machines: a program that acts for a user, without their password and within what it was made for.
//!
//! - A key is shown once and kept as a hash. Its beginning stays visible, so that it is found again.
//! - It may do what its scopes name and its user may at this moment: a role that the user loses, the key loses. What a
//!   RoleBinding gives to the key by its name comes beside that.
//! - It is looked up at most once a second and replica: whatever ends it, or its user, is felt everywhere within that.
//! - Some things only a person does: sign in and out, change passwords, make keys. A handler that names `Me` refuses keys.

mod http;
mod model;
mod repo;
mod service;
#[cfg(test)]
mod tests;

pub use self::{
    http::{ApiKeyOut, router},
    model::MARK,
    repo::{delete_of_user, list},
    service::ApiKeys,
};

//! Mail: written down in the transaction of the act that it is about, sent by whichever replica comes first.
//!
//! - [`Mail::enqueue`] adds a row to the tenant's outbox. No request waits for a mail server, and an act whose
//!   transaction fails sends nothing.
//! - Every replica runs a [`sender`]. It takes rows by `FOR UPDATE SKIP LOCKED` and a lease, so that of several replicas
//!   one sends. Its own replica's rows are sent at once; those that a dead replica left are found by going around the tenants.
//! - A mail is sent once. The one exception: a replica that dies, or loses its database until the lease ends, in between the
//!   server's "250" and the note of it. Then the mail is sent again with the same Message-ID, by which mailboxes know it.
//! - A server that is away costs no mail a try: the sender waits for the server. A mail that the server refuses for now
//!   (4xx) waits ever longer; one that it refuses for good (5xx) is dead at once, and an administrator sees why.
//! - What a mail says is sealed in the database under the platform's key, and is wiped when the mail is sent.

mod delivery;
mod http;
mod letter;
pub mod metrics;
mod model;
mod render;
mod repo;
pub mod sender;
mod service;
mod smtp;
#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    http::router,
    letter::{Letter, Place, Wish},
    model::{MailError, Message},
    repo::{about, forget},
    service::Mail,
    smtp::{SettingsError, Smtp},
};

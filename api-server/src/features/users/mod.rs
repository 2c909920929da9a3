//! Who exists in a tenant, and which roles they have.
//!
//! - A user is looked after by themselves and by who holds `users:*`; nobody touches an account that may do more than
//!   they may, nor gives a role that does.
//! - A role is built in, or declared by a RoleBinding; what a RoleBinding gives is changed there and only shown here.
//! - Whatever changes about an account is felt by its open sessions at once.
//! - A deleted account leaves its row, emptied of everything personal, for the ledger and the audit that refer to it.

mod admin;
mod export;
mod http;
mod import;
mod invitations;
mod model;
pub mod repo;
mod roles;
mod service;
#[cfg(test)]
mod tests;

use utoipa_axum::router::OpenApiRouter;

pub use self::{
    export::{MailedOut, SignInOut},
    http::{UserOut, email_rules, name_rules},
    model::{FullName, Sort, UserFilter, UsersError, email},
    service::{Users, has_room, target},
};
use crate::app::App;

pub fn router() -> OpenApiRouter<App> {
    http::router()
        .merge(roles::router())
        .merge(admin::router())
        .merge(import::router())
        .merge(invitations::router())
        .merge(export::router())
}

//! What was done, by whom, to what: entries are written in the transaction of the deed, so neither is without the other.
//!
//! Entries of one tenant are a chain: the database gives each a number and a hash over the one before it, so that an entry
//! that is changed, removed or slipped in shows. Record last in a transaction: the chain's end is locked from there on.

mod http;
mod repo;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

pub use self::{
    http::{AuditEntryOut, router},
    repo::{about, forget, record_in_tx},
};
use crate::{extract::UserId, features::auth::Device};

/// How a deed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Success,
    /// It was tried and did not work, such as a sign-in with a wrong password.
    Failure,
    /// It was tried by somebody who may not.
    Denied,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

/// One deed. Nothing in it may be a secret.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Who did it; `None` where nobody was signed in.
    pub user: Option<UserId>,
    /// `LOGIN`, `LOGOUT`, `TOKEN_REUSED`, `CREATE` …
    pub action: &'static str,
    pub resource_type: &'static str,
    pub resource_id: Option<String>,
    pub details: Value,
    pub outcome: Outcome,
    /// From where; `None` for what the service does by itself or a provider asks for.
    pub device: Option<&'a Device>,
}

impl<'a> Entry<'a> {
    /// A deed that was done to a user's account.
    pub fn on_user(user: UserId, action: &'static str) -> Self {
        Self::new("user", action).of(user.to_string())
    }

    pub fn new(resource_type: &'static str, action: &'static str) -> Self {
        let (details, outcome) = (json!({}), Outcome::Success);
        Self { user: None, action, resource_type, resource_id: None, details, outcome, device: None }
    }

    #[must_use]
    pub fn of(self, resource_id: impl Into<String>) -> Self {
        Self { resource_id: Some(resource_id.into()), ..self }
    }

    #[must_use]
    pub fn by(self, user: impl Into<Option<UserId>>) -> Self {
        Self { user: user.into(), ..self }
    }

    #[must_use]
    pub fn from(self, device: &'a Device) -> Self {
        Self { device: Some(device), ..self }
    }

    #[must_use]
    pub fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }

    #[must_use]
    pub fn failed(self) -> Self {
        Self { outcome: Outcome::Failure, ..self }
    }
}

/// An entry as it is kept.
#[derive(Debug)]
pub struct Record {
    pub id: uuid::Uuid,
    pub sequence: Option<i64>,
    pub user: Option<UserId>,
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    pub details: Value,
    pub outcome: String,
    pub request_id: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub hash: Option<String>,
    pub created_at: Timestamp,
}

/// What a look at the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Integrity {
    /// Whether every entry is as it was written and none is missing.
    pub intact: bool,
    /// Entries in the chain.
    #[schema(example = 4711)]
    pub entries: i64,
    /// Number of the first entry that is not as it was written, or is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_broken: Option<i64>,
    /// The newest entry's hash: keep it elsewhere, and a chain that was rewritten as a whole shows too.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub head: String,
}

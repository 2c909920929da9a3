//! What was begun and is to be finished soon, once: the client holds a token, PostgreSQL its hash and the rest.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::repo;
use crate::{
    extract::UserId,
    features::auth::Proof,
    infra::{TenantTx, Token},
};

/// How long there is to finish.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// After so many wrong codes the login is to be begun anew, with the password.
pub const MOST_FAILURES: i32 = 5;

/// What a challenge is for. One of another purpose does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A login whose password was right.
    Login,
    /// To make a passkey.
    Registration,
    /// A login by a passkey alone.
    PasskeyLogin,
    /// A passkey as the second step of a login, or to prove again who one is.
    PasskeyProof,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::PasskeyLogin => "passkey-login",
            Self::PasskeyProof => "passkey-proof",
        }
    }
}

/// The server's side, of a challenge that is to be begun.
pub struct NewChallenge<'a> {
    pub purpose: Purpose,
    pub user: Option<UserId>,
    pub proof: &'a Proof,
    pub state: Option<Value>,
}

/// The server's side, of one that still counts.
#[derive(Debug)]
pub struct Challenge {
    pub user: Option<UserId>,
    pub proof: Proof,
    pub state: Option<Value>,
    pub failures: i32,
}

/// Begins something.
pub async fn begin(tx: &mut TenantTx, new: &NewChallenge<'_>, now: Timestamp) -> Result<Token, sqlx::Error> {
    repo::sweep_challenges(tx, now).await?;
    let token = Token::random();
    let until = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
    repo::insert_challenge(tx, &token.digest(), new, until).await?;
    Ok(token)
}

/// Begins a login that waits for its second factor.
pub async fn begin_login(tx: &mut TenantTx, user: UserId, proof: &Proof, now: Timestamp) -> Result<Token, sqlx::Error> {
    begin(tx, &NewChallenge { purpose: Purpose::Login, user: Some(user), proof, state: None }, now).await
}

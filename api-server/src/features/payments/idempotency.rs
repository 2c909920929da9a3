//! Requests that may be repeated: the header `Idempotency-Key`, and what its first request made.
//!
//! A request claims its key in the transaction that keeps its intent ([`claim`]) and leaves its answer in the one that has
//! its effect ([`finish`]). In between, whatever breaks, a repetition goes on with the same intent.

use axum::extract::FromRequestParts;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    error::{ApiError, Detail},
    extract::UserId,
    infra::TenantTx,
};

/// How long an answer is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The header, where it is given.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(pub Option<String>);

/// One user's use of one key for one operation: a key means nothing to anyone else.
#[derive(Clone, Debug)]
pub struct Claimant {
    pub user: UserId,
    pub operation: &'static str,
    pub key: String,
    /// Of what is asked for, in a form that does not depend on how it was written.
    pub fingerprint: [u8; 32],
}

#[derive(Debug)]
pub enum Claim {
    /// Nobody was here before.
    New,
    /// An earlier request got as far as this resource and no further: go on with it.
    GoOn(Uuid),
    /// An earlier request was answered: answer the same.
    Answered(Stored),
}

/// An answer as it was given.
#[derive(Clone, Debug)]
pub struct Stored {
    pub status: u16,
    pub body: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("a request with this Idempotency-Key is being worked on")]
    InProgress,
    #[error("this Idempotency-Key was used for a different request")]
    Reused,
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

impl Claimant {
    pub fn new(user: UserId, operation: &'static str, key: String, asked_for: &impl serde::Serialize) -> Self {
        let canonical = serde_json::to_vec(asked_for).unwrap_or_default();
        Self { user, operation, key, fingerprint: Sha256::digest(canonical).into() }
    }
}

/// Claims the key for `resource`, until `lease` has passed or the answer is there.
pub async fn claim(
    tx: &mut TenantTx,
    claimant: &Claimant,
    resource: Uuid,
    now: Timestamp,
    lease: SignedDuration,
) -> Result<Claim, ClaimError> {
    let Claimant { user, operation, key, fingerprint } = claimant;
    let tenant = tx.tenant().as_uuid();
    // Two at once: the second waits here for the first to commit, and then finds its row.
    let inserted = sqlx::query!(
        "INSERT INTO payments.idempotency_keys AS k
             (tenant_id, user_id, operation, key, fingerprint, resource_id, locked_until, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, user_id, operation, key) DO UPDATE
             SET fingerprint = $5, resource_id = $6, locked_until = $7, expires_at = $8, status = NULL, body = NULL
             WHERE k.expires_at <= $9",
        tenant,
        user.0,
        operation,
        key,
        &fingerprint[..],
        resource,
        (now + lease).to_sqlx(),
        (now + KEPT).to_sqlx(),
        now.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    if inserted.rows_affected() == 1 {
        delete_expired(tx, now).await?;
        return Ok(Claim::New);
    }
    let row = sqlx::query!(
        "SELECT fingerprint, resource_id, locked_until, status, body FROM payments.idempotency_keys
         WHERE tenant_id = $1 AND user_id = $2 AND operation = $3 AND key = $4 FOR UPDATE",
        tenant,
        user.0,
        operation,
        key,
    )
    .fetch_one(tx.conn())
    .await?;
    if row.fingerprint != fingerprint {
        return Err(ClaimError::Reused);
    }
    if let (Some(status), Some(body)) = (row.status, row.body) {
        return Ok(Claim::Answered(Stored { status: u16::try_from(status).unwrap_or(200), body }));
    }
    if row.locked_until.to_jiff() > now {
        return Err(ClaimError::InProgress);
    }
    lock_until(tx, claimant, now + lease).await?;
    Ok(Claim::GoOn(row.resource_id))
}

/// Lets the next repetition go on at once.
pub async fn release(tx: &mut TenantTx, claimant: &Claimant, now: Timestamp) -> Result<(), sqlx::Error> {
    lock_until(tx, claimant, now).await
}

/// Leaves the answer for repetitions.
pub async fn finish(tx: &mut TenantTx, claimant: &Claimant, answer: &Stored) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE payments.idempotency_keys SET status = $5, body = $6
         WHERE tenant_id = $1 AND user_id = $2 AND operation = $3 AND key = $4",
        tx.tenant().as_uuid(),
        claimant.user.0,
        claimant.operation,
        claimant.key,
        i16::try_from(answer.status).ok(),
        answer.body,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Each new key takes a few old ones along, so that there are never many. Those that somebody else is at are left to them.
async fn delete_expired(tx: &mut TenantTx, now: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM payments.idempotency_keys WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM payments.idempotency_keys
             WHERE tenant_id = $1 AND expires_at <= $2 ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED))",
        tx.tenant().as_uuid(),
        now.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

async fn lock_until(tx: &mut TenantTx, claimant: &Claimant, until: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE payments.idempotency_keys SET locked_until = $5
         WHERE tenant_id = $1 AND user_id = $2 AND operation = $3 AND key = $4",
        tx.tenant().as_uuid(),
        claimant.user.0,
        claimant.operation,
        claimant.key,
        until.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        // The draft makes it a quoted string, and everybody sends it bare: both mean the same key.
        let key = value.to_str().unwrap_or_default().trim().trim_matches('"');
        if (1..=255).contains(&key.len()) {
            Ok(Self(Some(key.to_owned())))
        } else {
            let message = "use 1 to 255 visible ASCII characters, such as a UUID";
            Err(ApiError::validation(vec![Detail::new("Idempotency-Key", "INVALID", message)]))
        }
    }
}

//! The room's SQL.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_scalar};

use super::{
    challenges::{Challenge, NewChallenge, Purpose},
    model::{Held, StoredTotp},
};
use crate::{extract::UserId, features::auth::Proof, infra::TenantTx};

/// Which factors an account has.
pub async fn held(tx: &mut TenantTx, user: UserId) -> Result<Held, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        r#"SELECT EXISTS (SELECT FROM auth.totp WHERE tenant_id = $1 AND user_id = $2 AND secret IS NOT NULL) AS "totp!",
                  (SELECT count(*) FROM auth.passkeys WHERE tenant_id = $1 AND user_id = $2) AS "passkeys!",
                  (SELECT count(*) FROM auth.recovery_codes
                   WHERE tenant_id = $1 AND user_id = $2 AND used_at IS NULL) AS "recovery_codes!""#,
        tenant,
        user.0
    )
    .fetch_one(tx.conn())
    .await?;
    Ok(Held { totp: row.totp, passkeys: row.passkeys, recovery_codes: row.recovery_codes })
}

/// Takes every factor of an account, and whatever of it was begun.
pub async fn forget(tx: &mut TenantTx, user: UserId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "WITH totp AS (DELETE FROM auth.totp WHERE tenant_id = $1 AND user_id = $2),
              codes AS (DELETE FROM auth.recovery_codes WHERE tenant_id = $1 AND user_id = $2),
              passkeys AS (DELETE FROM auth.passkeys WHERE tenant_id = $1 AND user_id = $2)
         DELETE FROM auth.challenges WHERE tenant_id = $1 AND user_id = $2",
        tenant,
        user.0
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn find_totp(tx: &mut TenantTx, user: UserId) -> Result<StoredTotp, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        "SELECT secret, activated_at, temp_secret, temp_until FROM auth.totp WHERE tenant_id = $1 AND user_id = $2",
        tenant,
        user.0
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(StoredTotp::default()) };
    Ok(StoredTotp {
        secret: row.secret,
        activated_at: row.activated_at.map(jiff_sqlx::Timestamp::to_jiff),
        temporary: row.temp_secret.zip(row.temp_until.map(jiff_sqlx::Timestamp::to_jiff)),
    })
}

/// Keeps a secret that is to be activated, in place of an earlier one that never was.
pub async fn set_temporary_totp(
    tx: &mut TenantTx,
    user: UserId,
    sealed: &str,
    until: Timestamp,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "INSERT INTO auth.totp (tenant_id, user_id, temp_secret, temp_until) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET temp_secret = $3, temp_until = $4",
        tenant,
        user.0,
        sealed,
        until.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Makes the temporary secret the active one, if it is still this one. `step` was the activating code's: it is used up.
pub async fn activate_totp(
    tx: &mut TenantTx,
    user: UserId,
    sealed: &str,
    step: i64,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE auth.totp SET secret = temp_secret, temp_secret = NULL, temp_until = NULL, activated_at = $5, last_step = $4
         WHERE tenant_id = $1 AND user_id = $2 AND temp_secret = $3",
        tenant,
        user.0,
        sealed,
        step,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Uses a step up. False where it, or a later one, was used before: of two replicas with one code, one gets through.
pub async fn use_step(tx: &mut TenantTx, user: UserId, step: i64) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE auth.totp SET last_step = $3
         WHERE tenant_id = $1 AND user_id = $2 AND secret IS NOT NULL AND last_step < $3",
        tenant,
        user.0,
        step
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn delete_totp(tx: &mut TenantTx, user: UserId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("DELETE FROM auth.totp WHERE tenant_id = $1 AND user_id = $2", tenant, user.0).execute(tx.conn()).await?;
    Ok(())
}

/// Puts these codes in the place of all that there were.
pub async fn replace_recovery_codes(
    tx: &mut TenantTx,
    user: UserId,
    digests: &[Vec<u8>],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("DELETE FROM auth.recovery_codes WHERE tenant_id = $1 AND user_id = $2", tenant, user.0)
        .execute(tx.conn())
        .await?;
    query!(
        "INSERT INTO auth.recovery_codes (tenant_id, user_id, code, created_at)
         SELECT $1, $2, code, $4 FROM unnest($3::bytea[]) AS code",
        tenant,
        user.0,
        digests,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Uses a recovery code up. False where there is no such code, or not any more.
pub async fn use_recovery_code(
    tx: &mut TenantTx,
    user: UserId,
    digest: &[u8],
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE auth.recovery_codes SET used_at = $4
         WHERE tenant_id = $1 AND user_id = $2 AND code = $3 AND used_at IS NULL",
        tenant,
        user.0,
        digest,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn insert_challenge(
    tx: &mut TenantTx,
    digest: &[u8],
    new: &NewChallenge<'_>,
    until: Timestamp,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "INSERT INTO auth.challenges (tenant_id, token, purpose, user_id, epoch, amr, state, expires_at)
         VALUES ($1, $2, $3, $4, (SELECT epoch FROM auth.users WHERE tenant_id = $1 AND id = $4), $5, $6, $7)",
        tenant,
        digest,
        new.purpose.as_str(),
        new.user.map(|user| user.0),
        &new.proof.names(),
        new.state,
        until.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A challenge that still counts, locked until the transaction ends: not expired, and nothing about the account has turned
/// since it was begun.
pub async fn lock_challenge(
    tx: &mut TenantTx,
    digest: &[u8],
    purpose: Purpose,
    now: Timestamp,
) -> Result<Option<Challenge>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        "SELECT c.user_id, c.amr, c.state, c.failures FROM auth.challenges c
         WHERE c.tenant_id = $1 AND c.token = $2 AND c.purpose = $3 AND c.expires_at > $4
           AND (c.user_id IS NULL OR EXISTS (
                  SELECT FROM auth.users u
                  WHERE u.tenant_id = c.tenant_id AND u.id = c.user_id AND u.epoch = c.epoch AND u.is_active))
         FOR UPDATE OF c",
        tenant,
        digest,
        purpose.as_str(),
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| Challenge {
        user: row.user_id.map(UserId),
        proof: Proof::of_names(&row.amr),
        state: row.state,
        failures: row.failures,
    }))
}

/// Ends a challenge. False where somebody else ended it first.
pub async fn delete_challenge(tx: &mut TenantTx, digest: &[u8]) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!("DELETE FROM auth.challenges WHERE tenant_id = $1 AND token = $2", tenant, digest)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn count_failure(tx: &mut TenantTx, digest: &[u8]) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("UPDATE auth.challenges SET failures = failures + 1 WHERE tenant_id = $1 AND token = $2", tenant, digest)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Removes some that have expired. Few at a time, and none that another transaction holds: it is nobody's errand.
pub async fn sweep_challenges(tx: &mut TenantTx, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(
        "DELETE FROM auth.challenges WHERE tenant_id = $1 AND token IN (
           SELECT token FROM auth.challenges WHERE tenant_id = $1 AND expires_at <= $2
           LIMIT 20 FOR UPDATE SKIP LOCKED)",
        tenant,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

//! The room's SQL.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::query;
use uuid::Uuid;

use super::model::{CODE_TRIES, MailedCode, MailedToken, Purpose};
use crate::{extract::UserId, infra::TenantTx};

/// A token in the making.
pub struct NewToken<'a> {
    pub id: Uuid,
    pub user: UserId,
    pub purpose: Purpose,
    pub digest: &'a [u8],
    /// The code that does the same, sealed.
    pub code: Option<&'a str>,
    pub email: &'a str,
    pub expires_at: Timestamp,
}

/// Keeps a token in the place of the user's former one for the same purpose.
pub async fn put(tx: &mut TenantTx, new: &NewToken<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "INSERT INTO auth.mailed_tokens (tenant_id, id, user_id, purpose, token, code, email, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (tenant_id, user_id, purpose) DO UPDATE
         SET id = excluded.id, token = excluded.token, code = excluded.code, failures = 0, email = excluded.email,
             confirmed_at = NULL, created_at = excluded.created_at, expires_at = excluded.expires_at",
        tenant,
        new.id,
        new.user.0,
        new.purpose.as_str(),
        new.digest,
        new.code,
        new.email,
        now.to_sqlx(),
        new.expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    user_id: Uuid,
    purpose: String,
    email: String,
    confirmed_at: Option<jiff_sqlx::Timestamp>,
    expires_at: jiff_sqlx::Timestamp,
}

impl Row {
    /// `None` for a purpose that this version does not know.
    fn read(self) -> Option<MailedToken> {
        Some(MailedToken {
            id: self.id,
            user: UserId(self.user_id),
            purpose: Purpose::parse(&self.purpose)?,
            email: self.email,
            confirmed_at: self.confirmed_at.map(jiff_sqlx::Timestamp::to_jiff),
            expires_at: self.expires_at.to_jiff(),
        })
    }
}

/// A token by its digest, whatever its purpose and age.
pub async fn find(tx: &mut TenantTx, digest: &[u8]) -> Result<Option<MailedToken>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = sqlx::query_as!(
        Row,
        "SELECT id, user_id, purpose, email, confirmed_at, expires_at FROM auth.mailed_tokens
         WHERE tenant_id = $1 AND token = $2",
        tenant,
        digest
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.and_then(Row::read))
}

/// A user's token for a purpose.
pub async fn find_of(tx: &mut TenantTx, user: UserId, purpose: Purpose) -> Result<Option<MailedToken>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = sqlx::query_as!(
        Row,
        "SELECT id, user_id, purpose, email, confirmed_at, expires_at FROM auth.mailed_tokens
         WHERE tenant_id = $1 AND user_id = $2 AND purpose = $3",
        tenant,
        user.0,
        purpose.as_str()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.and_then(Row::read))
}

/// Uses a token up: of two who present it at once, one gets it.
pub async fn take(
    tx: &mut TenantTx,
    digest: &[u8],
    purpose: Purpose,
    now: Timestamp,
) -> Result<Option<MailedToken>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = sqlx::query_as!(
        Row,
        "DELETE FROM auth.mailed_tokens WHERE tenant_id = $1 AND token = $2 AND purpose = $3 AND expires_at > $4
         RETURNING id, user_id, purpose, email, confirmed_at, expires_at",
        tenant,
        digest,
        purpose.as_str(),
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.and_then(Row::read))
}

/// Counts a try of the code that was mailed to an address, and gives the code where it may be tried. One statement, whether
/// there is such a code or not. The row is held until the transaction ends, so tries come one after the other.
pub async fn try_code(tx: &mut TenantTx, email: &str, now: Timestamp) -> Result<Option<MailedCode>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        r#"UPDATE auth.mailed_tokens SET failures = failures + 1
           WHERE tenant_id = $1 AND purpose = $2 AND email = $3 AND code IS NOT NULL AND failures < $4 AND expires_at > $5
           RETURNING id, user_id, code AS "code!""#,
        tenant,
        Purpose::VerifyEmail.as_str(),
        email,
        CODE_TRIES,
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| MailedCode { id: row.id, user: UserId(row.user_id), sealed: row.code.into() }))
}

pub async fn confirm(tx: &mut TenantTx, id: Uuid, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.mailed_tokens SET confirmed_at = coalesce(confirmed_at, $3) WHERE tenant_id = $1 AND id = $2",
        tenant,
        id,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Makes a user's token for a purpose void.
pub async fn void(tx: &mut TenantTx, user: UserId, purpose: Purpose) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "DELETE FROM auth.mailed_tokens WHERE tenant_id = $1 AND user_id = $2 AND purpose = $3",
        tenant,
        user.0,
        purpose.as_str()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Makes all of a user's mailed tokens void.
pub async fn clear(tx: &mut TenantTx, user: UserId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("DELETE FROM auth.mailed_tokens WHERE tenant_id = $1 AND user_id = $2", tenant, user.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}

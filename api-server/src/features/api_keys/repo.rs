//! The room's SQL.

use contract::access::Permission;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::model::{ApiKey, ApiKeyError, USE_KEPT};
use crate::{
    extract::{Page, UserId},
    infra::TenantTx,
};

struct Row {
    id: Uuid,
    user_id: Uuid,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    created_at: jiff_sqlx::Timestamp,
    expires_at: jiff_sqlx::Timestamp,
    last_used_at: Option<jiff_sqlx::Timestamp>,
    revoked_at: Option<jiff_sqlx::Timestamp>,
}

impl TryFrom<Row> for ApiKey {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let scopes = row.scopes.iter().map(|scope| scope.parse::<Permission>()).collect::<Result<_, _>>();
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            name: row.name,
            prefix: row.prefix,
            scopes: scopes.map_err(|error| sqlx::Error::Decode(error.into()))?,
            created_at: row.created_at.to_jiff(),
            expires_at: row.expires_at.to_jiff(),
            last_used_at: row.last_used_at.map(jiff_sqlx::Timestamp::to_jiff),
            revoked_at: row.revoked_at.map(jiff_sqlx::Timestamp::to_jiff),
        })
    }
}

pub async fn insert(tx: &mut TenantTx, key: &ApiKey, digest: &[u8]) -> Result<(), ApiKeyError> {
    let tenant = tx.tenant().as_uuid();
    let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
    query!(
        "INSERT INTO auth.api_keys (tenant_id, id, user_id, name, prefix, digest, scopes, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant,
        key.id,
        key.user.0,
        key.name,
        key.prefix,
        digest,
        &scopes,
        key.created_at.to_sqlx(),
        key.expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await
    .map_err(|error| match error.as_database_error().and_then(|e| e.constraint()) {
        Some("api_keys_name_key") => ApiKeyError::NameTaken,
        _ => error.into(),
    })?;
    Ok(())
}

/// The key with this hash, if it counts at this time.
pub async fn find_live(tx: &mut TenantTx, digest: &[u8], now: Timestamp) -> Result<Option<ApiKey>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_as!(
        Row,
        "SELECT id, user_id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at FROM auth.api_keys
         WHERE tenant_id = $1 AND digest = $2 AND revoked_at IS NULL AND expires_at > $3",
        tenant,
        digest,
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?
    .map(ApiKey::try_from)
    .transpose()
}

/// Remembers a use, if the last one that is known is old enough to be worth a write.
pub async fn used(tx: &mut TenantTx, key: Uuid, now: Timestamp) -> Result<(), sqlx::Error> {
    let (tenant, before) = (tx.tenant().as_uuid(), now.saturating_sub(USE_KEPT).unwrap_or(Timestamp::MIN));
    query!(
        "UPDATE auth.api_keys SET last_used_at = $3
         WHERE tenant_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at <= $4)",
        tenant,
        key,
        now.to_sqlx(),
        before.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A page of keys that are not revoked, newest first: of one user, or of all.
pub async fn list(tx: &mut TenantTx, page: &Page, user: Option<UserId>) -> Result<Vec<ApiKey>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let (at, id) = page.after.unzip();
    query_as!(
        Row,
        "SELECT id, user_id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at FROM auth.api_keys
         WHERE tenant_id = $1 AND revoked_at IS NULL
           AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
           AND ($4::uuid IS NULL OR user_id = $4)
         ORDER BY created_at DESC, id DESC
         LIMIT $5 OFFSET $6",
        tenant,
        at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        id,
        user.map(|user| user.0),
        page.fetch(),
        i64::from(page.offset)
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(ApiKey::try_from)
    .collect()
}

/// Keys that are not revoked: of one user, or of all.
pub async fn count(tx: &mut TenantTx, user: Option<UserId>) -> Result<i64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(
        r#"SELECT count(*) AS "count!" FROM auth.api_keys
         WHERE tenant_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR user_id = $2)"#,
        tenant,
        user.map(|user| user.0)
    )
    .fetch_one(tx.conn())
    .await
}

/// Ends a key: anybody's, or only if it is this user's. Gives its name and hash, or nothing where there is none to end.
pub async fn revoke(
    tx: &mut TenantTx,
    key: Uuid,
    of: Option<UserId>,
    now: Timestamp,
) -> Result<Option<(String, Vec<u8>)>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        "UPDATE auth.api_keys SET revoked_at = $4
         WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND ($3::uuid IS NULL OR user_id = $3)
         RETURNING name, digest",
        tenant,
        key,
        of.map(|user| user.0),
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| (row.name, row.digest)))
}

/// Removes the keys of an account that ends.
pub async fn delete_of_user(tx: &mut TenantTx, user: UserId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("DELETE FROM auth.api_keys WHERE tenant_id = $1 AND user_id = $2", tenant, user.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}

//! The SQL about passkeys.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::model::{FactorsError, StoredPasskey};
use crate::{extract::UserId, infra::TenantTx};

struct Row {
    id: Uuid,
    user_id: Uuid,
    rp_id: String,
    credential_id: Vec<u8>,
    credential: Value,
    counter: i64,
    name: String,
    created_at: jiff_sqlx::Timestamp,
    last_used_at: Option<jiff_sqlx::Timestamp>,
}

impl From<Row> for StoredPasskey {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user: UserId(row.user_id),
            rp_id: row.rp_id,
            credential_id: row.credential_id,
            credential: row.credential,
            counter: row.counter,
            name: row.name,
            created_at: row.created_at.to_jiff(),
            last_used_at: row.last_used_at.map(jiff_sqlx::Timestamp::to_jiff),
        }
    }
}

/// A user's passkeys, the oldest first.
pub async fn list(tx: &mut TenantTx, user: UserId) -> Result<Vec<StoredPasskey>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query_as!(
        Row,
        "SELECT id, user_id, rp_id, credential_id, credential, counter, name, created_at, last_used_at
         FROM auth.passkeys WHERE tenant_id = $1 AND user_id = $2 ORDER BY created_at, id",
        tenant,
        user.0
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(StoredPasskey::from).collect())
}

/// A user's passkey of one host, by the authenticator's id of it.
pub async fn find(
    tx: &mut TenantTx,
    user: UserId,
    rp_id: &str,
    credential_id: &[u8],
) -> Result<Option<StoredPasskey>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query_as!(
        Row,
        "SELECT id, user_id, rp_id, credential_id, credential, counter, name, created_at, last_used_at
         FROM auth.passkeys WHERE tenant_id = $1 AND user_id = $2 AND rp_id = $3 AND credential_id = $4",
        tenant,
        user.0,
        rp_id,
        credential_id
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(StoredPasskey::from))
}

pub async fn insert(tx: &mut TenantTx, passkey: &StoredPasskey) -> Result<(), FactorsError> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "INSERT INTO auth.passkeys (tenant_id, id, user_id, rp_id, credential_id, credential, counter, name, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant,
        passkey.id,
        passkey.user.0,
        passkey.rp_id,
        passkey.credential_id,
        passkey.credential,
        passkey.counter,
        passkey.name,
        passkey.created_at.to_sqlx()
    )
    .execute(tx.conn())
    .await
    .map_err(|error| match error.as_database_error().and_then(|e| e.constraint()) {
        Some("passkeys_credential_id_key") => FactorsError::PasskeyTaken,
        _ => error.into(),
    })?;
    Ok(())
}

/// Notes a use. False where the authenticator's counter does not go beyond the one of its last use; one that does not count
/// says 0 each time.
pub async fn count_use(
    tx: &mut TenantTx,
    id: Uuid,
    credential: &Value,
    counter: i64,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE auth.passkeys SET credential = $3, counter = $4, last_used_at = $5
         WHERE tenant_id = $1 AND id = $2 AND (counter < $4 OR (counter = 0 AND $4 = 0))",
        tenant,
        id,
        credential,
        counter,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn rename(
    tx: &mut TenantTx,
    user: UserId,
    id: Uuid,
    name: &str,
) -> Result<Option<StoredPasskey>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query_as!(
        Row,
        "UPDATE auth.passkeys SET name = $4 WHERE tenant_id = $1 AND user_id = $2 AND id = $3
         RETURNING id, user_id, rp_id, credential_id, credential, counter, name, created_at, last_used_at",
        tenant,
        user.0,
        id,
        name
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(StoredPasskey::from))
}

pub async fn delete(tx: &mut TenantTx, user: UserId, id: Uuid) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done =
        query!("DELETE FROM auth.passkeys WHERE tenant_id = $1 AND user_id = $2 AND id = $3", tenant, user.0, id)
            .execute(tx.conn())
            .await?;
    Ok(done.rows_affected() == 1)
}

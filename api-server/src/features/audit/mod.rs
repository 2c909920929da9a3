//! What was done, by whom, to what: entries are written in the transaction of the deed, so neither is without the other.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use uuid::Uuid;

use crate::{extract::UserId, infra::TenantTx};

/// One deed.
#[derive(Debug)]
pub struct Entry<'a> {
    pub user: Option<UserId>,
    /// `LOGIN`, `LOGOUT`, `TOKEN_REUSED`, `CREATE` …
    pub action: &'static str,
    pub resource_type: &'static str,
    pub resource_id: Option<String>,
    pub details: Value,
    pub ip: Option<&'a str>,
    pub user_agent: Option<&'a str>,
}

/// Remembers a deed, in the transaction that does it.
pub async fn record_in_tx(tx: &mut TenantTx, entry: &Entry<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    sqlx::query!(
        "INSERT INTO admin.audit_logs
             (tenant_id, id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tenant,
        id,
        entry.user.map(|user| user.0),
        entry.action,
        entry.resource_type,
        entry.resource_id,
        entry.details,
        entry.ip,
        entry.user_agent,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

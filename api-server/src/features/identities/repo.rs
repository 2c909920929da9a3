//! The room's SQL.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::model::{Flow, Identity};
use crate::{extract::UserId, infra::TenantTx};

/// Keeps a sign-in that begins, and drops some that nobody finished.
pub async fn insert_flow(tx: &mut TenantTx, id: &[u8], flow: &Flow, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "DELETE FROM auth.identity_flows WHERE tenant_id = $1 AND id IN (
             SELECT id FROM auth.identity_flows WHERE tenant_id = $1 AND expires_at <= $2
             LIMIT 100 FOR UPDATE SKIP LOCKED)",
        tenant,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    query!(
        "INSERT INTO auth.identity_flows (tenant_id, id, provider, redirect_uri, user_id, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        tenant,
        id,
        flow.provider,
        flow.redirect_uri,
        flow.user.map(|user| user.0),
        flow.expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Takes a sign-in out: of several who present it at once, one gets it.
pub async fn take_flow(tx: &mut TenantTx, id: &[u8]) -> Result<Option<Flow>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        "DELETE FROM auth.identity_flows WHERE tenant_id = $1 AND id = $2
         RETURNING provider, redirect_uri, user_id, expires_at",
        tenant,
        id
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| Flow {
        provider: row.provider,
        redirect_uri: row.redirect_uri,
        user: row.user_id.map(UserId),
        expires_at: row.expires_at.to_jiff(),
    }))
}

/// Whose identity this is.
pub async fn owner(tx: &mut TenantTx, issuer: &str, subject: &str) -> Result<Option<UserId>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(
        "SELECT user_id FROM auth.identities WHERE tenant_id = $1 AND issuer = $2 AND subject = $3",
        tenant,
        issuer,
        subject
    )
    .fetch_optional(tx.conn())
    .await
    .map(|id| id.map(UserId))
}

/// Links an identity to a user. `None` where it is linked already, to whomever.
pub async fn link(
    tx: &mut TenantTx,
    user: UserId,
    issuer: &str,
    subject: &str,
    email: Option<&str>,
    now: Timestamp,
) -> Result<Option<Identity>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query_as!(
        Row,
        "INSERT INTO auth.identities (tenant_id, id, user_id, issuer, subject, email, created_at, last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
         ON CONFLICT (tenant_id, issuer, subject) DO NOTHING
         RETURNING id, issuer, subject, email, created_at, last_used_at",
        tenant,
        Uuid::now_v7(),
        user.0,
        issuer,
        subject,
        email,
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(Identity::from))
}

/// Notes a sign-in.
pub async fn used(
    tx: &mut TenantTx,
    issuer: &str,
    subject: &str,
    email: Option<&str>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.identities SET last_used_at = $5, email = coalesce($4, email)
         WHERE tenant_id = $1 AND issuer = $2 AND subject = $3",
        tenant,
        issuer,
        subject,
        email,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn identities_of(tx: &mut TenantTx, user: UserId) -> Result<Vec<Identity>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query_as!(
        Row,
        "SELECT id, issuer, subject, email, created_at, last_used_at FROM auth.identities
         WHERE tenant_id = $1 AND user_id = $2 ORDER BY id",
        tenant,
        user.0
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Identity::from).collect())
}

pub async fn unlink(tx: &mut TenantTx, user: UserId, id: Uuid) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("DELETE FROM auth.identities WHERE tenant_id = $1 AND user_id = $2 AND id = $3", tenant, user.0, id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    issuer: String,
    subject: String,
    email: Option<String>,
    created_at: jiff_sqlx::Timestamp,
    last_used_at: jiff_sqlx::Timestamp,
}

impl From<Row> for Identity {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            email: row.email,
            created_at: row.created_at.to_jiff(),
            last_used_at: row.last_used_at.to_jiff(),
        }
    }
}

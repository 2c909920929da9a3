//! The room's SQL.

use contract::RoleName;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::model::{AuthError, FullName, RefreshToken};
use crate::{
    extract::{Page, SessionId, User, UserId},
    infra::TenantTx,
};

/// A row of `auth.users`, without its secret.
struct UserRow {
    id: Uuid,
    email: String,
    name: String,
    first_name: Option<String>,
    last_name: Option<String>,
    role: String,
    groups: Vec<String>,
    email_verified: bool,
    is_active: bool,
    last_login_at: Option<jiff_sqlx::Timestamp>,
    created_at: jiff_sqlx::Timestamp,
    updated_at: jiff_sqlx::Timestamp,
}

impl TryFrom<UserRow> for User {
    type Error = sqlx::Error;

    fn try_from(row: UserRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: UserId(row.id),
            email: row.email,
            name: row.name,
            first_name: row.first_name,
            last_name: row.last_name,
            role: role(&row.role)?,
            groups: row.groups,
            email_verified: row.email_verified,
            is_active: row.is_active,
            last_login_at: row.last_login_at.map(jiff_sqlx::Timestamp::to_jiff),
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

fn role(name: &str) -> Result<RoleName, sqlx::Error> {
    RoleName::parse(name).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub async fn insert_user(
    tx: &mut TenantTx,
    email: &str,
    name: &FullName,
    password_hash: &str,
    role: &str,
    now: Timestamp,
) -> Result<User, AuthError> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    let row = query_as!(
        UserRow,
        "INSERT INTO auth.users
             (tenant_id, id, email, name, first_name, last_name, password_hash, role, last_login_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9)
         RETURNING id, email, name, first_name, last_name, role, groups, email_verified, is_active, last_login_at,
                   created_at, updated_at",
        tenant,
        id,
        email,
        name.name,
        name.first,
        name.last,
        password_hash,
        role,
        now.to_sqlx()
    )
    .fetch_one(tx.conn())
    .await
    .map_err(|error| match error.as_database_error().and_then(|e| e.constraint()) {
        Some("users_email_key") => AuthError::EmailTaken,
        _ => error.into(),
    })?;
    Ok(row.try_into()?)
}

pub async fn count_users(tx: &mut TenantTx) -> Result<i64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(r#"SELECT count(*) AS "count!" FROM auth.users WHERE tenant_id = $1"#, tenant)
        .fetch_one(tx.conn())
        .await
}

pub async fn find_user(tx: &mut TenantTx, id: UserId) -> Result<Option<User>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_as!(
        UserRow,
        "SELECT id, email, name, first_name, last_name, role, groups, email_verified, is_active, last_login_at,
                created_at, updated_at
         FROM auth.users WHERE tenant_id = $1 AND id = $2",
        tenant,
        id.0
    )
    .fetch_optional(tx.conn())
    .await?
    .map(User::try_from)
    .transpose()
}

/// The user with this address and their password's hash.
pub async fn find_by_email(tx: &mut TenantTx, email: &str) -> Result<Option<(User, Option<String>)>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let found = query!("SELECT id, password_hash FROM auth.users WHERE tenant_id = $1 AND email = $2", tenant, email)
        .fetch_optional(tx.conn())
        .await?;
    let Some(found) = found else { return Ok(None) };
    Ok(find_user(tx, UserId(found.id)).await?.map(|user| (user, found.password_hash)))
}

/// A page of users, newest first; `search` is part of an address.
pub async fn list_users(tx: &mut TenantTx, page: &Page, search: Option<&str>) -> Result<Vec<User>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let (at, id) = page.after.unzip();
    query_as!(
        UserRow,
        "SELECT id, email, name, first_name, last_name, role, groups, email_verified, is_active, last_login_at,
                created_at, updated_at
         FROM auth.users
         WHERE tenant_id = $1
           AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
           AND ($4::text IS NULL OR position(lower($4) IN email) > 0)
         ORDER BY created_at DESC, id DESC
         LIMIT $5 OFFSET $6",
        tenant,
        at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        id,
        search,
        page.fetch(),
        i64::from(page.offset)
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(User::try_from)
    .collect()
}

pub async fn update_password_hash(tx: &mut TenantTx, id: UserId, hash: &str) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("UPDATE auth.users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2", tenant, id.0, hash)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub async fn update_last_login(tx: &mut TenantTx, id: UserId, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("UPDATE auth.users SET last_login_at = $3 WHERE tenant_id = $1 AND id = $2", tenant, id.0, now.to_sqlx())
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub async fn insert_session(
    tx: &mut TenantTx,
    user: UserId,
    device: &super::Device,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<SessionId, sqlx::Error> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    query!(
        "INSERT INTO auth.sessions (tenant_id, id, user_id, user_agent, ip, created_at, last_used_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
        tenant,
        id,
        user.0,
        device.user_agent,
        device.ip,
        now.to_sqlx(),
        expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(SessionId(id))
}

/// Who is signed in by a session that still counts.
pub async fn user_of_session(
    tx: &mut TenantTx,
    session: SessionId,
    now: Timestamp,
) -> Result<Option<User>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_as!(
        UserRow,
        "SELECT u.id, u.email, u.name, u.first_name, u.last_name, u.role, u.groups, u.email_verified, u.is_active,
                u.last_login_at, u.created_at, u.updated_at
         FROM auth.sessions s JOIN auth.users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
         WHERE s.tenant_id = $1 AND s.id = $2 AND s.revoked_at IS NULL AND s.expires_at > $3 AND u.is_active",
        tenant,
        session.0,
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?
    .map(User::try_from)
    .transpose()
}

/// Holds a session for this transaction, so that two refreshes of one family come one after the other.
pub async fn lock_session(tx: &mut TenantTx, session: SessionId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("SELECT id FROM auth.sessions WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant, session.0)
        .fetch_optional(tx.conn())
        .await?;
    Ok(())
}

pub async fn extend_session(
    tx: &mut TenantTx,
    session: SessionId,
    now: Timestamp,
    until: Timestamp,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.sessions SET last_used_at = $3, expires_at = $4 WHERE tenant_id = $1 AND id = $2",
        tenant,
        session.0,
        now.to_sqlx(),
        until.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Ends sessions of a user: one, all but one, or all. Gives those that were ended now.
pub async fn revoke_sessions(
    tx: &mut TenantTx,
    user: UserId,
    only: Option<SessionId>,
    but: Option<SessionId>,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<SessionId>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let ended = query_scalar!(
        "UPDATE auth.sessions SET revoked_at = $5, revoked_for = $6
         WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL
           AND ($3::uuid IS NULL OR id = $3) AND ($4::uuid IS NULL OR id <> $4)
         RETURNING id",
        tenant,
        user.0,
        only.map(|id| id.0),
        but.map(|id| id.0),
        now.to_sqlx(),
        reason
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(ended.into_iter().map(SessionId).collect())
}

pub async fn session_of_token(tx: &mut TenantTx, digest: &[u8]) -> Result<Option<SessionId>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!("SELECT session_id FROM auth.refresh_tokens WHERE tenant_id = $1 AND token = $2", tenant, digest)
        .fetch_optional(tx.conn())
        .await
        .map(|id| id.map(SessionId))
}

pub async fn find_token(tx: &mut TenantTx, digest: &[u8]) -> Result<Option<RefreshToken>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query!(
        "SELECT id, used_at, expires_at FROM auth.refresh_tokens WHERE tenant_id = $1 AND token = $2",
        tenant,
        digest
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(|row| RefreshToken {
        id: row.id,
        used_at: row.used_at.map(jiff_sqlx::Timestamp::to_jiff),
        expires_at: row.expires_at.to_jiff(),
    }))
}

/// The token that was given for this one, if that is itself unused.
pub async fn unused_successor(tx: &mut TenantTx, parent: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(
        "SELECT id FROM auth.refresh_tokens WHERE tenant_id = $1 AND parent_id = $2 AND used_at IS NULL",
        tenant,
        parent
    )
    .fetch_optional(tx.conn())
    .await
}

pub async fn insert_token(
    tx: &mut TenantTx,
    id: Uuid,
    session: SessionId,
    digest: &[u8],
    parent: Option<Uuid>,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "INSERT INTO auth.refresh_tokens (tenant_id, id, session_id, token, parent_id, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        tenant,
        id,
        session.0,
        digest,
        parent,
        now.to_sqlx(),
        expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn mark_used(tx: &mut TenantTx, token: Uuid, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.refresh_tokens SET used_at = $3 WHERE tenant_id = $1 AND id = $2",
        tenant,
        token,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

//! The room's SQL.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::{
    model::{RefreshToken, Session},
    proof::Proof,
    step_up::Standing,
};
use crate::{
    extract::{Page, SessionId, User, UserId},
    features::users::{SignInOut, repo::UserRow},
    infra::TenantTx,
};

/// A session that is to be opened.
pub struct NewSession<'a> {
    pub user: UserId,
    pub proof: &'a Proof,
    /// For setting up a second factor, only.
    pub limited: bool,
    pub expires_at: Timestamp,
}

pub async fn insert_session(
    tx: &mut TenantTx,
    new: &NewSession<'_>,
    device: &super::Device,
    now: Timestamp,
) -> Result<(SessionId, Standing), sqlx::Error> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    let factor_at = new.proof.is_strong().then_some(now);
    query!(
        "INSERT INTO auth.sessions (tenant_id, id, user_id, user_agent, ip, created_at, last_used_at, expires_at, amr,
                                    authenticated_at, factor_at, is_limited)
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $6, $9, $10)",
        tenant,
        id,
        new.user.0,
        device.user_agent,
        device.ip,
        now.to_sqlx(),
        new.expires_at.to_sqlx(),
        &new.proof.names(),
        factor_at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        new.limited
    )
    .execute(tx.conn())
    .await?;
    Ok((SessionId(id), Standing { proof: new.proof.clone(), authenticated_at: now, factor_at }))
}

/// Who is signed in by a session that still counts.
pub async fn user_of_session(
    tx: &mut TenantTx,
    session: SessionId,
    now: Timestamp,
) -> Result<Option<User>, sqlx::Error> {
    Ok(users_of_sessions(tx, &[session], now).await?.pop().map(|(_, user)| user))
}

/// Who is signed in by each of these sessions that still counts.
pub async fn users_of_sessions(
    tx: &mut TenantTx,
    sessions: &[SessionId],
    now: Timestamp,
) -> Result<Vec<(SessionId, User)>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let sessions: Vec<_> = sessions.iter().map(|session| session.0).collect();
    let rows = query!(
        r#"SELECT s.id AS session, u.id, u.email, u.name, u.first_name, u.last_name, u.role, u.groups, u.email_verified, u.is_active,
                u.last_login_at, u.created_at, u.updated_at,
                ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id
                      ORDER BY r.role) AS "assigned!"
         FROM auth.sessions s JOIN auth.users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
         WHERE s.tenant_id = $1 AND s.id = ANY($2) AND s.revoked_at IS NULL AND s.expires_at > $3 AND u.is_active"#,
        tenant,
        &sessions,
        now.to_sqlx() as jiff_sqlx::Timestamp
    )
    .fetch_all(tx.conn())
    .await?;
    let users = rows.into_iter().map(|row| {
        let user = User::try_from(UserRow {
            id: row.id,
            email: row.email,
            name: row.name,
            first_name: row.first_name,
            last_name: row.last_name,
            role: row.role,
            groups: row.groups,
            email_verified: row.email_verified,
            is_active: row.is_active,
            last_login_at: row.last_login_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            assigned: row.assigned,
        })?;
        Ok((SessionId(row.session), user))
    });
    users.collect()
}

/// The sessions of a user that count, the one used last first.
pub async fn live_sessions(tx: &mut TenantTx, user: UserId, now: Timestamp) -> Result<Vec<Session>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query!(
        "SELECT id, user_agent, ip, created_at, last_used_at, expires_at FROM auth.sessions
         WHERE tenant_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
         ORDER BY last_used_at DESC, id DESC",
        tenant,
        user.0,
        now.to_sqlx()
    )
    .fetch_all(tx.conn())
    .await?;
    let sessions = rows.into_iter().map(|row| Session {
        id: SessionId(row.id),
        user_agent: row.user_agent,
        ip: row.ip,
        created_at: row.created_at.to_jiff(),
        last_used_at: row.last_used_at.to_jiff(),
        expires_at: row.expires_at.to_jiff(),
    });
    Ok(sessions.collect())
}

/// Whether the user signed in before, but never from a device like this. Versions do not count: a browser has a new one every
/// month.
pub async fn is_new_device(tx: &mut TenantTx, user: UserId, user_agent: Option<&str>) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(
        r#"SELECT count(*) > 0 AND NOT coalesce(bool_or(
               regexp_replace(coalesce(s.user_agent, ''), '[0-9._]+', '', 'g')
               = regexp_replace(coalesce($3::text, ''), '[0-9._]+', '', 'g')), false) AS "new!"
           FROM (SELECT user_agent FROM auth.sessions WHERE tenant_id = $1 AND user_id = $2 LIMIT 200) s"#,
        tenant,
        user.0,
        user_agent
    )
    .fetch_one(tx.conn())
    .await
}

/// How the user of a session proved who they are.
pub async fn standing(tx: &mut TenantTx, session: SessionId) -> Result<Option<Standing>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query_as!(
        StandingRow,
        r#"SELECT amr, coalesce(authenticated_at, created_at) AS "authenticated_at!", factor_at FROM auth.sessions
         WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL"#,
        tenant,
        session.0
    );
    Ok(row.fetch_optional(tx.conn()).await?.map(Standing::from))
}

/// A page of all sign-ins of a user, also those that ended, newest first.
pub async fn all_sessions(tx: &mut TenantTx, user: UserId, page: &Page) -> Result<Vec<SignInOut>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query!(
        "SELECT id, user_agent, ip, created_at, last_used_at, expires_at, revoked_at, revoked_for FROM auth.sessions
         WHERE tenant_id = $1 AND user_id = $2 ORDER BY created_at DESC, id DESC LIMIT $3",
        tenant,
        user.0,
        page.fetch()
    )
    .fetch_all(tx.conn())
    .await?;
    let sessions = rows.into_iter().map(|row| SignInOut {
        id: SessionId(row.id),
        user_agent: row.user_agent,
        ip_address: row.ip,
        created_at: row.created_at.to_jiff(),
        last_used_at: row.last_used_at.to_jiff(),
        expires_at: row.expires_at.to_jiff(),
        ended_at: row.revoked_at.map(jiff_sqlx::Timestamp::to_jiff),
        ended_for: row.revoked_for,
    });
    Ok(sessions.collect())
}

/// The same, and holds the session for this transaction, so that two refreshes of one family come one after the other.
pub async fn lock_session(tx: &mut TenantTx, session: SessionId) -> Result<Option<Standing>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query_as!(
        StandingRow,
        r#"SELECT amr, coalesce(authenticated_at, created_at) AS "authenticated_at!", factor_at FROM auth.sessions
         WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL FOR UPDATE"#,
        tenant,
        session.0
    );
    Ok(row.fetch_optional(tx.conn()).await?.map(Standing::from))
}

struct StandingRow {
    amr: Vec<String>,
    authenticated_at: jiff_sqlx::Timestamp,
    factor_at: Option<jiff_sqlx::Timestamp>,
}

impl From<StandingRow> for Standing {
    fn from(row: StandingRow) -> Self {
        Self {
            proof: Proof::of_names(&row.amr),
            authenticated_at: row.authenticated_at.to_jiff(),
            factor_at: row.factor_at.map(jiff_sqlx::Timestamp::to_jiff),
        }
    }
}

pub async fn update_standing(tx: &mut TenantTx, session: SessionId, to: &Standing) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.sessions SET amr = $3, authenticated_at = $4, factor_at = $5 WHERE tenant_id = $1 AND id = $2",
        tenant,
        session.0,
        &to.proof.names(),
        to.authenticated_at.to_sqlx(),
        to.factor_at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>
    )
    .execute(tx.conn())
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

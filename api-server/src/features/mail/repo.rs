//! The room's SQL.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::model::{Claimed, Listed, MailState};
use crate::{
    extract::{Page, UserId},
    features::users::MailedOut,
    infra::TenantTx,
};

/// A row in the making.
pub struct NewRow<'a> {
    pub id: Uuid,
    pub user: Option<UserId>,
    pub kind: &'a str,
    pub recipient: &'a str,
    pub content: &'a str,
    pub expires_at: Timestamp,
}

pub async fn insert(tx: &mut TenantTx, row: &NewRow<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "INSERT INTO mail.outbox (tenant_id, id, user_id, kind, recipient, content, due_at, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
        tenant,
        row.id,
        row.user.map(|user| user.0),
        row.kind,
        row.recipient,
        row.content,
        now.to_sqlx(),
        row.expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Takes mails that are due, until `until`. Another sender that asks at the same time gets others.
pub async fn claim(
    tx: &mut TenantTx,
    lease: Uuid,
    now: Timestamp,
    until: Timestamp,
    most: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query!(
        "UPDATE mail.outbox SET due_at = $4, lease = $2
         WHERE tenant_id = $1 AND id IN (
             SELECT id FROM mail.outbox WHERE tenant_id = $1 AND state = 'queued' AND due_at <= $3
             ORDER BY due_at LIMIT $5 FOR UPDATE SKIP LOCKED)
         RETURNING id, recipient, content, attempts, created_at",
        tenant,
        lease,
        now.to_sqlx(),
        until.to_sqlx(),
        most
    )
    .fetch_all(tx.conn())
    .await?;
    let claimed = rows.into_iter().map(|row| Claimed {
        id: row.id,
        recipient: row.recipient,
        content: row.content,
        attempts: u32::try_from(row.attempts).unwrap_or_default(),
        created_at: row.created_at.to_jiff(),
    });
    Ok(claimed.collect())
}

/// The server has it: what it said is wiped. False where the lease is somebody else's by now.
pub async fn mark_sent(tx: &mut TenantTx, id: Uuid, lease: Uuid, now: Timestamp) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE mail.outbox SET state = 'sent', content = NULL, last_error = NULL, finished_at = $4
         WHERE tenant_id = $1 AND id = $2 AND lease = $3 AND state = 'queued'",
        tenant,
        id,
        lease,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts it back for later; `refused` where the server, and not its absence, was the reason.
pub async fn put_back(
    tx: &mut TenantTx,
    id: Uuid,
    lease: Uuid,
    due: Timestamp,
    refused: bool,
    error: &str,
) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE mail.outbox SET due_at = $4, attempts = attempts + $5, last_error = $6, lease = NULL
         WHERE tenant_id = $1 AND id = $2 AND lease = $3 AND state = 'queued'",
        tenant,
        id,
        lease,
        due.to_sqlx(),
        i32::from(refused),
        error
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn give_up(
    tx: &mut TenantTx,
    id: Uuid,
    lease: Uuid,
    error: &str,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE mail.outbox SET state = 'dead', attempts = attempts + 1, last_error = $4, finished_at = $5, lease = NULL
         WHERE tenant_id = $1 AND id = $2 AND lease = $3 AND state = 'queued'",
        tenant,
        id,
        lease,
        error,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives up what was not sent in time, and says how many.
pub async fn give_up_expired(tx: &mut TenantTx, now: Timestamp) -> Result<u64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE mail.outbox
         SET state = 'dead', content = NULL, lease = NULL, finished_at = $2,
             last_error = 'not sent in time' || coalesce(': ' || last_error, '')
         WHERE tenant_id = $1 AND state = 'queued' AND due_at <= $2 AND expires_at <= $2",
        tenant,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected())
}

/// Deletes what was finished long ago.
pub async fn forget_finished(tx: &mut TenantTx, before: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "DELETE FROM mail.outbox WHERE tenant_id = $1 AND state <> 'queued' AND finished_at < $2",
        tenant,
        before.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Deletes a request that leads to no mail.
pub async fn delete(tx: &mut TenantTx, id: Uuid, lease: Uuid) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!("DELETE FROM mail.outbox WHERE tenant_id = $1 AND id = $2 AND lease = $3", tenant, id, lease)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts a letter in the place of the request for it. False where the lease is somebody else's by now.
pub async fn replace(tx: &mut TenantTx, row: &NewRow<'_>, lease: Uuid) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE mail.outbox SET user_id = $4, kind = $5, content = $6, expires_at = $7
         WHERE tenant_id = $1 AND id = $2 AND lease = $3 AND state = 'queued'",
        tenant,
        row.id,
        lease,
        row.user.map(|user| user.0),
        row.kind,
        row.content,
        row.expires_at.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A page of the mails about a user, newest first, without what they say.
pub async fn about(tx: &mut TenantTx, user: UserId, page: &Page) -> Result<Vec<MailedOut>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query!(
        "SELECT id, kind, recipient, state, created_at FROM mail.outbox
         WHERE tenant_id = $1 AND user_id = $2 ORDER BY created_at DESC, id DESC LIMIT $3",
        tenant,
        user.0,
        page.fetch()
    )
    .fetch_all(tx.conn())
    .await?;
    let mails = rows.into_iter().map(|row| MailedOut {
        id: row.id,
        kind: row.kind,
        recipient: row.recipient,
        state: row.state,
        created_at: row.created_at.to_jiff(),
    });
    Ok(mails.collect())
}

/// Deletes all mails about a user, sent or not: their address is in them.
pub async fn forget(tx: &mut TenantTx, user: UserId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("DELETE FROM mail.outbox WHERE tenant_id = $1 AND user_id = $2", tenant, user.0).execute(tx.conn()).await?;
    Ok(())
}

/// How a tenant's outbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub tenant: Uuid,
    pub queued: i64,
    pub dead: i64,
    /// Of the mails that wait: when the first of them was written.
    pub oldest: Option<Timestamp>,
    /// When the next one may be taken.
    pub due: Option<Timestamp>,
}

/// How the outboxes of these tenants stand, all in the database of `tx`; those with nothing to do and nothing dead are left out.
pub async fn survey(tx: &mut TenantTx, tenants: &[Uuid]) -> Result<Vec<Standing>, sqlx::Error> {
    let rows = query!(
        r#"SELECT tenant AS "tenant!", queued AS "queued!", dead AS "dead!", oldest, due FROM mail.survey($1)"#,
        tenants
    )
    .fetch_all(tx.conn())
    .await?;
    let standing = rows.into_iter().map(|row| Standing {
        tenant: row.tenant,
        queued: row.queued,
        dead: row.dead,
        oldest: row.oldest.map(jiff_sqlx::Timestamp::to_jiff),
        due: row.due.map(jiff_sqlx::Timestamp::to_jiff),
    });
    Ok(standing.collect())
}

struct ListedRow {
    id: Uuid,
    user_id: Option<Uuid>,
    kind: String,
    recipient: String,
    state: String,
    attempts: i32,
    last_error: Option<String>,
    due_at: jiff_sqlx::Timestamp,
    created_at: jiff_sqlx::Timestamp,
    expires_at: jiff_sqlx::Timestamp,
    finished_at: Option<jiff_sqlx::Timestamp>,
}

impl From<ListedRow> for Listed {
    fn from(row: ListedRow) -> Self {
        Self {
            id: row.id,
            user: row.user_id.map(UserId),
            kind: row.kind,
            recipient: row.recipient,
            state: row.state,
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            last_error: row.last_error,
            due_at: row.due_at.to_jiff(),
            created_at: row.created_at.to_jiff(),
            expires_at: row.expires_at.to_jiff(),
            finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
        }
    }
}

/// A page of mails, newest first.
pub async fn list(tx: &mut TenantTx, page: &Page, state: Option<MailState>) -> Result<Vec<Listed>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let (at, id) = page.after.unzip();
    let rows = query_as!(
        ListedRow,
        "SELECT id, user_id, kind, recipient, state, attempts, last_error, due_at, created_at, expires_at, finished_at
         FROM mail.outbox
         WHERE tenant_id = $1 AND ($2::text IS NULL OR state = $2)
           AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
         ORDER BY created_at DESC, id DESC LIMIT $5 OFFSET $6",
        tenant,
        state.map(MailState::as_str),
        at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        id,
        page.fetch(),
        i64::from(page.offset)
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Listed::from).collect())
}

pub async fn count(tx: &mut TenantTx, state: Option<MailState>) -> Result<i64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM mail.outbox WHERE tenant_id = $1 AND ($2::text IS NULL OR state = $2)"#,
        tenant,
        state.map(MailState::as_str)
    )
    .fetch_one(tx.conn())
    .await
}

pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<Listed>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let row = query_as!(
        ListedRow,
        "SELECT id, user_id, kind, recipient, state, attempts, last_error, due_at, created_at, expires_at, finished_at
         FROM mail.outbox WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant,
        id
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(row.map(Listed::from))
}

/// Lets a dead mail be tried anew.
pub async fn revive(tx: &mut TenantTx, id: Uuid, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE mail.outbox SET state = 'queued', attempts = 0, due_at = $3, finished_at = NULL
         WHERE tenant_id = $1 AND id = $2 AND state = 'dead' AND content IS NOT NULL",
        tenant,
        id,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

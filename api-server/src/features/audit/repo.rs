//! The room's SQL.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::{Entry, Integrity, Record};
use crate::{
    extract::{Page, UserId},
    infra::TenantTx,
};

/// Which entries of the list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub user: Option<UserId>,
    pub action: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub outcome: Option<&'static str>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

struct Row {
    id: Uuid,
    sequence: Option<i64>,
    user_id: Option<Uuid>,
    action: String,
    resource_type: String,
    resource_id: Option<String>,
    details: serde_json::Value,
    outcome: String,
    request_id: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<String>,
    hash: Option<Vec<u8>>,
    created_at: jiff_sqlx::Timestamp,
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            sequence: row.sequence,
            user: row.user_id.map(UserId),
            action: row.action,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            details: row.details,
            outcome: row.outcome,
            request_id: row.request_id,
            ip: row.ip_address,
            user_agent: row.user_agent,
            hash: row.hash.map(hex::encode),
            created_at: row.created_at.to_jiff(),
        }
    }
}

/// Remembers a deed, in the transaction that does it. Number and hash are given by the database.
pub async fn record_in_tx(tx: &mut TenantTx, entry: &Entry<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    let mut details = entry.details.clone();
    // The user answers for it, and it was not their hand.
    if let (Some(key), Some(details)) = (entry.device.and_then(|device| device.api_key), details.as_object_mut()) {
        details.insert("apiKeyId".into(), key.to_string().into());
    }
    query!(
        "INSERT INTO admin.audit_logs (tenant_id, id, user_id, action, resource_type, resource_id, details, outcome,
                                       request_id, ip_address, user_agent, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        tenant,
        id,
        entry.user.map(|user| user.0),
        entry.action,
        entry.resource_type,
        entry.resource_id,
        details,
        entry.outcome.as_str(),
        entry.device.and_then(|device| device.request_id.as_deref()),
        entry.device.map(|device| device.ip.as_str()),
        entry.device.and_then(|device| device.user_agent.as_deref()),
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A page of entries, newest first.
pub async fn list(tx: &mut TenantTx, page: &Page, filter: &Filter) -> Result<Vec<Record>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let (at, id) = page.after.unzip();
    let rows = query_as!(
        Row,
        "SELECT id, sequence, user_id, action, resource_type, resource_id, details, outcome, request_id, ip_address,
                user_agent, hash, created_at
         FROM admin.audit_logs
         WHERE tenant_id = $1
           AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
           AND ($4::uuid IS NULL OR user_id = $4)
           AND ($5::text IS NULL OR action = upper($5))
           AND ($6::text IS NULL OR resource_type = $6)
           AND ($7::text IS NULL OR resource_id = $7)
           AND ($8::text IS NULL OR outcome = $8)
           AND ($9::timestamptz IS NULL OR created_at >= $9)
           AND ($10::timestamptz IS NULL OR created_at < $10)
         ORDER BY created_at DESC, id DESC
         LIMIT $11 OFFSET $12",
        tenant,
        at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        id,
        filter.user.map(|user| user.0),
        filter.action,
        filter.resource_type,
        filter.resource_id,
        filter.outcome,
        filter.from.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        page.fetch(),
        i64::from(page.offset)
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// A page of what a user did and of what was done to their account, newest first.
pub async fn about(tx: &mut TenantTx, user: UserId, page: &Page) -> Result<Vec<Record>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query_as!(
        Row,
        "SELECT id, sequence, user_id, action, resource_type, resource_id, details, outcome, request_id, ip_address,
                user_agent, hash, created_at
         FROM admin.audit_logs
         WHERE tenant_id = $1 AND (user_id = $2 OR (resource_type = 'user' AND resource_id = $3))
         ORDER BY created_at DESC, id DESC
         LIMIT $4",
        tenant,
        user.0,
        user.to_string(),
        page.fetch()
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// Takes from all entries by a user what tells where they were. The chain stays whole: it holds a salted digest of that.
pub async fn forget(tx: &mut TenantTx, user: UserId) -> Result<u64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "UPDATE admin.audit_logs SET ip_address = NULL, user_agent = NULL, personal_salt = NULL
         WHERE tenant_id = $1 AND (user_id = $2 OR (resource_type = 'user' AND resource_id = $3))",
        tenant,
        user.0,
        user.to_string()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected())
}

/// Works the whole chain out again and compares.
pub async fn verify(tx: &mut TenantTx) -> Result<Integrity, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let found = query!(
        r#"WITH chain AS (
             SELECT l.sequence,
                    l.sequence = row_number() OVER w
                      AND l.hash = admin.audit_hash(coalesce(lag(l.hash) OVER w, ''), l)
                      AND (l.personal_salt IS NULL OR l.personal_digest = sha256(convert_to(
                             jsonb_build_array(l.personal_salt, l.ip_address, l.user_agent)::text, 'UTF8'))) AS good
             FROM admin.audit_logs l
             WHERE l.tenant_id = $1 AND l.sequence IS NOT NULL
             WINDOW w AS (ORDER BY l.sequence)
           )
           SELECT (SELECT count(*) FROM chain) AS "entries!",
                  (SELECT min(sequence) FROM chain WHERE good IS NOT TRUE) AS broken,
                  coalesce((SELECT h.sequence FROM admin.audit_heads h WHERE h.tenant_id = $1), 0) AS "last!",
                  coalesce((SELECT h.hash FROM admin.audit_heads h WHERE h.tenant_id = $1), '') AS "head!",
                  (SELECT l.hash FROM admin.audit_logs l WHERE l.tenant_id = $1 AND l.sequence IS NOT NULL
                   ORDER BY l.sequence DESC LIMIT 1) AS newest"#,
        tenant
    )
    .fetch_one(tx.conn())
    .await?;
    // Entries that were cut off at the end leave a good chain, but not the one that the head remembers.
    let cut = found.newest.unwrap_or_default() != found.head;
    let first_broken = found.broken.or_else(|| cut.then_some(found.entries.min(found.last) + 1));
    Ok(Integrity {
        intact: first_broken.is_none(),
        entries: found.entries,
        first_broken,
        head: hex::encode(found.head),
    })
}

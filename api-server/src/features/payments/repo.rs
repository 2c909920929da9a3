//! SQL, and nothing else.

use contract::Currency;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use rust_decimal::Decimal;
use serde_json::Value;
use uuid::Uuid;

use super::{
    model::{Failure, Kind, Payment, Status},
    money::Money,
};
use crate::{
    extract::{Page, UserId},
    infra::TenantTx,
};

/// Which payments of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Of this user only.
    pub user: Option<UserId>,
    pub status: Option<Status>,
    pub kind: Option<Kind>,
}

struct Row {
    id: Uuid,
    user_id: Uuid,
    amount: Decimal,
    currency: String,
    kind: String,
    status: String,
    description: Option<String>,
    provider: String,
    provider_reference: Option<String>,
    checkout_url: Option<String>,
    return_url: String,
    failure_code: Option<String>,
    failure_message: Option<String>,
    created_at: jiff_sqlx::Timestamp,
    updated_at: jiff_sqlx::Timestamp,
}

impl TryFrom<Row> for Payment {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
            sqlx::Error::Decode(Box::new(error))
        }
        let failure = row.failure_code.map(|code| Failure { code, message: row.failure_message.unwrap_or_default() });
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            money: Money::new(row.amount, Currency::new(row.currency).map_err(decode)?).map_err(decode)?,
            kind: row.kind.parse().map_err(decode)?,
            status: row.status.parse().map_err(decode)?,
            description: row.description,
            provider: row.provider,
            reference: row.provider_reference,
            checkout_url: row.checkout_url,
            return_url: row.return_url,
            failure,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

pub async fn insert(tx: &mut TenantTx, payment: &Payment) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO payments.payments
             (tenant_id, id, user_id, amount, currency, type, status, description, provider, return_url, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        tx.tenant().as_uuid(),
        payment.id,
        payment.user.0,
        payment.money.amount(),
        payment.money.currency().as_str(),
        payment.kind.as_str(),
        payment.status.as_str(),
        payment.description,
        payment.provider,
        payment.return_url,
        payment.created_at.to_sqlx(),
        payment.updated_at.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Keeps what can change in a payment.
pub async fn update(tx: &mut TenantTx, payment: &Payment) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE payments.payments
         SET status = $3, provider_reference = $4, checkout_url = $5, failure_code = $6, failure_message = $7, updated_at = $8
         WHERE tenant_id = $1 AND id = $2",
        tx.tenant().as_uuid(),
        payment.id,
        payment.status.as_str(),
        payment.reference,
        payment.checkout_url,
        payment.failure.as_ref().map(|failure| failure.code.as_str()),
        payment.failure.as_ref().map(|failure| failure.message.as_str()),
        payment.updated_at.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<Payment>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, user_id, trim_scale(amount) AS "amount!", currency, type AS kind, status, description, provider,
               provider_reference, checkout_url, return_url, failure_code, failure_message, created_at, updated_at
           FROM payments.payments WHERE tenant_id = $1 AND id = $2"#,
        tx.tenant().as_uuid(),
        id,
    )
    .fetch_optional(tx.conn())
    .await?;
    row.map(Payment::try_from).transpose()
}

/// As [`find`], and nobody else may change it until the transaction ends.
pub async fn lock(tx: &mut TenantTx, id: Uuid) -> Result<Option<Payment>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, user_id, trim_scale(amount) AS "amount!", currency, type AS kind, status, description, provider,
               provider_reference, checkout_url, return_url, failure_code, failure_message, created_at, updated_at
           FROM payments.payments WHERE tenant_id = $1 AND id = $2 FOR UPDATE"#,
        tx.tenant().as_uuid(),
        id,
    )
    .fetch_optional(tx.conn())
    .await?;
    row.map(Payment::try_from).transpose()
}

/// The payment that a provider knows under `reference`.
pub async fn find_by_reference(
    tx: &mut TenantTx,
    provider: &str,
    reference: &str,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT id FROM payments.payments WHERE tenant_id = $1 AND provider = $2 AND provider_reference = $3",
        tx.tenant().as_uuid(),
        provider,
        reference,
    )
    .fetch_optional(tx.conn())
    .await
}

/// Newest first.
pub async fn list(tx: &mut TenantTx, filter: Filter, page: &Page) -> Result<Vec<Payment>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, user_id, trim_scale(amount) AS "amount!", currency, type AS kind, status, description, provider,
               provider_reference, checkout_url, return_url, failure_code, failure_message, created_at, updated_at
           FROM payments.payments
           WHERE tenant_id = $1
             AND ($2::uuid IS NULL OR user_id = $2)
             AND ($3::text IS NULL OR status = $3)
             AND ($4::text IS NULL OR type = $4)
             AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
           ORDER BY created_at DESC, id DESC LIMIT $7 OFFSET $8"#,
        tx.tenant().as_uuid(),
        filter.user.map(|user| user.0),
        filter.status.map(Status::as_str),
        filter.kind.map(Kind::as_str),
        page.after.map(|(at, _)| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|(_, id)| id),
        page.fetch(),
        i64::from(page.offset),
    )
    .fetch_all(tx.conn())
    .await?;
    rows.into_iter().map(Payment::try_from).collect()
}

pub async fn count(tx: &mut TenantTx, filter: Filter) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM payments.payments
           WHERE tenant_id = $1
             AND ($2::uuid IS NULL OR user_id = $2)
             AND ($3::text IS NULL OR status = $3)
             AND ($4::text IS NULL OR type = $4)"#,
        tx.tenant().as_uuid(),
        filter.user.map(|user| user.0),
        filter.status.map(Status::as_str),
        filter.kind.map(Kind::as_str),
    )
    .fetch_one(tx.conn())
    .await
}

/// Remembers what moved a payment.
pub async fn insert_transaction(
    tx: &mut TenantTx,
    payment: &Payment,
    kind: &str,
    metadata: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO payments.payment_transactions
             (tenant_id, id, payment_id, transaction_type, amount, status, metadata, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tx.tenant().as_uuid(),
        Uuid::now_v7(),
        payment.id,
        kind,
        payment.money.amount(),
        payment.status.as_str(),
        metadata,
        payment.updated_at.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Remembers a provider's event. False when it was here before; of several at once all but one wait, and then see that.
pub async fn insert_event(
    tx: &mut TenantTx,
    provider: &str,
    event: &str,
    kind: &str,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "INSERT INTO payments.provider_events (tenant_id, provider, event_id, type, outcome, received_at)
         VALUES ($1, $2, $3, $4, 'received', $5) ON CONFLICT DO NOTHING",
        tx.tenant().as_uuid(),
        provider,
        event,
        kind,
        now.to_sqlx(),
    )
    .execute(tx.conn())
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Notes what became of an event.
pub async fn update_event(
    tx: &mut TenantTx,
    provider: &str,
    event: &str,
    outcome: &str,
    payment: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE payments.provider_events SET outcome = $4, payment_id = $5
         WHERE tenant_id = $1 AND provider = $2 AND event_id = $3",
        tx.tenant().as_uuid(),
        provider,
        event,
        outcome,
        payment,
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

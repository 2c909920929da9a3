//! Wire types and handlers.

use std::borrow::Cow;

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{
    Integrity, Outcome, Record,
    repo::{self, Filter},
};
use crate::{
    app::App,
    extract::{Can, Page, PageQuery, Query, Tenant, UserId, permissions::ReadAudit},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_audit_logs)).routes(routes!(verify_audit_logs))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct AuditQuery {
    /// Deeds of this user.
    user_id: Option<UserId>,
    /// Such as `LOGIN`; in any case.
    action: Option<String>,
    /// Such as `user` or `payment`.
    resource_type: Option<String>,
    resource_id: Option<String>,
    #[param(inline)]
    outcome: Option<Outcome>,
    /// Not before this time (RFC 3339).
    #[param(example = "2026-01-01T00:00:00Z")]
    #[serde(default, deserialize_with = "moment")]
    from: Option<Timestamp>,
    /// Before this time.
    #[serde(default, deserialize_with = "moment")]
    to: Option<Timestamp>,
}

/// A time, or a word about how to write one: a parser's own would name the digit that it stumbled over.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| D::Error::custom("write a time such as 2026-01-31T00:00:00Z"))
}

impl From<AuditQuery> for Filter {
    fn from(query: AuditQuery) -> Self {
        let AuditQuery { user_id, action, resource_type, resource_id, outcome, from, to } = query;
        let outcome = outcome.map(Outcome::as_str);
        Self { user: user_id, action, resource_type, resource_id, outcome, from, to }
    }
}

/// A deed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntryOut {
    id: Uuid,
    /// Its place in the tenant's chain.
    sequence: Option<i64>,
    /// Who did it; absent where nobody was signed in.
    user_id: Option<UserId>,
    #[schema(example = "LOGIN")]
    action: String,
    #[schema(example = "user")]
    resource_type: String,
    resource_id: Option<String>,
    details: Value,
    #[schema(value_type = Outcome)]
    outcome: String,
    request_id: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<String>,
    /// SHA-256 over this entry and the one before it.
    hash: Option<String>,
    created_at: Timestamp,
}

impl From<Record> for AuditEntryOut {
    fn from(record: Record) -> Self {
        let Record {
            id,
            sequence,
            user,
            action,
            resource_type,
            resource_id,
            details,
            outcome,
            request_id,
            ip,
            user_agent,
            hash,
            created_at,
        } = record;
        Self {
            id,
            sequence,
            user_id: user,
            action,
            resource_type,
            resource_id,
            details,
            outcome,
            request_id,
            ip_address: ip,
            user_agent,
            hash,
            created_at,
        }
    }
}

/// What was done in the tenant, newest first.
#[utoipa::path(get, path = "/admin/audit-logs", operation_id = "list_audit_logs", tag = "audit", params(PageQuery, AuditQuery),
    security(("bearer" = ["audit:read"])), responses(
    (status = 200, description = "A page of entries", body = Envelope<Vec<AuditEntryOut>>),
    (status = 400, description = "A parameter breaks its rule", body = ErrorBody),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn list_audit_logs(
    _may: Can<ReadAudit>,
    State(app): State<App>,
    tenant: Tenant,
    page: Page,
    Query(query): Query<AuditQuery>,
) -> Answer<Vec<AuditEntryOut>> {
    let mut tx = app.db.begin(tenant.id).await?;
    let mut records = repo::list(&mut tx, &page, &query.into()).await?;
    tx.commit().await?;
    let pagination = page.cut(&mut records, None, |record| (record.created_at, record.id));
    Ok(Reply::ok(records.into_iter().map(AuditEntryOut::from).collect()).with_pagination(pagination))
}

/// Whether the audit is as it was written: the chain of hashes is worked out again.
#[utoipa::path(get, path = "/admin/audit-logs/integrity", operation_id = "verify_audit_logs", tag = "audit",
    security(("bearer" = ["audit:read"])), responses(
    (status = 200, description = "What was found", body = Envelope<Integrity>),
    (status = 403, description = "The role does not allow it", body = ErrorBody),
))]
async fn verify_audit_logs(_may: Can<ReadAudit>, State(app): State<App>, tenant: Tenant) -> Answer<Integrity> {
    let mut tx = app.db.begin(tenant.id).await?;
    let integrity = repo::verify(&mut tx).await?;
    tx.commit().await?;
    Ok(Reply::ok(integrity))
}

//! `/metrics` on the main port: the process for Prometheus, or the tenant's figures for who may read them.
//!
//! What is told to everybody has no tenant, no policy and no provider in it; all of that is on the management port.

use axum::{
    extract::{FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use http::header;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use jiff_sqlx::ToSqlx;
use serde::Serialize;
use utoipa::ToSchema;

use super::process;
use crate::{
    app::App,
    error::ApiError,
    extract::{Can, Tenant, permissions::ReadMetrics},
    infra::TenantTx,
    management::openmetrics,
    reply::ErrorBody,
};

/// A user counts as active this long after signing in.
const ACTIVE: SignedDuration = SignedDuration::from_hours(1);
const VERSION: &str = concat!("tenantry-api ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize, ToSchema)]
pub struct Figures {
    users: ActiveUsers,
    transactions: Transactions,
    system: System,
    timestamp: Timestamp,
}

#[derive(Serialize, ToSchema)]
pub struct ActiveUsers {
    /// Users who signed in within the last hour.
    active: i64,
}

#[derive(Serialize, ToSchema)]
pub struct Transactions {
    /// Payments made today (UTC).
    total: i64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct System {
    memory: process::Memory,
    /// Seconds since the start.
    uptime: f64,
    cpu_usage: process::Cpu,
    #[schema(example = "tenantry-api 0.1.0")]
    runtime_version: &'static str,
    /// The same as `runtimeVersion`, under the name that older dashboards read.
    node_version: &'static str,
}

/// Figures of the service.
///
/// OpenMetrics text about the process; with `Accept: application/json` a document about the tenant, for who holds
/// `metrics:read`.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "service", responses(
    (status = 200, description = "The figures", content(
        (String = "application/openmetrics-text"),
        (Figures = "application/json"),
    )),
    (status = 401, description = "The document is asked for, by nobody who is signed in", body = ErrorBody),
    (status = 403, description = "The document is asked for, and the role does not allow it", body = ErrorBody),
))]
pub async fn get_metrics(State(app): State<App>, tenant: Tenant, request: Request) -> Result<Response, ApiError> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accept.contains("application/json") {
        return Ok(openmetrics(app.metrics.encode_public()));
    }
    let (mut parts, _) = request.into_parts();
    Can::<ReadMetrics>::from_request_parts(&mut parts, &app).await?;
    let now = app.clock.now();
    let mut tx = app.db.begin(tenant.id).await?;
    let (active, total) = (active_users(&mut tx, now).await?, payments_of_today(&mut tx, now).await?);
    tx.commit().await?;
    let system = System {
        memory: process::memory(),
        uptime: now.duration_since(app.started_at).as_secs_f64(),
        cpu_usage: process::cpu(),
        runtime_version: VERSION,
        node_version: VERSION,
    };
    let figures =
        Figures { users: ActiveUsers { active }, transactions: Transactions { total }, system, timestamp: now };
    Ok(axum::Json(figures).into_response())
}

async fn active_users(tx: &mut TenantTx, now: Timestamp) -> Result<i64, sqlx::Error> {
    let (tenant, since) = (tx.tenant().as_uuid(), now.saturating_sub(ACTIVE).unwrap_or(Timestamp::MIN));
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM auth.users WHERE tenant_id = $1 AND is_active AND last_login_at >= $2"#,
        tenant,
        since.to_sqlx()
    )
    .fetch_one(tx.conn())
    .await
}

async fn payments_of_today(tx: &mut TenantTx, now: Timestamp) -> Result<i64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let midnight = now.to_zoned(TimeZone::UTC).start_of_day().map_or(now, |day| day.timestamp());
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM payments.payments WHERE tenant_id = $1 AND created_at >= $2"#,
        tenant,
        midnight.to_sqlx()
    )
    .fetch_one(tx.conn())
    .await
}

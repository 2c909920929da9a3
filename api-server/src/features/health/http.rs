//! Wire types and handlers.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    figures::{__path_get_metrics, get_metrics},
    process,
};
use crate::{app::App, openapi::routes};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_health))
}

/// What belongs to a tenant's host.
pub fn at_root() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_metrics))
}

#[derive(Serialize, ToSchema)]
pub struct HealthOut {
    /// `healthy`, or `unhealthy` when a check is.
    #[schema(example = "healthy")]
    status: &'static str,
    timestamp: Timestamp,
    /// Seconds since the start.
    #[schema(example = 3600.5)]
    uptime: f64,
    memory: process::Memory,
    checks: Checks,
}

#[derive(Serialize, ToSchema)]
pub struct Checks {
    #[schema(example = "healthy")]
    database: &'static str,
    #[schema(example = "healthy")]
    redis: &'static str,
    /// What comes from outside of the platform's own stores: the tenants' documents.
    #[schema(example = "healthy")]
    external: &'static str,
}

/// How the service is.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "service", responses(
    (status = 200, description = "All is well", body = HealthOut),
    (status = 503, description = "Something is not", body = HealthOut),
))]
async fn get_health(State(app): State<App>) -> Response {
    let standing = app.health.standing().await;
    let word = |well: bool| if well { "healthy" } else { "unhealthy" };
    let (database, redis) = (standing.database.is_none(), standing.redis.is_none());
    let external = app.tenants.is_complete();
    let well = database && redis && external;
    let now = app.clock.now();
    let health = HealthOut {
        status: word(well),
        timestamp: now,
        uptime: now.duration_since(app.started_at).as_secs_f64(),
        memory: process::memory(),
        checks: Checks { database: word(database), redis: word(redis), external: word(external) },
    };
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(health)).into_response()
}

//! The management port: probes, metrics, and which revision of which tenant is served. Not for the outside.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use contract::Revision;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    app::App,
    tenancy::{Changes, Rejected, Report},
};

/// A caller may wait this long for a revision.
const LONGEST_WAIT: u64 = 30;

pub fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/startupz", get(started))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/internal/config", get(list_config))
        .route("/internal/config/{tenant}", get(await_config))
        .with_state(app)
}

/// Started when everything was tried once: PostgreSQL and Redis before there is a listener, the documents since. What is
/// still away then is waited for by readiness, and a restart would not bring it.
async fn started(State(app): State<App>) -> Response {
    if app.tenants.is_complete() || app.health.was_tried() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "starting: the tenants' documents are looked for\n").into_response()
}

/// Ready when requests can be answered; the body names what is waited for.
async fn ready(State(app): State<App>) -> Response {
    let mut waiting = vec![];
    if app.health.is_draining() {
        waiting.push("stopping: requests in flight are finished".to_owned());
    }
    if !app.tenants.is_complete() {
        waiting.push("tenants: no complete set of documents has been loaded yet".to_owned());
    }
    // Redis is not waited for: without it sessions are looked up in the database and limits follow their failureMode.
    waiting.extend(app.health.database_awaited().await);
    if waiting.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready, waiting for:\n- {}\n", waiting.join("\n- "))).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    // A look at the stores for the next reader. This one does not wait for it: what autoscalers and alerts are to know must
    // be told also while a store is silent.
    let health = app.health.clone();
    tokio::spawn(async move { health.standing().await });
    // Measured only when asked.
    app.metrics.db_connections.set(app.db.connections().into());
    openmetrics(app.metrics.encode())
}

/// An answer in the text format of OpenMetrics.
pub fn openmetrics(text: Result<String, std::fmt::Error>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Since {
    since: Option<String>,
    #[serde(default)]
    wait_seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigOut {
    /// `?since=` of the next question.
    cursor: String,
    /// Whether this is all there is, or what changed since the cursor that was given.
    whole: bool,
    tenants: BTreeMap<String, Loaded>,
    rejected: BTreeMap<String, Arc<Rejected>>,
    gone: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Loaded {
    revision: Revision,
    loaded_at: Option<Timestamp>,
}

/// What is served of every tenant. With `since`, what changed after that: at once if something did, else when it does or
/// when the time is up. One such question at a time is all that an operator needs to know of ten thousand tenants.
async fn list_config(State(app): State<App>, Query(question): Query<Since>) -> Json<ConfigOut> {
    let since = question.since.as_deref().and_then(|text| text.parse().ok());
    if let Some(since) = since {
        let time = Duration::from_secs(question.wait_seconds.min(LONGEST_WAIT));
        // Late or not, what is held then is told.
        let _ = timeout(time, app.tenants.changed_since(since)).await;
    }
    let Changes { cursor, whole, reports, gone } = app.tenants.changes_since(since);
    let (mut tenants, mut rejected) = (BTreeMap::new(), BTreeMap::new());
    for Report { tenant, revision, loaded_at, rejected: refusal } in reports {
        if let Some(refusal) = refusal {
            rejected.insert(tenant.clone(), refusal);
        }
        if let Some(revision) = revision {
            tenants.insert(tenant, Loaded { revision, loaded_at });
        }
    }
    Json(ConfigOut { cursor: cursor.to_string(), whole, tenants, rejected, gone })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wait {
    revision: Option<String>,
    #[serde(default)]
    wait_seconds: u64,
}

/// Answers when `revision` is served or refused, or when the time is up.
async fn await_config(State(app): State<App>, Path(tenant): Path<String>, Query(wait): Query<Wait>) -> Response {
    if let Some(revision) = &wait.revision {
        let time = Duration::from_secs(wait.wait_seconds.min(LONGEST_WAIT));
        // Late or not, what is held then is told.
        let _ = timeout(time, app.tenants.settled(&tenant, revision)).await;
    }
    match app.tenants.report(&tenant) {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": format!("no tenant {tenant:?} here") }))).into_response(),
    }
}

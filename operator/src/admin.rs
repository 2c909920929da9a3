//! What the cluster asks of this process: `/livez`, `/readyz`, `/metrics`. Answered by every replica, leader or not.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{context::Ctx, metrics::Census, readiness::Readiness};

#[derive(Clone)]
struct Admin {
    ctx: Arc<Ctx>,
    readiness: Readiness,
}

pub fn router(ctx: Arc<Ctx>, readiness: Readiness) -> Router {
    Router::new()
        // Alive is whoever answers: the runtime turns. What is broken outside is not cured by a restart.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin { ctx, readiness })
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let awaited = admin.readiness.awaited();
    if awaited.is_empty() {
        return "ok\n".into_response();
    }
    let sentence = format!("waiting for {}\n", awaited.join("\nwaiting for "));
    (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let Ctx { metrics, stores, replicas, .. } = admin.ctx.as_ref();
    match metrics.render(stores, &Census::take(&admin.ctx), replicas) {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

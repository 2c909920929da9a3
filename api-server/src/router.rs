//! Every route on one page, grouped by who calls it.
//!
//! Routes exist only through [`OpenApiRouter`], so that the document and the server cannot drift apart; but for the open
//! connections of `features/realtime`, whose protocol OpenAPI cannot describe.

use axum::{Router, response::IntoResponse};
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, error::ApiError, features, middleware, openapi};

pub use contract::limits::{API_ALIAS as ALIAS, API_PREFIX as PREFIX};

/// What frontends call, without the prefix.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(features::auth::router())
        .merge(features::factors::router())
        .merge(features::recovery::router())
        .merge(features::identities::router())
        .merge(features::users::router())
        .merge(features::api_keys::router())
        .merge(features::audit::router())
        .merge(features::mail::router())
        .merge(features::payments::router())
        .merge(features::payments::webhooks())
}

/// What is found at the root of a tenant's host.
fn at_root() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(features::auth::well_known())
        .merge(features::factors::well_known())
        .merge(features::health::at_root())
}

/// What every host has, tenant or not.
fn everywhere() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(features::health::router()).merge(features::payments::named_webhooks())
}

/// Every route that the document tells of, once.
#[cfg(debug_assertions)]
pub fn described(document: OpenApiRouter<App>) -> OpenApiRouter<App> {
    document.merge(everywhere()).merge(at_root()).nest(PREFIX, api())
}

/// The server's main port.
pub fn router(app: App) -> Router {
    let tenants = Router::new()
        .merge(at_root())
        .nest(PREFIX, api().into())
        .nest(ALIAS, Router::from(api()).merge(at_root()))
        .merge(features::realtime::router())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let all = middleware::tenant_stack(tenants, &app)
        .merge(everywhere())
        .merge(Router::new().nest(ALIAS, features::health::router().into()))
        .merge(openapi::pages());
    middleware::outer_stack(all, &app).with_state(app)
}

async fn not_found() -> impl IntoResponse {
    ApiError::not_found("There is nothing at this path: see /docs")
}

async fn method_not_allowed() -> impl IntoResponse {
    let message = "This path does not take this method: see the header Allow";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}

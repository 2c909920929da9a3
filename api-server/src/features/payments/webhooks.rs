//! Where providers tell us what was paid: raw bytes, believed for their signature and for nothing else.
//!
//! The answer is 2xx only when the effect is committed (or there is none to have), so that the provider sends again what
//! we could not take.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    metrics::Outcome,
    providers::{self, WebhookError, stripe::signature::SignatureError},
};
use crate::{
    app::App,
    error::ApiError,
    extract::{Path, Tenant},
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
    tenancy::TenantSnapshot,
};

/// Stripe's largest events stay well below.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// At the tenant's own host.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(receive_webhook)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// At any host, with the tenant in the path.
pub fn named() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(receive_stripe_webhook)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// That the webhook has arrived for good.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    #[schema(example = true)]
    received: bool,
}

/// Take a webhook of the payment provider
///
/// For Stripe: events of API v1 (`checkout.session.*`), signed by one of the tenant's signing secrets.
#[utoipa::path(
    post,
    path = "/payments/webhook",
    tag = "payments",
    params(("Stripe-Signature" = String, Header, description = "`t=<unix time>,v1=<hex>`")),
    request_body(content = String, content_type = "application/json", description = "The event, byte for byte as it was signed"),
    responses(
        (status = 200, body = Envelope<Received>, description = "Taken in; of a repetition nothing happens a second time"),
        (status = 400, body = ErrorBody, description = "Not signed by the tenant's provider, too old, or no event"),
        (status = 413, body = ErrorBody, description = "Larger than any event"),
    ),
)]
async fn receive_webhook(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Received> {
    receive(&app, &tenant, &headers, &body).await
}

/// Take a webhook of Stripe for the named tenant
#[utoipa::path(
    post,
    path = "/webhooks/stripe/{tenant}",
    tag = "payments",
    params(
        ("tenant" = String, Path, description = "The Tenant's name"),
        ("Stripe-Signature" = String, Header, description = "`t=<unix time>,v1=<hex>`"),
    ),
    request_body(content = String, content_type = "application/json", description = "The event, byte for byte as it was signed"),
    responses(
        (status = 200, body = Envelope<Received>, description = "Taken in; of a repetition nothing happens a second time"),
        (status = 400, body = ErrorBody, description = "Not signed by the tenant's provider, too old, or no event"),
        (status = 404, body = ErrorBody, description = "There is no such tenant"),
    ),
)]
async fn receive_stripe_webhook(
    State(app): State<App>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Received> {
    let tenant: Arc<TenantSnapshot> = app
        .tenants
        .by_name(&tenant)
        .ok_or_else(|| ApiError::not_found(format!("No tenant is named {tenant:?}")).with_code("TENANT_NOT_FOUND"))?;
    receive(&app, &tenant, &headers, &body).await
}

async fn receive(app: &App, tenant: &TenantSnapshot, headers: &HeaderMap, body: &[u8]) -> Answer<Received> {
    let payments = &app.payments;
    let now = app.clock.now();
    // A tenant may have several accounts; the one whose secret signed it is meant.
    let mut refusal = WebhookError::Signature(SignatureError::Mismatch);
    for (provider, account) in tenant.providers.iter().filter_map(|config| providers::of(tenant, config)) {
        match provider.read_webhook(&account, headers, body, now) {
            Ok(event) => {
                let outcome = payments.receive(tenant, provider, &account, event).await?;
                payments.metrics.webhook(outcome);
                return Ok(Reply::ok(Received { received: true }));
            }
            Err(WebhookError::Signature(SignatureError::Mismatch)) => {}
            Err(other) => refusal = other,
        }
    }
    payments.metrics.webhook(Outcome::Refused);
    tracing::warn!(tenant = %tenant.name, error = %refusal, "webhook refused");
    Err(ApiError::bad_request(capitalized(&refusal.to_string())).with_code("WEBHOOK_REFUSED"))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

//! How much is allowed: every request of a tenant passes the tenant's limits, and every answer says what is left.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use super::Scope;
use crate::{
    app::App,
    condition,
    error::{ApiError, Detail},
    limits::{Caller, Outcome, headers as limit_headers},
};

pub async fn limit(State(app): State<App>, scope: Scope, request: Request, next: Next) -> Response {
    let Some(tenant) = scope.tenant() else {
        return next.run(request).await;
    };
    let (method, headers, user) = (request.method(), request.headers(), scope.user());
    let caller = Caller {
        method,
        path: scope.path(),
        user: user.map(|user| user.id.0),
        api_key: user.and_then(|user| user.as_machine()).map(|machine| machine.key),
        address: scope.client_ip(),
        headers,
        facts: &|| condition::facts(method, scope.path(), scope.client_ip(), headers, user.map(AsRef::as_ref)),
    };
    let decision = app.limiter.decide(&tenant.rate_limits, &caller).await;
    let mut response = match &decision.outcome {
        Outcome::Admitted => next.run(request).await,
        Outcome::Limited { limit, retry_ms } => limited(limit, *retry_ms).into_response(),
        Outcome::Unavailable { limit } => {
            let message =
                format!("The limit {limit} cannot be counted at the moment, and lets nothing through until it can");
            ApiError::unavailable(message, 1).into_response()
        }
    };
    limit_headers::write(&decision, app.clock.now(), response.headers_mut());
    response
}

fn limited(limit: &str, retry_ms: u64) -> ApiError {
    let seconds = retry_ms.div_ceil(1_000).max(1);
    let message = format!("Too many requests: the limit {limit} is used up, try again in {seconds} s");
    let detail = Detail::new("limit", "RATE_LIMITED", limit.to_owned());
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).with_details(vec![detail])
}

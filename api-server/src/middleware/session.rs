//! Who asks, where a bearer token says so.
//!
//! Nothing is refused here: a request without a token goes on as nobody's, and one with a bad token keeps the reason. A
//! route that needs somebody says so with `Me` or `Can<…>`, and then the reason is told; a stale token on a public route
//! (a client that always sends what it has, also when signing in again) hurts nobody.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header};

use super::Scope;
use crate::{app::App, condition, extract::CurrentUser};

pub async fn authenticate(State(app): State<App>, scope: Scope, request: Request, next: Next) -> Response {
    if let (Some(token), Some(tenant)) = (bearer(request.headers()), scope.tenant()) {
        let user = app.auth.authenticate(tenant, token).await.map(|mut user| {
            let facts = |user: &CurrentUser| {
                condition::facts(request.method(), scope.path(), scope.client_ip(), request.headers(), Some(user))
            };
            user.meet(app.clock.now(), facts);
            Arc::new(user)
        });
        scope.set_user(user.map_err(Into::into));
    }
    next.run(request).await
}

/// The token of `Authorization: Bearer <token>`. Other schemes are not ours.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

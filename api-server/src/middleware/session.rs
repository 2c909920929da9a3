//! Who asks, where a bearer token or an API key says so.
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
use http::{HeaderMap, HeaderName, Method, header};

use super::Scope;
use crate::{app::App, condition, error::ApiError, extract::CurrentUser, features::api_keys, tenancy::TenantSnapshot};

/// Where a key may stand for programs that cannot choose the header Authorization.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

pub async fn authenticate(State(app): State<App>, scope: Scope, request: Request, next: Next) -> Response {
    if let (Some(credential), Some(tenant)) = (Credential::of(request.headers()), scope.tenant()) {
        let user = recognize(&app, tenant, &scope, request.method(), request.headers(), credential).await;
        scope.set_user(user);
    }
    next.run(request).await
}

/// Who shows this, at this moment: the one place that says so, for requests and for connections that stay open. The parts of
/// the request are what conditions of role bindings speak of.
pub async fn recognize(
    app: &App,
    tenant: &Arc<TenantSnapshot>,
    scope: &Scope,
    method: &Method,
    headers: &HeaderMap,
    credential: Credential<'_>,
) -> Result<Arc<CurrentUser>, ApiError> {
    let mut user = match credential {
        Credential::Token(token) => app.auth.authenticate(tenant, token).await?,
        Credential::Key(key) => app.api_keys.authenticate(tenant, key).await?,
    };
    let facts = |user: &CurrentUser| condition::facts(method, scope.path(), scope.client_ip(), headers, Some(user));
    user.meet(app.clock.now(), facts);
    Ok(Arc::new(user))
}

/// What a request shows of itself.
pub enum Credential<'a> {
    Token(&'a str),
    Key(&'a str),
}

impl<'a> Credential<'a> {
    /// `Authorization: Bearer` comes first; `X-Api-Key` counts where there is none.
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        match bearer(headers) {
            Some(token) => Some(Self::given(token)),
            // One that is no text cannot be a key either, and is refused as a bad one.
            None => headers.get(X_API_KEY).map(|key| Self::Key(key.to_str().unwrap_or_default())),
        }
    }

    /// A token or a key, which tells itself by its beginning.
    pub fn given(text: &'a str) -> Self {
        if text.starts_with(api_keys::MARK) { Self::Key(text) } else { Self::Token(text) }
    }
}

/// The token of `Authorization: Bearer <token>`. Other schemes are not ours.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

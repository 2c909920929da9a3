//! Where a client keeps its refresh token: in its own hands, or in a cookie that no script can read.
//!
//! A client asks for the cookie with the header `X-Refresh-Token: cookie`, at sign-in and at every use. No page of another
//! site can send that header unless the tenant's list of origins names it, and so none can use the cookie either.

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use super::session_out::SessionOut;
use crate::{
    error::{ApiError, Detail},
    middleware::Scope,
    reply::Reply,
    tenancy::TenantSnapshot,
};

const ASKED_BY: HeaderName = HeaderName::from_static("x-refresh-token");
/// The prefix makes browsers insist on `Secure`.
const NAME: &str = "__Secure-refresh";

/// As a handler's parameter: how this client wants it, and the token that its cookie holds.
pub enum Keep {
    InHand,
    InCookie { held: Option<String>, seconds: u32 },
}

impl Keep {
    fn of(headers: &HeaderMap, tenant: &TenantSnapshot) -> Result<Self, ApiError> {
        match headers.get(ASKED_BY).map(HeaderValue::as_bytes) {
            None => Ok(Self::InHand),
            Some(b"cookie") => Ok(Self::InCookie { held: cookie(headers), seconds: tenant.auth.refresh_token_seconds }),
            Some(_) => {
                let detail = Detail::new("X-Refresh-Token", "INVALID", "use cookie, or leave the header out");
                Err(ApiError::validation(vec![detail]))
            }
        }
    }

    /// The refresh token of a request: that of the body comes first.
    pub fn token(&self, of_body: Option<String>) -> Option<String> {
        match self {
            Self::InHand => of_body,
            Self::InCookie { held, .. } => of_body.or_else(|| held.clone()),
        }
    }

    /// Moves the refresh token from the answer into the cookie, where it is to be kept there.
    pub fn place(&self, mut reply: Reply<SessionOut>) -> Reply<SessionOut> {
        let Self::InCookie { seconds, .. } = self else { return reply };
        match reply.data_mut().refresh_token.take() {
            Some(token) => with_cookie(reply, &token, *seconds),
            None => reply,
        }
    }

    /// Takes the cookie away with the session.
    pub fn clear<T>(&self, reply: Reply<T>) -> Reply<T> {
        match self {
            Self::InHand => reply,
            Self::InCookie { .. } => with_cookie(reply, "", 0),
        }
    }
}

fn with_cookie<T>(reply: Reply<T>, token: &str, seconds: u32) -> Reply<T> {
    // Both prefixes of the API begin so. A token is hex, so this is always a header's text.
    let cookie = format!("{NAME}={token}; Path=/api; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    match HeaderValue::try_from(cookie) {
        Ok(mut cookie) => {
            cookie.set_sensitive(true);
            reply.with_header(header::SET_COOKIE, cookie)
        }
        Err(_) => reply,
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, token)| token.to_owned())
}

impl<S: Send + Sync> FromRequestParts<S> for Keep {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        let tenant =
            scope.tenant().ok_or_else(|| ApiError::internal("the route stands outside of the tenant's stack"))?;
        Self::of(&parts.headers, tenant)
    }
}

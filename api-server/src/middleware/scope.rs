//! What is known of one request so far. The stack fills it from outside in; the log, the answer and the extractors read it.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use axum::extract::FromRequestParts;
use contract::tenant::Dialect;
use http::request::Parts;

use crate::{error::ApiError, extract::CurrentUser, tenancy::TenantSnapshot};

/// Cheap to clone; every clone speaks of the same request.
/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub ip: IpAddr,
    pub behind_proxy: bool,
}

#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    request_id: String,
    path: String,
    client: Client,
    tenant: OnceLock<Arc<TenantSnapshot>>,
    user: OnceLock<Result<Arc<CurrentUser>, ApiError>>,
}

impl Scope {
    pub fn new(request_id: String, path: String, client: Client) -> Self {
        Self(Arc::new(Inner { request_id, path, client, tenant: OnceLock::new(), user: OnceLock::new() }))
    }

    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// The path as the caller wrote it, without the query.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The caller's address, or that which a trusted proxy saw.
    pub fn client_ip(&self) -> IpAddr {
        self.0.client.ip
    }

    /// Whether that is the address of a proxy that nobody declared, and so of everybody who comes through it.
    pub fn behind_proxy(&self) -> bool {
        self.0.client.behind_proxy
    }

    pub fn tenant(&self) -> Option<&Arc<TenantSnapshot>> {
        self.0.tenant.get()
    }

    /// The signed-in user, if there is one.
    pub fn user(&self) -> Option<&Arc<CurrentUser>> {
        self.0.user.get()?.as_ref().ok().filter(|user| !user.limited)
    }

    /// The signed-in user, or why there is none.
    pub fn signed_in(&self) -> Result<&Arc<CurrentUser>, ApiError> {
        let user = self.recognized()?;
        user.whole()?;
        Ok(user)
    }

    /// The signed-in user, or somebody whose session may only set up a second factor.
    pub fn recognized(&self) -> Result<&Arc<CurrentUser>, ApiError> {
        match self.0.user.get() {
            Some(user) => user.as_ref().map_err(Clone::clone),
            None => Err(ApiError::unauthenticated()),
        }
    }

    /// The shape of answers that the tenant asks for.
    pub fn dialect(&self) -> Dialect {
        self.tenant().map(|tenant| tenant.dialect).unwrap_or_default()
    }

    /// Set once, by `middleware/tenant.rs`; a second call changes nothing.
    pub fn set_tenant(&self, tenant: Arc<TenantSnapshot>) {
        let _ = self.0.tenant.set(tenant);
    }

    /// Set once, by `middleware/session.rs`; a second call changes nothing.
    pub fn set_user(&self, user: Result<Arc<CurrentUser>, ApiError>) {
        let _ = self.0.user.set(user);
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let scope = parts.extensions.get::<Self>().cloned();
        scope.ok_or_else(|| ApiError::internal("the route stands outside of the middleware stack"))
    }
}

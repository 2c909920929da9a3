//! The tenant of the request.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::{error::ApiError, middleware::Scope, tenancy::TenantSnapshot};

/// The tenant's snapshot, as it was when the request came in: one request never sees two revisions.
#[derive(Clone)]
pub struct Tenant(pub Arc<TenantSnapshot>);

impl Deref for Tenant {
    type Target = TenantSnapshot;
    fn deref(&self) -> &TenantSnapshot {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        let tenant = scope.tenant().cloned();
        tenant.map(Self).ok_or_else(|| ApiError::internal("the route stands outside of the tenant's stack"))
    }
}

//! Who is asking.

use std::{fmt, ops::Deref, sync::Arc};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use contract::{
    RoleName,
    access::{self, Permission, SubjectKind},
};
use http::request::Parts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{error::ApiError, middleware::Scope, tenancy::TenantSnapshot};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        #[schema(value_type = Uuid, example = "0192f0c1-7a00-7000-8000-000000000001")]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A user's id: UUIDv7, so that the newest stand together in an index.
    UserId
);
id!(
    /// A session's id: one sign-in on one device, and the family of its refresh tokens.
    SessionId
);

/// The signed-in user, as the session, the database and the tenant's role bindings say at this moment.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    pub id: UserId,
    pub session: SessionId,
    pub email: String,
    /// The primary role first, then those that bindings give.
    pub roles: Vec<RoleName>,
    role: RoleName,
    permissions: Vec<Permission>,
}

/// Who somebody is, apart from what a tenant lets them do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    pub id: UserId,
    pub email: String,
    pub role: RoleName,
    pub groups: Vec<String>,
}

impl CurrentUser {
    /// Adds up what the primary role and the tenant's bindings allow now. Nothing of it comes from the token: a binding
    /// that is revoked or has expired is gone at the next request.
    pub fn new(session: SessionId, identity: &Identity, tenant: &TenantSnapshot, now: Timestamp) -> Self {
        let mut roles = vec![identity.role.clone()];
        let mut permissions = access::built_in(&identity.role).unwrap_or_default();
        let id = identity.id.to_string();
        let subjects = [(SubjectKind::User, identity.email.as_str()), (SubjectKind::User, id.as_str())];
        let groups = identity.groups.iter().map(|group| (SubjectKind::Group, group.as_str()));
        for (kind, name) in subjects.into_iter().chain(groups) {
            for binding in tenant.bindings(kind, name, now) {
                if !roles.contains(&binding.role) {
                    roles.push(binding.role.clone());
                }
                permissions.extend_from_slice(&binding.permissions);
            }
        }
        Self { id: identity.id, session, email: identity.email.clone(), role: identity.role.clone(), roles, permissions }
    }

    /// The primary role, for where only one fits: a token's `role`, a user's `role`.
    pub fn role(&self) -> &RoleName {
        &self.role
    }

    pub fn may(&self, resource: &str, verb: &str) -> bool {
        self.permissions.iter().any(|held| held.allows(resource, verb))
    }
}

/// As a handler's parameter: refuses who is not signed in. As `Option<Me>`: `None` for them.
#[derive(Clone)]
pub struct Me(pub Arc<CurrentUser>);

impl Deref for Me {
    type Target = CurrentUser;
    fn deref(&self) -> &CurrentUser {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Me {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        scope.signed_in().cloned().map(Self)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Me {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        Ok(scope.user().cloned().map(Self))
    }
}

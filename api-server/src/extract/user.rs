//! Who is asking.

use std::{fmt, ops::Deref, sync::Arc};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use contract::{
    RoleName,
    access::{Binding, Permission, SubjectKind},
};
use http::request::Parts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{condition::Facts, error::ApiError, middleware::Scope, tenancy::TenantSnapshot};

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

/// A user as the API knows them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    /// The primary role, for where only one fits: a token's `role`, a user's `role`.
    pub role: RoleName,
    /// Further roles that were given through the API.
    #[serde(default)]
    pub assigned_roles: Vec<RoleName>,
    /// Subjects of kind Group that the user belongs to.
    pub groups: Vec<String>,
    pub email_verified: bool,
    pub is_active: bool,
    pub last_login_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Positions of the bindings that name the user: by address, by id, or by a group.
fn bindings_of(user: &User, tenant: &TenantSnapshot) -> impl Iterator<Item = usize> {
    let groups = user.groups.iter().map(|group| (SubjectKind::Group, group.as_str()));
    let subjects = [(SubjectKind::User, user.email.as_str())].into_iter().chain(groups);
    let by_id = tenant.bindings_of(SubjectKind::User, &user.id.to_string());
    subjects.flat_map(|(kind, name)| tenant.bindings_of(kind, name)).chain(by_id).copied()
}

impl User {
    /// The roles of the account itself; RoleBindings may give more.
    pub fn own_roles(&self) -> impl Iterator<Item = &RoleName> {
        std::iter::once(&self.role).chain(&self.assigned_roles)
    }

    /// The tenant's bindings that name the user, whatever their conditions and ends.
    pub fn bindings_in<'a>(&self, tenant: &'a TenantSnapshot) -> Vec<&'a Binding> {
        bindings_of(self, tenant).map(|at| &tenant.config().bindings[at]).collect()
    }

    /// The most that the user may do in a tenant, also under conditions that no request has met yet.
    pub fn reach(&self, tenant: &TenantSnapshot) -> Vec<Permission> {
        let own = self.own_roles().flat_map(|role| tenant.permissions_of(role));
        let bound = self.bindings_in(tenant).into_iter().flat_map(|binding| binding.permissions.iter().cloned());
        own.chain(bound).collect()
    }
}

/// The signed-in user, as the session, the database and the tenant's role bindings say at this moment.
///
/// Nothing of it comes from the token: a binding that is revoked or has expired is gone at the next request.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    pub session: SessionId,
    user: Arc<User>,
    tenant: Arc<TenantSnapshot>,
    /// Positions of the bindings that count.
    bindings: Vec<usize>,
}

impl CurrentUser {
    /// Finds the bindings that count now. One with a condition counts where `facts` are known and make it true.
    pub fn new(session: SessionId, user: Arc<User>, tenant: Arc<TenantSnapshot>, now: Timestamp) -> Self {
        let mut current = Self { session, user, tenant, bindings: vec![] };
        current.bindings = current.named().filter(|at| current.tenant.counts(*at, now)).collect();
        current
    }

    /// Adds the bindings whose condition this request meets.
    pub fn meet(&mut self, now: Timestamp, facts: impl FnOnce(&Self) -> Facts) {
        let conditional: Vec<_> = self.named().filter(|at| self.tenant.is_conditional(*at, now)).collect();
        if !conditional.is_empty() {
            let facts = facts(self);
            let met = conditional.into_iter().filter(|at| self.tenant.meets(*at, &facts));
            self.bindings.extend(met.collect::<Vec<_>>());
        }
    }

    fn named(&self) -> impl Iterator<Item = usize> {
        bindings_of(&self.user, &self.tenant)
    }

    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Bindings that count for this request.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().map(|at| &self.tenant.config().bindings[*at])
    }

    /// The primary role, those that were given through the API, then those that bindings give.
    pub fn roles(&self) -> Vec<RoleName> {
        let mut roles = vec![];
        let all = self.user.own_roles().chain(self.bindings().map(|binding| &binding.role));
        for role in all {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        roles
    }

    pub fn may(&self, resource: &str, verb: &str) -> bool {
        self.holds(|held| held.allows(resource, verb))
    }

    /// Whether everything in `permissions` is within what this user may do: nobody gives away, or takes over, more than
    /// they have.
    pub fn covers(&self, permissions: &[Permission]) -> bool {
        permissions.iter().all(|wanted| self.holds(|held| held.covers(wanted)))
    }

    fn holds(&self, reaches: impl Fn(&Permission) -> bool) -> bool {
        self.bindings().any(|binding| binding.permissions.iter().any(&reaches))
            || self.user.own_roles().any(|role| self.tenant.permissions_of(role).iter().any(&reaches))
    }
}

impl Deref for CurrentUser {
    type Target = User;
    fn deref(&self) -> &User {
        &self.user
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

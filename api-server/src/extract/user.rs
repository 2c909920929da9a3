//! Who is asking.

use std::{fmt, ops::Deref, sync::Arc};

use contract::{
    RoleName,
    access::{Binding, Permission, SubjectKind},
};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{condition::Facts, error::ApiError, tenancy::TenantSnapshot};

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

/// A program that acts for a user by an API key.
#[derive(Debug)]
pub struct Machine {
    pub key: Uuid,
    /// RoleBindings name it by this, or by its id.
    pub name: String,
    /// The most that it takes of what its user may.
    pub scopes: Vec<Permission>,
}

/// Who asks, as the session or key, the database and the tenant's role bindings say at this moment.
///
/// Nothing of it comes from the token: a binding that is revoked or has expired is gone at the next request.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    /// Of a machine: nil. A handler that wants a session names [`Me`], which no machine is.
    pub session: SessionId,
    /// The session may only set up a second factor. `Me` and `Can` do not let it pass.
    pub limited: bool,
    user: Arc<User>,
    tenant: Arc<TenantSnapshot>,
    /// Positions of the bindings that count and name the user.
    bindings: Vec<usize>,
    machine: Option<Arc<Machine>>,
    /// Positions of the bindings that count and name the key.
    of_key: Vec<usize>,
}

impl CurrentUser {
    /// A person. Finds the bindings that count now. One with a condition counts where `facts` are known and make it true.
    pub fn new(session: SessionId, user: Arc<User>, tenant: Arc<TenantSnapshot>, now: Timestamp) -> Self {
        Self::of(session, None, user, tenant, now)
    }

    /// A program that acts for `user`.
    pub fn machine(machine: Arc<Machine>, user: Arc<User>, tenant: Arc<TenantSnapshot>, now: Timestamp) -> Self {
        Self::of(SessionId(Uuid::nil()), Some(machine), user, tenant, now)
    }

    fn of(
        session: SessionId,
        machine: Option<Arc<Machine>>,
        user: Arc<User>,
        tenant: Arc<TenantSnapshot>,
        now: Timestamp,
    ) -> Self {
        let mut current = Self { session, limited: false, user, tenant, bindings: vec![], machine, of_key: vec![] };
        let counts = |at: &usize| current.tenant.counts(*at, now);
        (current.bindings, current.of_key) =
            (current.named().filter(counts).collect(), current.named_key().filter(counts).collect());
        current
    }

    /// Adds the bindings whose condition this request meets.
    pub fn meet(&mut self, now: Timestamp, facts: impl FnOnce(&Self) -> Facts) {
        let conditional = |at: &usize| self.tenant.is_conditional(*at, now);
        let mut of_user: Vec<_> = self.named().filter(conditional).collect();
        let mut of_key: Vec<_> = self.named_key().filter(conditional).collect();
        if of_user.is_empty() && of_key.is_empty() {
            return;
        }
        let facts = facts(self);
        of_user.retain(|at| self.tenant.meets(*at, &facts));
        of_key.retain(|at| self.tenant.meets(*at, &facts));
        self.bindings.append(&mut of_user);
        self.of_key.append(&mut of_key);
    }

    fn named(&self) -> impl Iterator<Item = usize> {
        bindings_of(&self.user, &self.tenant)
    }

    fn named_key(&self) -> impl Iterator<Item = usize> {
        let names = self.machine.iter().flat_map(|machine| [machine.name.clone(), machine.key.to_string()]);
        names.flat_map(|name| self.tenant.bindings_of(SubjectKind::ApiKey, &name).iter().copied())
    }

    /// Refuses a session that may only set up a second factor.
    pub fn whole(&self) -> Result<(), ApiError> {
        if self.limited {
            let message =
                "This tenant demands a second factor: set one up with POST /auth/2fa/setup or /auth/passkeys/options";
            return Err(ApiError::forbidden(message).with_code("MFA_ENROLMENT_REQUIRED"));
        }
        Ok(())
    }

    /// Refuses a program that acts by an API key.
    pub fn person(&self) -> Result<(), ApiError> {
        if self.machine.is_some() {
            let message = "An API key cannot do this: sign in as a person";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "PERSON_REQUIRED", message));
        }
        Ok(())
    }

    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// The program that asks, where it is not a person.
    pub fn as_machine(&self) -> Option<&Machine> {
        self.machine.as_deref()
    }

    fn binding(&self, at: usize) -> &Binding {
        &self.tenant.config().bindings[at]
    }

    /// A person: the primary role, those that were given through the API, then those that bindings give. A machine: those
    /// that bindings give to its key; of its user's roles it has only what its scopes name.
    pub fn roles(&self) -> Vec<RoleName> {
        let mut roles = vec![];
        let (own, bound) = match self.machine {
            None => (Some(self.user.own_roles()), &self.bindings),
            Some(_) => (None, &self.of_key),
        };
        for role in own.into_iter().flatten().chain(bound.iter().map(|at| &self.binding(*at).role)) {
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

    /// Whether this is about `user` themselves, who need no permission for what is theirs. A machine is nobody's self:
    /// it does what its scopes name.
    pub fn is_self(&self, user: UserId) -> bool {
        self.machine.is_none() && self.user.id == user
    }

    /// Refuses a machine none of whose scopes, or bindings, is about `resource`; for routes on what is one's own, which ask
    /// persons for no permission.
    pub fn own(&self, resource: &str) -> Result<(), ApiError> {
        let Some(machine) = &self.machine else { return Ok(()) };
        let bound = self.of_key.iter().flat_map(|at| &self.binding(*at).permissions);
        if machine.scopes.iter().chain(bound).any(|held| held.is_about(resource)) {
            return Ok(());
        }
        Err(ApiError::forbidden("Insufficient permissions"))
    }

    fn holds(&self, reaches: impl Fn(&Permission) -> bool) -> bool {
        let by = |bindings: &[usize]| bindings.iter().any(|at| self.binding(*at).permissions.iter().any(&reaches));
        let user = || {
            by(&self.bindings)
                || self.user.own_roles().any(|role| self.tenant.permissions_of(role).iter().any(&reaches))
        };
        match &self.machine {
            None => user(),
            Some(machine) => by(&self.of_key) || machine.scopes.iter().any(&reaches) && user(),
        }
    }
}

impl Deref for CurrentUser {
    type Target = User;
    fn deref(&self) -> &User {
        &self.user
    }
}

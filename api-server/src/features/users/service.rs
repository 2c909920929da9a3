//! The verbs of the room. Transactions begin and end here.

use std::{collections::BTreeSet, sync::Arc};

use contract::{RoleName, TenantId, access, auth::EmailVerification};
use jiff::Timestamp;
use serde_json::json;

use super::{
    model::{Change, Holder, NewAccount, Role, Sort, Source, UserFilter, UsersError},
    repo,
};
use crate::{
    extract::{CurrentUser, Page, User, UserId},
    features::{
        api_keys,
        audit::{self, Entry},
        auth::{Auth, AuthError, Device},
        mail::{self, Letter, Mail, Message, Wish},
        recovery::{self, Recovery},
    },
    infra::{Clock, Db, TenantTx},
    reply::Pagination,
    tenancy::TenantSnapshot,
};

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(super) db: Db,
    pub(super) clock: Clock,
    auth: Auth,
    pub(super) mail: Mail,
    pub(super) recovery: Recovery,
}

impl Users {
    pub fn new(db: Db, clock: Clock, auth: Auth, mail: Mail, recovery: Recovery) -> Self {
        Self { db, clock, auth, mail, recovery }
    }

    /// A page of the tenant's users; list and total are of one moment.
    pub async fn list(
        &self,
        tenant: TenantId,
        page: &Page,
        filter: &UserFilter,
        sort: Sort,
    ) -> Result<(Vec<User>, Pagination), UsersError> {
        let mut tx = self.db.begin(tenant).await?;
        let mut users = match sort {
            Sort::NewestFirst => repo::list_newest(&mut tx, page, filter).await?,
            other => repo::list_sorted(&mut tx, page, filter, other).await?,
        };
        let total = if page.wants_total() { Some(repo::count_users(&mut tx, filter).await?) } else { None };
        tx.commit().await?;
        let mut pagination = page.cut(&mut users, total, |user| (user.created_at, user.id.0));
        if sort != Sort::NewestFirst {
            pagination.next_cursor = None;
        }
        Ok((users, pagination))
    }

    pub async fn find(&self, tenant: TenantId, id: UserId) -> Result<User, UsersError> {
        let mut tx = self.db.begin(tenant).await?;
        let user = repo::find_user(&mut tx, id).await?;
        tx.commit().await?;
        user.ok_or(UsersError::NoSuchUser)
    }

    /// Those of these users that there are.
    pub async fn find_all(&self, tenant: TenantId, ids: &[UserId]) -> Result<Vec<User>, sqlx::Error> {
        let mut tx = self.db.begin(tenant).await?;
        let users = repo::find_users(&mut tx, ids).await?;
        tx.commit().await?;
        Ok(users)
    }

    /// Makes an account for somebody else. Without a password its owner is invited to choose one.
    pub async fn create(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        new: NewAccount,
        device: &Device,
    ) -> Result<User, AuthError> {
        may_give(tenant, by, &new.role)?;
        let wish = match &new.password {
            Some(_) => wants_verified(tenant).then_some(Wish::VerifyEmail),
            None => new.invite.then_some(Wish::Invitation),
        };
        match wish {
            Some(Wish::Invitation) => self.recovery.may_invite(tenant.id, &new.email).await?,
            // Nobody could ever sign in to such an account.
            Some(_) => self.mail.required()?,
            None => {}
        }
        let hash = match new.password {
            Some(password) => Some(self.auth.hash_within_policy(tenant, password).await?),
            None => None,
        };
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        has_room(&mut tx, tenant).await?;
        let user = repo::insert_user(&mut tx, &new.email, &new.name, hash.as_deref(), new.role.as_str(), now).await?;
        if let Some(wish) = wish {
            self.mail.enqueue(&mut tx, &Message::to_user(&user, Letter::Wish { wish })).await?;
        }
        let details = json!({ "role": user.role, "invited": wish == Some(Wish::Invitation) });
        let entry = Entry::on_user(user.id, "CREATE").by(by.id).from(device).with(details);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Changes an account, one's own or another's.
    pub async fn change(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        id: UserId,
        change: Change,
        device: &Device,
    ) -> Result<User, UsersError> {
        if let Some(role) = &change.role {
            may_give(tenant, by, role)?;
        }
        if by.id == id && change.is_active == Some(false) {
            return Err(UsersError::Oneself);
        }
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let before = target(&mut tx, tenant, by, id, change.is_weighty()).await?;
        if let Some(name) = &change.name {
            repo::update_name(&mut tx, id, name, now).await?;
        }
        if let Some(email) = change.email.as_deref().filter(|email| *email != before.email) {
            repo::update_email(&mut tx, id, email, now).await?;
            // Whatever was mailed to the old address is void, and both hear of it.
            recovery::clear(&mut tx, id).await?;
            for to in [before.email.as_str(), email] {
                let letter = Letter::EmailChanged { new: email.to_owned() };
                self.mail.enqueue(&mut tx, &Message { to: to.to_owned(), ..Message::to_user(&before, letter) }).await?;
            }
            if wants_verified(tenant) {
                let wish = Letter::Wish { wish: Wish::VerifyEmail };
                self.mail.enqueue(&mut tx, &Message { user: Some(id), ..Message::to_address(email, wish) }).await?;
            }
        }
        if let Some(role) = &change.role {
            repo::update_role(&mut tx, id, role, now).await?;
        }
        if let Some(active) = change.is_active {
            repo::update_active(&mut tx, id, active, now).await?;
        }
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        let details = json!({ "fields": change.fields(), "oldRole": before.role, "newRole": user.role });
        let entry = Entry::on_user(id, "UPDATE").by(by.id).from(device).with(details);
        self.finish(tx, &user, entry, now).await?;
        Ok(user)
    }

    /// Ends an account: its sessions, roles and personal data go at once, its emptied row stays.
    pub async fn delete(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        id: UserId,
        device: &Device,
    ) -> Result<(), UsersError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        target(&mut tx, tenant, by, id, true).await?;
        let sessions = self.auth.sessions_of(&mut tx, id, now).await?;
        repo::anonymise(&mut tx, id, now).await?;
        api_keys::delete_of_user(&mut tx, id).await?;
        recovery::clear(&mut tx, id).await?;
        mail::forget(&mut tx, id).await?;
        audit::forget(&mut tx, id).await?;
        // Who deletes their own account leaves no trace of where they were in its last entry either.
        let entry = Entry::on_user(id, "DELETE").by(by.id);
        let entry = if by.id == id { entry } else { entry.from(device) };
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        self.auth.forget_sessions(tenant.id, &sessions).await;
        Ok(())
    }

    /// Forgets the failed attempts to sign in to an account.
    pub async fn unlock(
        &self,
        tenant: TenantId,
        by: &CurrentUser,
        id: UserId,
        device: &Device,
    ) -> Result<User, UsersError> {
        let mut tx = self.db.begin(tenant).await?;
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        audit::record_in_tx(&mut tx, &Entry::on_user(id, "UNLOCK").by(by.id).from(device), self.clock.now()).await?;
        tx.commit().await?;
        self.auth.unlock(tenant, &user.email).await;
        self.auth.unlock_factor(tenant, id).await;
        Ok(user)
    }

    /// The roles of the tenant: the built-in ones, then those that RoleBindings declare, by name.
    pub fn roles(tenant: &TenantSnapshot) -> Vec<Role> {
        let built_in = access::BUILT_IN_ROLES.iter().filter_map(|(name, _)| RoleName::new(*name).ok());
        let bound = tenant.bindings.iter().map(|binding| &binding.role);
        let declared: BTreeSet<_> = bound.filter(|name| access::built_in_number(name).is_none()).collect();
        built_in.chain(declared.into_iter().cloned()).map(|name| role(tenant, name)).collect()
    }

    /// The role that a client means by a number or a name, in any case.
    pub fn role(tenant: &TenantSnapshot, given: &str) -> Result<RoleName, UsersError> {
        let roles = Self::roles(tenant);
        let found = roles.into_iter().find(|role| role.id == given || role.name.as_str().eq_ignore_ascii_case(given));
        found.map(|role| role.name).ok_or_else(|| UsersError::NoSuchRole(given.to_owned()))
    }

    /// A user with all roles and where each comes from.
    pub async fn holder(&self, tenant: &Arc<TenantSnapshot>, id: UserId) -> Result<Holder, UsersError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        let assigned = repo::roles_of(&mut tx, id).await?;
        tx.commit().await?;
        Ok(holder(tenant, user, assigned, self.clock.now()))
    }

    /// Gives a further role. Giving it twice is giving it once.
    pub async fn assign(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        id: UserId,
        role: &RoleName,
        device: &Device,
    ) -> Result<(), UsersError> {
        may_give(tenant, by, role)?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        target(&mut tx, tenant, by, id, true).await?;
        if !repo::insert_role(&mut tx, id, role, by.id, now).await? {
            return Ok(());
        }
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        let entry = Entry::on_user(id, "ASSIGN_ROLE").by(by.id).from(device).with(json!({ "role": role }));
        self.finish(tx, &user, entry, now).await
    }

    /// Takes a further role.
    pub async fn take(
        &self,
        tenant: &Arc<TenantSnapshot>,
        by: &CurrentUser,
        id: UserId,
        role: &RoleName,
        device: &Device,
    ) -> Result<(), UsersError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let before = target(&mut tx, tenant, by, id, true).await?;
        if !repo::delete_role(&mut tx, id, role).await? {
            let binding = before.bindings_in(tenant).into_iter().find(|binding| binding.role == *role);
            return Err(match binding {
                Some(binding) => UsersError::Declared(binding.name.clone()),
                None if before.role == *role => UsersError::Primary,
                None => UsersError::NotAssigned,
            });
        }
        let user = repo::find_user(&mut tx, id).await?.ok_or(UsersError::NoSuchUser)?;
        let entry = Entry::on_user(id, "REMOVE_ROLE").by(by.id).from(device).with(json!({ "role": role }));
        self.finish(tx, &user, entry, now).await
    }

    /// Records, commits, and makes the account as it is now known to its open sessions, on every replica.
    async fn finish(&self, mut tx: TenantTx, user: &User, entry: Entry<'_>, now: Timestamp) -> Result<(), UsersError> {
        let tenant = tx.tenant();
        let sessions = self.auth.sessions_of(&mut tx, user.id, now).await?;
        if !user.is_active {
            self.auth.revoke_all(&mut tx, user.id, "admin", now).await?;
        }
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        if user.is_active {
            self.auth.renew_sessions(tenant, &sessions).await;
        } else {
            self.auth.forget_sessions(tenant, &sessions).await;
        }
        Ok(())
    }
}

fn wants_verified(tenant: &TenantSnapshot) -> bool {
    tenant.auth.email_verification == EmailVerification::Required
}

/// The account that is to be changed, locked. A weighty change takes somebody who may do all that its owner may, or the owner
/// in person: a key of theirs may do less, and would become them by another address.
pub async fn target(
    tx: &mut TenantTx,
    tenant: &TenantSnapshot,
    by: &CurrentUser,
    id: UserId,
    weighty: bool,
) -> Result<User, UsersError> {
    repo::lock_user(tx, id).await?;
    let user = repo::find_user(tx, id).await?.ok_or(UsersError::NoSuchUser)?;
    if weighty && !by.is_self(id) && !by.covers(&user.reach(tenant)) {
        return Err(UsersError::ReachesFurther);
    }
    Ok(user)
}

/// Nobody gives a role that reaches further than they do.
pub(super) fn may_give(tenant: &TenantSnapshot, by: &CurrentUser, role: &RoleName) -> Result<(), UsersError> {
    if !tenant.has_role(role) {
        return Err(UsersError::NoSuchRole(role.to_string()));
    }
    if by.covers(&tenant.permissions_of(role)) { Ok(()) } else { Err(UsersError::ReachesFurther) }
}

/// Whether one more user is within the tenant's quota.
pub async fn has_room(tx: &mut TenantTx, tenant: &TenantSnapshot) -> Result<(), UsersError> {
    if room(tx, tenant).await? == 0 { Err(UsersError::QuotaReached) } else { Ok(()) }
}

/// How many more users are within the tenant's quota.
pub(super) async fn room(tx: &mut TenantTx, tenant: &TenantSnapshot) -> Result<u64, sqlx::Error> {
    let Some(quota) = tenant.quotas.users else { return Ok(u64::MAX) };
    let users = repo::count_users(tx, &UserFilter::default()).await?;
    Ok(quota.saturating_sub(u64::try_from(users).unwrap_or_default()))
}

/// A user with all roles and where each comes from, of those that count at this time.
pub(super) fn holder(
    tenant: &TenantSnapshot,
    user: User,
    assigned: Vec<(RoleName, Timestamp)>,
    now: Timestamp,
) -> Holder {
    let mut roles = vec![(role(tenant, user.role.clone()), Source::Primary)];
    roles.extend(assigned.into_iter().map(|(name, at)| (role(tenant, name), Source::Assigned(at))));
    let bound = user.bindings_in(tenant).into_iter().filter(|binding| binding.lasts(now));
    roles.extend(bound.map(|binding| {
        (role(tenant, binding.role.clone()), Source::Declared(binding.name.clone(), binding.expires_at))
    }));
    Holder { user, roles }
}

fn role(tenant: &TenantSnapshot, name: RoleName) -> Role {
    let permissions = tenant.permissions_of(&name);
    if let Some(number) = access::built_in_number(&name) {
        let description = "Built in".to_owned();
        return Role { id: number.to_string(), name, description, permissions, declared_by: vec![] };
    }
    let bindings = tenant.bindings.iter().filter(|binding| binding.role == name);
    let declared_by: Vec<_> = bindings.map(|binding| binding.name.clone()).collect();
    let description = match declared_by.as_slice() {
        [] => "No RoleBinding declares it any more".to_owned(),
        all => format!("Declared by RoleBinding {}", all.join(", ")),
    };
    Role { id: name.to_string(), name, description, permissions, declared_by }
}

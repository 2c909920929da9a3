//! The verbs of the room. Transactions begin and end here.

use std::sync::Arc;

use contract::{
    TenantId,
    access::{Permission, SubjectKind},
};
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use serde_json::json;
use uuid::Uuid;

use super::{
    model::{ApiKey, ApiKeyError, KeySecret, MAX_PER_USER, NewKey},
    repo,
};
use crate::{
    extract::{CurrentUser, Machine, Page, User, UserId},
    features::{
        audit::{self, Entry},
        auth::Device,
        users,
    },
    infra::{Clock, Db},
    reply::Pagination,
    tenancy::TenantSnapshot,
};

/// How long an answer is used without asking the database: the time within which an end is felt.
const FRESH: SignedDuration = SignedDuration::from_secs(1);
const KEYS_HERE: u64 = 10_000;

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeys {
    db: Db,
    clock: Clock,
    /// By tenant and hash, with the time of the look. Only keys that count: who sends others asks every time, and fills
    /// nobody's memory.
    here: Cache<(TenantId, [u8; 32]), (Timestamp, Found)>,
}

/// A key that counts, and for whom it acts.
#[derive(Debug, Clone)]
struct Found {
    machine: Arc<Machine>,
    user: Arc<User>,
    expires_at: Timestamp,
}

impl ApiKeys {
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, here: Cache::new(KEYS_HERE) }
    }

    /// Who acts with a key, as of now: key, user and bindings all count at this moment.
    pub async fn authenticate(&self, tenant: &Arc<TenantSnapshot>, key: &str) -> Result<CurrentUser, ApiKeyError> {
        let digest = KeySecret::given(key).ok_or(ApiKeyError::Invalid)?.digest();
        let now = self.clock.now();
        let fresh = self.here.get(&(tenant.id, digest)).filter(|(asked, _)| now.duration_since(*asked) < FRESH);
        let found = match fresh {
            Some((_, found)) => found,
            None => self.look_up(tenant.id, digest, now).await?,
        };
        if found.expires_at <= now {
            return Err(ApiKeyError::Invalid);
        }
        Ok(CurrentUser::machine(found.machine, found.user, Arc::clone(tenant), now))
    }

    async fn look_up(&self, tenant: TenantId, digest: [u8; 32], now: Timestamp) -> Result<Found, ApiKeyError> {
        let mut tx = self.db.begin(tenant).await?;
        let found = match repo::find_live(&mut tx, &digest, now).await? {
            Some(key) => users::repo::find_user(&mut tx, key.user).await?.map(|user| (key, user)),
            None => None,
        };
        let Some((key, user)) = found.filter(|(_, user)| user.is_active) else {
            self.here.invalidate(&(tenant, digest));
            return Err(ApiKeyError::Invalid);
        };
        repo::used(&mut tx, key.id, now).await?;
        tx.commit().await?;
        let machine = Arc::new(Machine { key: key.id, name: key.name, scopes: key.scopes });
        let found = Found { machine, user: Arc::new(user), expires_at: key.expires_at };
        self.here.insert((tenant, digest), (now, found.clone()));
        Ok(found)
    }

    /// Makes a key that acts for `by`. The key itself is in no later answer.
    pub async fn create(
        &self,
        tenant: &TenantSnapshot,
        by: &CurrentUser,
        new: NewKey,
        device: &Device,
    ) -> Result<(ApiKey, KeySecret), ApiKeyError> {
        if let Some(scope) = new.scopes.iter().find(|scope| !by.covers(std::slice::from_ref(*scope))) {
            return Err(ApiKeyError::ScopeTooFar(scope.clone()));
        }
        // A RoleBinding names keys by their name: whoever makes one of that name takes what it gives.
        if !by.covers(&declared_for(tenant, &new.name)) {
            return Err(ApiKeyError::NameReserved);
        }
        let (secret, now) = (KeySecret::random(), self.clock.now());
        let days = SignedDuration::from_hours(24 * i64::from(new.days));
        let key = ApiKey {
            id: Uuid::now_v7(),
            user: by.id,
            name: new.name,
            prefix: secret.prefix().to_owned(),
            scopes: new.scopes,
            created_at: now,
            expires_at: now.saturating_add(days).unwrap_or(Timestamp::MAX),
            last_used_at: None,
            revoked_at: None,
        };
        let mut tx = self.db.begin(tenant.id).await?;
        // Two at once of one user come one after the other, or both would be the last that there is room for.
        users::repo::lock_user(&mut tx, by.id).await?;
        // And who was banned or deleted meanwhile leaves no key behind.
        let user = users::repo::find_user(&mut tx, by.id).await?;
        user.filter(|user| user.is_active).ok_or(ApiKeyError::Invalid)?;
        if repo::count(&mut tx, Some(by.id)).await? >= MAX_PER_USER {
            return Err(ApiKeyError::TooMany);
        }
        repo::insert(&mut tx, &key, &secret.digest()).await?;
        let details = json!({ "name": key.name, "scopes": key.scopes, "expiresAt": key.expires_at });
        let entry = Entry::new("api_key", "CREATE").of(key.id.to_string()).by(by.id).from(device).with(details);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok((key, secret))
    }

    /// A page of keys: of one user, or of all. List and total are of one moment.
    pub async fn list(
        &self,
        tenant: TenantId,
        page: &Page,
        user: Option<UserId>,
    ) -> Result<(Vec<ApiKey>, Pagination), ApiKeyError> {
        let mut tx = self.db.begin(tenant).await?;
        let mut keys = repo::list(&mut tx, page, user).await?;
        let total = if page.wants_total() { Some(repo::count(&mut tx, user).await?) } else { None };
        tx.commit().await?;
        let pagination = page.cut(&mut keys, total, |key| (key.created_at, key.id));
        Ok((keys, pagination))
    }

    /// Ends a key: anybody's, or only if it is the user `of`'s.
    pub async fn revoke(
        &self,
        tenant: TenantId,
        by: UserId,
        key: Uuid,
        of: Option<UserId>,
        device: &Device,
    ) -> Result<(), ApiKeyError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant).await?;
        let (name, digest) = repo::revoke(&mut tx, key, of, now).await?.ok_or(ApiKeyError::NoSuchKey)?;
        let entry = Entry::new("api_key", "REVOKE").of(key.to_string()).by(by).from(device);
        audit::record_in_tx(&mut tx, &entry.with(json!({ "name": name })), now).await?;
        tx.commit().await?;
        // At once on this replica; the others ask the database within a second.
        if let Ok(digest) = digest.try_into() {
            self.here.invalidate(&(tenant, digest));
        }
        Ok(())
    }
}

/// What the tenant's RoleBindings give to keys of this name, whatever their conditions.
fn declared_for(tenant: &TenantSnapshot, name: &str) -> Vec<Permission> {
    let bindings =
        tenant.bindings_of(SubjectKind::ApiKey, name).iter().filter_map(|at| tenant.config().bindings.get(*at));
    bindings.flat_map(|binding| binding.permissions.iter().cloned()).collect()
}

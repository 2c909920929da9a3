//! The verbs of the room. Transactions begin and end here.

use std::sync::Arc;

use contract::{Secret, TenantId};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{
    hashing::{Hashing, Verdict},
    model::{self, AuthError, LogoutScope, NewUser},
    repo,
    sessions::{Sessions, State},
    tokens::{self, RefreshSecret, Tokens},
};
use crate::{
    extract::{CurrentUser, Page, SessionId, User, UserId},
    features::audit,
    infra::{Clock, Db, Redis, TenantTx},
    metrics::Metrics,
    reply::Pagination,
    settings::Http,
    tenancy::TenantSnapshot,
};

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    db: Db,
    clock: Clock,
    tokens: Tokens,
    sessions: Sessions,
    hashing: Hashing,
}

/// Where a request comes from, for the list of sessions and the audit.
#[derive(Debug, Clone)]
pub struct Device {
    pub ip: String,
    pub user_agent: Option<String>,
}

/// Somebody who is signed in now, with what they need to stay so.
pub struct SignedIn {
    pub user: CurrentUser,
    pub access_token: String,
    pub refresh_token: RefreshSecret,
    pub expires_in: u32,
}

/// What a registration led to.
pub enum Registered {
    SignedIn(Box<SignedIn>),
    /// The tenant wants the address verified first.
    Unverified(Box<User>),
}

impl Auth {
    pub fn new(db: Db, redis: Redis, clock: Clock, metrics: Arc<Metrics>, http: &Http) -> Self {
        let sessions = Sessions::new(db.clone(), redis, clock.clone(), Arc::clone(&metrics));
        Self { db, clock, tokens: Tokens::new(), sessions, hashing: Hashing::new(http.hash_threads, metrics) }
    }

    /// The user behind an access token, as of now: token, session, user and bindings all count at this moment.
    pub async fn authenticate(&self, tenant: &Arc<TenantSnapshot>, token: &str) -> Result<CurrentUser, AuthError> {
        let now = self.clock.now();
        let claims = self.tokens.check(tenant, token, now)?;
        match self.sessions.state(tenant.id, claims.sid).await? {
            State::Live(user) if user.id == claims.sub => {
                Ok(CurrentUser::new(claims.sid, user, Arc::clone(tenant), now))
            }
            _ => Err(AuthError::SessionEnded),
        }
    }

    pub async fn register(
        &self,
        tenant: &Arc<TenantSnapshot>,
        new: NewUser,
        device: &Device,
    ) -> Result<Registered, AuthError> {
        let policy = &tenant.auth.password;
        let faults = model::password_faults(new.password.expose(), policy);
        if !faults.is_empty() {
            return Err(AuthError::Password(faults));
        }
        // Hashed outside of the transaction: a connection is too dear to hold meanwhile.
        let hash = self.hashing.hash(new.password, policy.argon2).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        if let Some(quota) = tenant.quotas.users
            && u64::try_from(repo::count_users(&mut tx).await?).is_ok_and(|users| users >= quota)
        {
            return Err(AuthError::QuotaReached);
        }
        let user = repo::insert_user(&mut tx, &new.email, &new.name, &hash, model::DEFAULT_ROLE, now).await?;
        record(&mut tx, "REGISTER", user.id, None, device, now).await?;
        if must_verify(tenant, &user) {
            tx.commit().await?;
            return Ok(Registered::Unverified(Box::new(user)));
        }
        let signed_in = self.sign_in(&mut tx, tenant, user, device, now).await?;
        tx.commit().await?;
        Ok(Registered::SignedIn(Box::new(signed_in)))
    }

    pub async fn login(
        &self,
        tenant: &Arc<TenantSnapshot>,
        email: &str,
        password: Secret,
        device: &Device,
    ) -> Result<SignedIn, AuthError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let found = match model::email(email) {
            Some(email) => repo::find_by_email(&mut tx, &email).await?,
            None => None,
        };
        tx.commit().await?;
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
        let parameters = tenant.auth.password.argon2;
        // One answer and one amount of work, whatever was wrong.
        let verdict = self.hashing.verify(password.clone(), hash, parameters).await?;
        let user =
            user.filter(|user| verdict != Verdict::Wrong && user.is_active).ok_or(AuthError::InvalidCredentials)?;
        if must_verify(tenant, &user) {
            return Err(AuthError::EmailNotVerified);
        }
        let renewed = match verdict {
            Verdict::RightButOutdated => Some(self.hashing.hash(password, parameters).await?),
            Verdict::Right | Verdict::Wrong => None,
        };
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        if let Some(hash) = renewed {
            repo::update_password_hash(&mut tx, user.id, &hash).await?;
        }
        repo::update_last_login(&mut tx, user.id, now).await?;
        let user = User { last_login_at: Some(now), ..user };
        record(&mut tx, "LOGIN", user.id, None, device, now).await?;
        let signed_in = self.sign_in(&mut tx, tenant, user, device, now).await?;
        tx.commit().await?;
        Ok(signed_in)
    }

    /// Exchanges a refresh token for a new pair. `bearer` is the access token that came along, which may have expired
    /// but must be of the same session.
    ///
    /// A token is good once. Who presents it a second time within the tenant's `refreshReuseSeconds` (an answer that got
    /// lost, a second tab) is given the same successor again; later, or when the successor was used too, one of the two
    /// who hold the token is a thief, and the family ends.
    pub async fn refresh(
        &self,
        tenant: &Arc<TenantSnapshot>,
        given: &RefreshSecret,
        bearer: Option<&str>,
        device: &Device,
    ) -> Result<SignedIn, AuthError> {
        let now = self.clock.now();
        let claimed = bearer.map(|token| self.tokens.check_but_for_expiry(tenant, token, now)).transpose()?;
        let digest = given.digest();
        let mut tx = self.db.begin(tenant.id).await?;
        let session = repo::session_of_token(&mut tx, &digest).await?.ok_or(AuthError::InvalidRefreshToken)?;
        if claimed.is_some_and(|claims| claims.sid != session) {
            return Err(AuthError::InvalidRefreshToken);
        }
        // Read again under the lock: whoever came first may have used it.
        repo::lock_session(&mut tx, session).await?;
        let token = repo::find_token(&mut tx, &digest).await?.ok_or(AuthError::InvalidRefreshToken)?;
        let user = repo::user_of_session(&mut tx, session, now).await?.ok_or(AuthError::InvalidRefreshToken)?;
        if token.expires_at <= now {
            return Err(AuthError::InvalidRefreshToken);
        }
        let successor = match token.used_at {
            None => {
                let id = Uuid::now_v7();
                let (successor, expires_at) = (given.successor(id), refresh_expiry(tenant, now));
                repo::mark_used(&mut tx, token.id, now).await?;
                repo::insert_token(&mut tx, id, session, &successor.digest(), Some(token.id), now, expires_at).await?;
                repo::extend_session(&mut tx, session, now, expires_at).await?;
                successor
            }
            Some(used_at) => {
                let grace = SignedDuration::from_secs(i64::from(tenant.auth.refresh_reuse_seconds));
                let in_time = now.duration_since(used_at) < grace;
                let successor = if in_time { repo::unused_successor(&mut tx, token.id).await? } else { None };
                let Some(id) = successor else {
                    return self.end_family(tx, user.id, session, device, now).await;
                };
                given.successor(id)
            }
        };
        let signed_in = issue(tenant, user, session, successor, now)?;
        tx.commit().await?;
        Ok(signed_in)
    }

    async fn end_family(
        &self,
        mut tx: TenantTx,
        user: UserId,
        session: SessionId,
        device: &Device,
        now: Timestamp,
    ) -> Result<SignedIn, AuthError> {
        let tenant = tx.tenant();
        let ended = repo::revoke_sessions(&mut tx, user, Some(session), None, "reuse", now).await?;
        record(&mut tx, "TOKEN_REUSED", user, Some(session), device, now).await?;
        tx.commit().await?;
        self.sessions.end(tenant, &ended).await;
        Err(AuthError::TokenReused)
    }

    /// Ends sessions of a user and says how many.
    pub async fn logout(
        &self,
        tenant: TenantId,
        user: UserId,
        session: SessionId,
        scope: LogoutScope,
        device: &Device,
    ) -> Result<usize, AuthError> {
        let (only, but) = match scope {
            LogoutScope::Local => (Some(session), None),
            LogoutScope::Others => (None, Some(session)),
            LogoutScope::All => (None, None),
        };
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant).await?;
        let ended = repo::revoke_sessions(&mut tx, user, only, but, "logout", now).await?;
        record(&mut tx, "LOGOUT", user, Some(session), device, now).await?;
        tx.commit().await?;
        self.sessions.end(tenant, &ended).await;
        Ok(ended.len())
    }

    /// Whose session a refresh token belongs to, for a logout without an access token.
    pub async fn owner(&self, tenant: TenantId, token: &RefreshSecret) -> Result<(UserId, SessionId), AuthError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant).await?;
        let session = repo::session_of_token(&mut tx, &token.digest()).await?.ok_or(AuthError::InvalidRefreshToken)?;
        let user = repo::user_of_session(&mut tx, session, now).await?.ok_or(AuthError::InvalidRefreshToken)?;
        tx.commit().await?;
        Ok((user.id, session))
    }

    pub async fn user(&self, tenant: TenantId, id: UserId) -> Result<Option<User>, AuthError> {
        let mut tx = self.db.begin(tenant).await?;
        let user = repo::find_user(&mut tx, id).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// A page of the tenant's users; list and total are of one moment.
    pub async fn users(
        &self,
        tenant: TenantId,
        page: &Page,
        search: Option<&str>,
    ) -> Result<(Vec<User>, Pagination), AuthError> {
        let mut tx = self.db.begin(tenant).await?;
        let mut users = repo::list_users(&mut tx, page, search).await?;
        let total = if page.wants_total() { Some(repo::count_users(&mut tx).await?) } else { None };
        tx.commit().await?;
        let pagination = page.cut(&mut users, total, |user| (user.created_at, user.id.0));
        Ok((users, pagination))
    }

    /// Opens a session and gives its first pair of tokens.
    async fn sign_in(
        &self,
        tx: &mut TenantTx,
        tenant: &Arc<TenantSnapshot>,
        user: User,
        device: &Device,
        now: Timestamp,
    ) -> Result<SignedIn, AuthError> {
        let expires_at = refresh_expiry(tenant, now);
        let session = repo::insert_session(tx, user.id, device, now, expires_at).await?;
        let refresh = RefreshSecret::random();
        repo::insert_token(tx, Uuid::now_v7(), session, &refresh.digest(), None, now, expires_at).await?;
        issue(tenant, user, session, refresh, now)
    }
}

fn issue(
    tenant: &Arc<TenantSnapshot>,
    user: User,
    session: SessionId,
    refresh_token: RefreshSecret,
    now: Timestamp,
) -> Result<SignedIn, AuthError> {
    let user = CurrentUser::new(session, Arc::new(user), Arc::clone(tenant), now);
    let access_token = tokens::sign(tenant, &user, now)?;
    let expires_in = tenant.auth.access_token_seconds;
    Ok(SignedIn { user, access_token, refresh_token, expires_in })
}

fn must_verify(tenant: &TenantSnapshot, user: &User) -> bool {
    tenant.auth.email_verification == contract::auth::EmailVerification::Required && !user.email_verified
}

fn refresh_expiry(tenant: &TenantSnapshot, now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(i64::from(tenant.auth.refresh_token_seconds)))
        .unwrap_or(Timestamp::MAX)
}

async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    user: UserId,
    session: Option<SessionId>,
    device: &Device,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let entry = audit::Entry {
        user: Some(user),
        action,
        resource_type: "user",
        resource_id: Some(user.to_string()),
        details: session.map_or_else(|| json!({}), |session| json!({ "sessionId": session })),
        ip: Some(&device.ip),
        user_agent: device.user_agent.as_deref(),
    };
    audit::record_in_tx(tx, &entry, now).await
}

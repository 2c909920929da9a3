//! The verbs of the room. Transactions begin and end here.

use std::sync::Arc;

use contract::{Secret, auth::Mfa};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{
    device::Device,
    enter::Entered,
    hashing::{Hashing, Verdict},
    model::{self, AuthError, NewUser},
    proof::{Method, Proof},
    repo,
    sessions::{Sessions, State},
    step_up::Standing,
    throttle::{Throttle, Wait},
    tokens::{self, RefreshSecret, Tokens},
};
use crate::{
    extract::{CurrentUser, SessionId, User, UserId},
    features::{
        audit::{self, Entry},
        mail::{Letter, Mail, Message, Place, Wish},
        users,
    },
    infra::{Clock, Db, Redis, TenantTx},
    metrics::Metrics,
    settings::Http,
    tenancy::TenantSnapshot,
};

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) tokens: Tokens,
    pub(super) sessions: Sessions,
    hashing: Hashing,
    pub(super) throttle: Throttle,
    pub(super) mail: Mail,
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
    Entered(Entered),
    /// The tenant wants the address verified first.
    Unverified(Box<User>),
}

impl Auth {
    pub fn new(db: Db, redis: Redis, clock: Clock, metrics: Arc<Metrics>, http: &Http, mail: Mail) -> Self {
        let sessions = Sessions::new(db.clone(), redis.clone(), clock.clone(), Arc::clone(&metrics));
        let throttle = Throttle::new(redis, clock.clone(), Arc::clone(&metrics));
        let hashing = Hashing::new(http.hash_threads, metrics);
        Self { db, clock, tokens: Tokens::new(), sessions, hashing, throttle, mail }
    }

    /// The user behind an access token, as of now: token, session, user and bindings all count at this moment.
    pub async fn authenticate(&self, tenant: &Arc<TenantSnapshot>, token: &str) -> Result<CurrentUser, AuthError> {
        let now = self.clock.now();
        let claims = self.tokens.check(tenant, token, now)?;
        match self.sessions.state(tenant.id, claims.sid).await? {
            State::Live(user) if user.id == claims.sub => {
                let mut user = CurrentUser::new(claims.sid, user, Arc::clone(tenant), now);
                user.limited = claims.is_limited();
                Ok(user)
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
        if wants_verified(tenant) {
            // Nobody could ever sign in to such an account.
            self.mail.required()?;
        }
        // Hashed outside of the transaction: a connection is too dear to hold meanwhile.
        let hash = self.hash_within_policy(tenant, new.password).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        users::has_room(&mut tx, tenant).await?;
        let user =
            users::repo::insert_user(&mut tx, &new.email, &new.name, Some(&hash), model::DEFAULT_ROLE, now).await?;
        if must_verify(tenant, &user) {
            let wish = Letter::Wish { wish: Wish::VerifyEmail };
            self.mail.enqueue(&mut tx, &Message::to_user(&user, wish)).await?;
            record(&mut tx, "REGISTER", user.id, None, device, now).await?;
            tx.commit().await?;
            return Ok(Registered::Unverified(Box::new(user)));
        }
        self.mail.enqueue(&mut tx, &Message::to_user(&user, Letter::Welcome)).await?;
        let proof = Proof::by(Method::Password);
        Ok(Registered::Entered(self.enter(tx, tenant, user, proof, "REGISTER", device).await?))
    }

    pub async fn login(
        &self,
        tenant: &Arc<TenantSnapshot>,
        email: &str,
        password: Secret,
        device: &Device,
    ) -> Result<Entered, AuthError> {
        let attempt = self
            .throttle
            .begin(tenant.id, email, device.line().as_deref())
            .await
            .map_err(|Wait(s)| AuthError::Throttled(s))?;
        let mut tx = self.db.begin(tenant.id).await?;
        let found = match users::email(email) {
            Some(email) => users::repo::find_by_email(&mut tx, &email).await?,
            None => None,
        };
        let costs = users::repo::password_costs(&mut tx).await?;
        tx.commit().await?;
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
        let id = user.as_ref().map(|user| user.id);
        // Who is banned is as good as unknown, also to who has the password.
        let user = user.filter(|user| user.is_active);
        let hash = hash.filter(|_| user.is_some());
        let parameters = tenant.auth.password.argon2;
        // One answer and one amount of work, whatever was wrong.
        let verdict = self.hashing.verify(password.clone(), hash.clone(), costs, parameters).await?;
        let Some(user) = user.filter(|_| verdict != Verdict::Wrong) else {
            let alarms = self.throttle.failed(&attempt).await;
            self.record_alarms(tenant.id, &alarms, device).await?;
            self.record_failed_login(tenant.id, email, id, &attempt, device).await?;
            return Err(AuthError::InvalidCredentials);
        };
        self.throttle.succeeded(&attempt).await;
        if must_verify(tenant, &user) {
            return Err(AuthError::EmailNotVerified);
        }
        let renewed = match verdict {
            // Where there is no place for that now, the next sign-in does it.
            Verdict::RightButOutdated => self.hashing.hash(password, parameters).await.ok(),
            Verdict::Right | Verdict::Wrong => None,
        };
        let mut tx = self.db.begin(tenant.id).await?;
        // Under the lock: a password that was changed, or an account that was banned, while the old one was hashed opens nothing.
        users::repo::lock_user(&mut tx, user.id).await?;
        let same = users::repo::password_hash(&mut tx, user.id).await? == hash;
        let Some(user) = users::repo::find_user(&mut tx, user.id).await?.filter(|user| same && user.is_active) else {
            return Err(AuthError::InvalidCredentials);
        };
        if let Some(hash) = renewed {
            users::repo::update_password_hash(&mut tx, user.id, &hash).await?;
        }
        self.enter(tx, tenant, user, Proof::by(Method::Password), "LOGIN", device).await
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
        let standing = repo::lock_session(&mut tx, session).await?.ok_or(AuthError::InvalidRefreshToken)?;
        let token = repo::find_token(&mut tx, &digest).await?.ok_or(AuthError::InvalidRefreshToken)?;
        let user = repo::user_of_session(&mut tx, session, now).await?.ok_or(AuthError::InvalidRefreshToken)?;
        if token.expires_at <= now {
            return Err(AuthError::InvalidRefreshToken);
        }
        // Opened before the tenant demanded a second factor: the next sign-in asks for it, or lets it be set up.
        if tenant.auth.mfa == Mfa::Required && !standing.proof.is_strong() {
            return Err(AuthError::FactorRequired);
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
                    return self.end_family(tx, &user, session, device, now).await;
                };
                given.successor(id)
            }
        };
        let signed_in = issue(tenant, user, session, &standing, successor, now)?;
        tx.commit().await?;
        Ok(signed_in)
    }

    async fn end_family(
        &self,
        mut tx: TenantTx,
        user: &User,
        session: SessionId,
        device: &Device,
        now: Timestamp,
    ) -> Result<SignedIn, AuthError> {
        let tenant = tx.tenant();
        let ended = repo::revoke_sessions(&mut tx, user.id, Some(session), None, "reuse", now).await?;
        // Whoever presents the token again finds the session ended, and no second mail is sent.
        if !ended.is_empty() {
            let letter = Letter::TokenReused { place: Place::of(device, now) };
            self.mail.enqueue(&mut tx, &Message::to_user(user, letter)).await?;
        }
        record(&mut tx, "TOKEN_REUSED", user.id, Some(session), device, now).await?;
        tx.commit().await?;
        self.sessions.end(tenant, &ended).await;
        Err(AuthError::TokenReused)
    }

    /// Replaces the password of the signed-in user. Their other sessions end: whoever else knew the old one is out.
    pub async fn change_password(
        &self,
        tenant: &Arc<TenantSnapshot>,
        me: &CurrentUser,
        current: Secret,
        new: Secret,
        device: &Device,
    ) -> Result<usize, AuthError> {
        let confirmed = self.confirm_password(tenant, me, current, device).await?;
        let hash = self.hash_within_policy(tenant, new).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        // Under the lock: who knows the old password must not change the one that its owner has set meanwhile.
        users::repo::lock_user(&mut tx, me.id).await?;
        if users::repo::password_hash(&mut tx, me.id).await? != confirmed {
            return Err(AuthError::WrongPassword);
        }
        repo::user_of_session(&mut tx, me.session, now).await?.ok_or(AuthError::SessionEnded)?;
        users::repo::update_password_hash(&mut tx, me.id, &hash).await?;
        let ended = repo::revoke_sessions(&mut tx, me.id, None, Some(me.session), "password", now).await?;
        let letter = Letter::PasswordChanged { place: Place::of(device, now) };
        self.mail.enqueue(&mut tx, &Message::to_user(me, letter)).await?;
        record(&mut tx, "CHANGE_PASSWORD", me.id, Some(me.session), device, now).await?;
        tx.commit().await?;
        self.sessions.end(tenant.id, &ended).await;
        Ok(ended.len())
    }

    /// Whether this is the signed-in user's password, tried as slowly as at the login: whoever holds a stolen session must
    /// not guess it elsewhere either. Gives the hash that it was found right by: what changes an account for it looks under
    /// the lock whether that is still the account's.
    pub async fn confirm_password(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        password: Secret,
        device: &Device,
    ) -> Result<Option<String>, AuthError> {
        let attempt = self
            .throttle
            .begin(tenant.id, &me.email, device.line().as_deref())
            .await
            .map_err(|Wait(s)| AuthError::Throttled(s))?;
        let mut tx = self.db.begin(tenant.id).await?;
        let hash = users::repo::password_hash(&mut tx, me.id).await?;
        tx.commit().await?;
        if self.hashing.confirm(password, hash.clone(), tenant.auth.password.argon2).await? == Verdict::Wrong {
            let alarms = self.throttle.failed(&attempt).await;
            self.record_alarms(tenant.id, &alarms, device).await?;
            self.record_wrong_proof(tenant.id, me.id, "password", device).await?;
            return Err(AuthError::WrongPassword);
        }
        self.throttle.succeeded(&attempt).await;
        Ok(hash)
    }

    /// Remembers that the user of a session proved again who they are.
    pub async fn renew_standing(
        &self,
        tx: &mut TenantTx,
        session: SessionId,
        method: Method,
        now: Timestamp,
    ) -> Result<Standing, AuthError> {
        let standing = repo::lock_session(tx, session).await?.ok_or(AuthError::SessionEnded)?;
        let standing = Standing {
            proof: standing.proof.and(method),
            authenticated_at: now,
            factor_at: if method.is_second() { Some(now) } else { standing.factor_at },
        };
        repo::update_standing(tx, session, &standing).await?;
        Ok(standing)
    }

    /// An access token that says how the session's user proved who they are by now.
    pub fn access_token(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        standing: &Standing,
    ) -> Result<String, AuthError> {
        Ok(tokens::sign(tenant, me, standing, self.clock.now())?)
    }

    /// The hash of a password that keeps the tenant's policy.
    pub async fn hash_within_policy(&self, tenant: &TenantSnapshot, password: Secret) -> Result<String, AuthError> {
        let policy = &tenant.auth.password;
        let faults = model::password_faults(password.expose(), policy);
        if !faults.is_empty() {
            return Err(AuthError::Password(faults));
        }
        Ok(self.hashing.hash(password, policy.argon2).await?)
    }
}

pub(super) fn issue(
    tenant: &Arc<TenantSnapshot>,
    user: User,
    session: SessionId,
    standing: &Standing,
    refresh_token: RefreshSecret,
    now: Timestamp,
) -> Result<SignedIn, AuthError> {
    let user = CurrentUser::new(session, Arc::new(user), Arc::clone(tenant), now);
    let access_token = tokens::sign(tenant, &user, standing, now)?;
    let expires_in = tenant.auth.access_token_seconds;
    Ok(SignedIn { user, access_token, refresh_token, expires_in })
}

pub(super) fn must_verify(tenant: &TenantSnapshot, user: &User) -> bool {
    wants_verified(tenant) && !user.email_verified
}

fn wants_verified(tenant: &TenantSnapshot) -> bool {
    tenant.auth.email_verification == contract::auth::EmailVerification::Required
}

pub(super) fn refresh_expiry(tenant: &TenantSnapshot, now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(i64::from(tenant.auth.refresh_token_seconds)))
        .unwrap_or(Timestamp::MAX)
}

pub(super) async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    user: UserId,
    session: Option<SessionId>,
    device: &Device,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let details = session.map_or_else(|| json!({}), |session| json!({ "sessionId": session }));
    let entry = Entry::on_user(user, action).by(user).from(device).with(details);
    audit::record_in_tx(tx, &entry, now).await
}

//! The one door to a session. Whoever knows who somebody is (by password, by an identity provider, by a passkey) comes
//! here, and here the tenant's policy decides whether that is enough.

use std::sync::Arc;

use contract::auth::Mfa;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{
    device::Device,
    model::AuthError,
    proof::Proof,
    repo::{self, NewSession},
    service::{Auth, SignedIn, issue, must_verify, refresh_expiry},
    tokens::{self, RefreshSecret},
};
use crate::{
    extract::{CurrentUser, User, UserId},
    features::{
        audit::{self, Entry},
        factors::{self, Held},
        mail::{Letter, Message, Place},
        users,
    },
    infra::{TenantTx, Token},
    tenancy::TenantSnapshot,
};

/// How long a session lasts that may do nothing but set up a second factor.
const ENROLMENT: SignedDuration = SignedDuration::from_mins(15);

/// What a proof of who somebody is led to.
pub enum Entered {
    SignedIn(Box<SignedIn>),
    /// The account has a second factor, which is to be shown now.
    SecondFactor(Pending),
    /// The tenant demands a second factor, and the account has none: the session is good for setting one up, only.
    Enrolment(Box<Limited>),
}

impl Entered {
    /// What to tell whoever asks to be let in.
    pub fn message(&self) -> &'static str {
        match self {
            Self::SignedIn(_) => "Signed in",
            Self::SecondFactor(_) => "Show your second factor",
            Self::Enrolment(_) => "Set up a second factor",
        }
    }
}

/// A login that waits for its second factor.
pub struct Pending {
    /// Names the login; good once, for five minutes.
    pub token: Token,
    pub held: Held,
    pub expires_in: u32,
}

/// A session that may only set up a second factor. It has no refresh token.
pub struct Limited {
    pub user: CurrentUser,
    pub access_token: String,
    pub expires_in: u32,
}

impl Auth {
    /// Lets somebody in who gave `proof` of being `user`, as far as that proof reaches, and records it as `deed`
    /// (`LOGIN`, `REGISTER` …). Ends the transaction.
    pub async fn enter(
        &self,
        mut tx: TenantTx,
        tenant: &Arc<TenantSnapshot>,
        user: User,
        proof: Proof,
        deed: &'static str,
        device: &Device,
    ) -> Result<Entered, AuthError> {
        let now = self.clock.now();
        if !user.is_active {
            return Err(AuthError::InvalidCredentials);
        }
        if must_verify(tenant, &user) {
            return Err(AuthError::EmailNotVerified);
        }
        let held = factors::held(&mut tx, user.id).await?;
        if tenant.auth.mfa == Mfa::Off || proof.is_strong() || (tenant.auth.mfa == Mfa::Optional && !held.any()) {
            let signed_in = self.sign_in(&mut tx, tenant, user, &proof, device, now).await?;
            let details = json!({ "sessionId": signed_in.user.session, "amr": proof.amr() });
            self.record_entry(tx, deed, signed_in.user.id, details, device, now).await?;
            return Ok(Entered::SignedIn(Box::new(signed_in)));
        }
        if held.any() {
            let token = factors::begin_login(&mut tx, user.id, &proof, now).await?;
            let details = json!({ "amr": proof.amr(), "secondFactor": held.methods() });
            self.record_entry(tx, "LOGIN_CHALLENGED", user.id, details, device, now).await?;
            let expires_in = u32::try_from(factors::LIFETIME.as_secs()).unwrap_or_default();
            return Ok(Entered::SecondFactor(Pending { token, held, expires_in }));
        }
        let limited = self.open_limited(&mut tx, tenant, user, &proof, device, now).await?;
        let details = json!({ "sessionId": limited.user.session, "amr": proof.amr(), "limited": true });
        self.record_entry(tx, deed, limited.user.id, details, device, now).await?;
        Ok(Entered::Enrolment(Box::new(limited)))
    }

    /// Opens a session and gives its first pair of tokens.
    async fn sign_in(
        &self,
        tx: &mut TenantTx,
        tenant: &Arc<TenantSnapshot>,
        user: User,
        proof: &Proof,
        device: &Device,
        now: Timestamp,
    ) -> Result<SignedIn, AuthError> {
        users::repo::update_last_login(tx, user.id, now).await?;
        if repo::is_new_device(tx, user.id, device.user_agent.as_deref()).await? {
            let letter = Letter::NewSignIn { place: Place::of(device, now) };
            self.mail.enqueue(tx, &Message::to_user(&user, letter)).await?;
        }
        let user = User { last_login_at: Some(now), ..user };
        let expires_at = refresh_expiry(tenant, now);
        let new = NewSession { user: user.id, proof, limited: false, expires_at };
        let (session, standing) = repo::insert_session(tx, &new, device, now).await?;
        let refresh = RefreshSecret::random();
        repo::insert_token(tx, Uuid::now_v7(), session, &refresh.digest(), None, now, expires_at).await?;
        issue(tenant, user, session, &standing, refresh, now)
    }

    async fn open_limited(
        &self,
        tx: &mut TenantTx,
        tenant: &Arc<TenantSnapshot>,
        user: User,
        proof: &Proof,
        device: &Device,
        now: Timestamp,
    ) -> Result<Limited, AuthError> {
        let expires_at = now.saturating_add(ENROLMENT).unwrap_or(Timestamp::MAX);
        let new = NewSession { user: user.id, proof, limited: true, expires_at };
        let (session, standing) = repo::insert_session(tx, &new, device, now).await?;
        let mut user = CurrentUser::new(session, Arc::new(user), Arc::clone(tenant), now);
        user.limited = true;
        let access_token = tokens::sign(tenant, &user, &standing, now)?;
        let longest = u32::try_from(ENROLMENT.as_secs()).unwrap_or(u32::MAX);
        Ok(Limited { user, access_token, expires_in: tenant.auth.access_token_seconds.min(longest) })
    }

    async fn record_entry(
        &self,
        mut tx: TenantTx,
        deed: &'static str,
        user: UserId,
        details: serde_json::Value,
        device: &Device,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        audit::record_in_tx(&mut tx, &Entry::on_user(user, deed).by(user).from(device).with(details), now).await?;
        tx.commit().await
    }
}

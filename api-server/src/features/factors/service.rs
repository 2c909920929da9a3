//! The verbs of the room. Transactions begin and end here.

use std::sync::Arc;

use contract::{Secret, auth::Mfa, seal::SealingKey};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    challenges::{self, Purpose},
    model::{FactorsError, Held, RECOVERY_CODES, RecoveryCode, Shown},
    repo, totp,
};
use crate::{
    extract::{CurrentUser, UserId},
    features::{
        audit::{self, Entry},
        auth::{Attempt, Auth, AuthError, Device, Entered, Method, Standing},
        users,
    },
    infra::{Clock, Db, TenantTx, Token},
    tenancy::TenantSnapshot,
};

/// How long there is to scan the picture and type the first code.
const SETUP: SignedDuration = SignedDuration::from_mins(15);

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Factors {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) key: SealingKey,
    pub(super) auth: Auth,
}

/// An account's factors, for its owner.
pub struct Status {
    pub held: Held,
    pub totp_since: Option<Timestamp>,
}

/// What an authenticator app is to be told.
pub struct Setup {
    pub secret: Secret,
    pub url: String,
    pub picture: String,
    pub expires_at: Timestamp,
}

/// A factor that counts from now on.
pub struct Activated {
    /// Where it is the first one: codes for the day when it is lost.
    pub recovery_codes: Vec<RecoveryCode>,
    pub sessions_ended: usize,
    /// Whose session was good for setting up a factor only, has a whole one now.
    pub entered: Option<Entered>,
}

impl Factors {
    pub fn new(db: Db, clock: Clock, key: SealingKey, auth: Auth) -> Self {
        Self { db, clock, key, auth }
    }

    pub async fn status(&self, tenant: &TenantSnapshot, user: UserId) -> Result<Status, FactorsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let held = repo::held(&mut tx, user).await?;
        let totp = repo::find_totp(&mut tx, user).await?;
        tx.commit().await?;
        Ok(Status { held, totp_since: totp.activated_at })
    }

    /// Draws a secret for an authenticator app. It opens nothing until a code shows that the app has it; an app that is
    /// active stays so until then.
    pub async fn set_up_totp(&self, tenant: &TenantSnapshot, me: &CurrentUser) -> Result<Setup, FactorsError> {
        if tenant.auth.mfa == Mfa::Off {
            return Err(FactorsError::Off);
        }
        let secret = totp::random();
        let issuer = tenant.branding.product_name.as_deref().unwrap_or(&tenant.display_name);
        let (url, picture) = totp::invitation(&secret, issuer, &me.email)?;
        let sealed = totp::seal(&self.key, tenant.id, me.id, &secret)?;
        let expires_at = self.clock.now().saturating_add(SETUP).unwrap_or(Timestamp::MAX);
        let mut tx = self.db.begin(tenant.id).await?;
        repo::set_temporary_totp(&mut tx, me.id, &sealed, expires_at).await?;
        tx.commit().await?;
        Ok(Setup { secret, url, picture, expires_at })
    }

    /// Makes the app count, when its code is right. With the first factor the user's other sessions end: whoever got in
    /// without one is out.
    pub async fn activate_totp(
        &self,
        tenant: &Arc<TenantSnapshot>,
        me: &CurrentUser,
        code: &Secret,
        device: &Device,
    ) -> Result<Activated, FactorsError> {
        let attempt = self.auth.begin_factor(tenant.id, me.id, device).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, me.id).await?;
        let stored = repo::find_totp(&mut tx, me.id).await?;
        let (sealed, until) = stored.temporary.ok_or(FactorsError::NotSetUp)?;
        if now >= until {
            return Err(FactorsError::NotSetUp);
        }
        let secret = totp::open(&self.key, tenant.id, me.id, sealed.clone())?;
        let step = totp::step_of(&secret, code.expose(), now)?.ok_or(FactorsError::Wrong("code"))?;
        let first = !repo::held(&mut tx, me.id).await?.any();
        if !repo::activate_totp(&mut tx, me.id, &sealed, step, now).await? {
            return Err(FactorsError::NotSetUp);
        }
        self.auth.factor_succeeded(&attempt).await;
        self.activated(tx, tenant, me, Method::Totp, first, device, now).await
    }

    /// What follows when a factor begins to count.
    #[expect(clippy::too_many_arguments, reason = "one place for what both kinds of factors need")]
    pub(super) async fn activated(
        &self,
        mut tx: TenantTx,
        tenant: &Arc<TenantSnapshot>,
        me: &CurrentUser,
        method: Method,
        first: bool,
        device: &Device,
        now: Timestamp,
    ) -> Result<Activated, FactorsError> {
        let recovery_codes = if first { draw_recovery_codes(&mut tx, me.id, now).await? } else { vec![] };
        if me.limited && !first {
            // Somebody else, who had the password too, was faster.
            return Err(AuthError::SessionEnded.into());
        }
        let standing = self.auth.renew_standing(&mut tx, me.session, method, now).await?;
        // A session that was opened for this alone has done its work.
        let keep = (!me.limited).then_some(me.session);
        let ended = if first { self.auth.revoke_others(&mut tx, me.id, keep, "factor", now).await? } else { vec![] };
        let details = json!({ "factor": method.as_str(), "sessionsEnded": ended.len() });
        let entry = Entry::on_user(me.id, "ENABLE_FACTOR").by(me.id).from(device).with(details);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        let entered = if me.limited {
            let user = users::repo::find_user(&mut tx, me.id).await?.ok_or(AuthError::SessionEnded)?;
            Some(self.auth.enter(tx, tenant, user, standing.proof, "LOGIN", device).await?)
        } else {
            tx.commit().await?;
            None
        };
        self.auth.forget_sessions(tenant.id, &ended).await;
        Ok(Activated { recovery_codes, sessions_ended: ended.len(), entered })
    }

    /// The second step of a login. The token is used up by a right proof; a few wrong ones end it too.
    pub async fn finish_login(
        &self,
        tenant: &Arc<TenantSnapshot>,
        token: &Token,
        shown: Shown,
        device: &Device,
    ) -> Result<Entered, FactorsError> {
        let digest = token.digest();
        let mut tx = self.db.begin(tenant.id).await?;
        let begun = repo::lock_challenge(&mut tx, &digest, Purpose::Login, self.clock.now()).await?;
        tx.commit().await?;
        let user = begun.and_then(|challenge| challenge.user).ok_or(FactorsError::InvalidToken)?;
        let attempt = self.auth.begin_factor(tenant.id, user, device).await?;

        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        // The account first: a change of password that is under way is waited for, and then voids the challenge.
        users::repo::lock_user(&mut tx, user).await?;
        let challenge =
            repo::lock_challenge(&mut tx, &digest, Purpose::Login, now).await?.ok_or(FactorsError::InvalidToken)?;
        let Some(method) = self.check(&mut tx, tenant, user, shown, now).await? else {
            if challenge.failures + 1 < challenges::MOST_FAILURES {
                repo::count_failure(&mut tx, &digest).await?;
            } else {
                repo::delete_challenge(&mut tx, &digest).await?;
            }
            let entry = Entry::on_user(user, "LOGIN").from(device).with(json!({ "secondFactor": "wrong" })).failed();
            audit::record_in_tx(&mut tx, &entry, now).await?;
            tx.commit().await?;
            self.auth.factor_failed(tenant.id, &attempt, device).await?;
            return Err(FactorsError::WrongProof);
        };
        repo::delete_challenge(&mut tx, &digest).await?;
        let user = users::repo::find_user(&mut tx, user).await?.ok_or(FactorsError::InvalidToken)?;
        let entered = self.auth.enter(tx, tenant, user, challenge.proof.and(method), "LOGIN", device).await?;
        self.auth.factor_succeeded(&attempt).await;
        Ok(entered)
    }

    /// Takes the authenticator app away. Its owner proves it with the password and a code (or a recovery code) at once.
    pub async fn disable_totp(
        &self,
        tenant: &Arc<TenantSnapshot>,
        me: &CurrentUser,
        password: Secret,
        shown: Shown,
        device: &Device,
    ) -> Result<usize, FactorsError> {
        let confirmed = self.auth.confirm_password(tenant, me, password, device).await?;
        let attempt = self.auth.begin_factor(tenant.id, me.id, device).await?;
        let (now, field) = (self.clock.now(), shown.field());
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, me.id).await?;
        if users::repo::password_hash(&mut tx, me.id).await? != confirmed {
            return Err(AuthError::WrongPassword.into());
        }
        let held = repo::held(&mut tx, me.id).await?;
        if !held.totp {
            return Err(FactorsError::NoFactor);
        }
        if self.check(&mut tx, tenant, me.id, shown, now).await?.is_none() {
            return Err(self.wrong(tx, me, field, &attempt, device).await?);
        }
        repo::delete_totp(&mut tx, me.id).await?;
        let ended = self.removed(tx, tenant, me, Held { totp: false, ..held }, "otp", device, now).await?;
        self.auth.factor_succeeded(&attempt).await;
        Ok(ended)
    }

    /// What follows when a factor has been taken away; `left` is what remains. The user's other sessions end.
    #[expect(clippy::too_many_arguments, reason = "one place for what both kinds of factors need")]
    pub(super) async fn removed(
        &self,
        mut tx: TenantTx,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        left: Held,
        factor: &str,
        device: &Device,
        now: Timestamp,
    ) -> Result<usize, FactorsError> {
        if !left.any() {
            if tenant.auth.mfa == Mfa::Required {
                return Err(FactorsError::Demanded);
            }
            repo::forget(&mut tx, me.id).await?;
        }
        let ended = self.auth.revoke_others(&mut tx, me.id, Some(me.session), "factor", now).await?;
        let details = json!({ "factor": factor, "sessionsEnded": ended.len() });
        let entry = Entry::on_user(me.id, "DISABLE_FACTOR").by(me.id).from(device).with(details);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        self.auth.forget_sessions(tenant.id, &ended).await;
        Ok(ended.len())
    }

    /// A new set of recovery codes; the old ones are void.
    pub async fn renew_recovery_codes(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        device: &Device,
    ) -> Result<Vec<RecoveryCode>, FactorsError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, me.id).await?;
        if !repo::held(&mut tx, me.id).await?.any() {
            return Err(FactorsError::NoFactor);
        }
        let codes = draw_recovery_codes(&mut tx, me.id, now).await?;
        let entry = Entry::on_user(me.id, "RENEW_RECOVERY_CODES").by(me.id).from(device);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(codes)
    }

    /// Proves again who the signed-in user is, by their password.
    pub async fn step_up_by_password(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        password: Secret,
        device: &Device,
    ) -> Result<Standing, FactorsError> {
        self.auth.confirm_password(tenant, me, password, device).await.map_err(|error| match error {
            AuthError::WrongPassword => FactorsError::Wrong("password"),
            other => other.into(),
        })?;
        let tx = self.db.begin(tenant.id).await?;
        self.stepped_up(tx, me, Method::Password, device).await
    }

    /// Proves again who the signed-in user is, by a factor.
    pub async fn step_up(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        shown: Shown,
        device: &Device,
    ) -> Result<Standing, FactorsError> {
        let attempt = self.auth.begin_factor(tenant.id, me.id, device).await?;
        let (now, field) = (self.clock.now(), shown.field());
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, me.id).await?;
        let Some(method) = self.check(&mut tx, tenant, me.id, shown, now).await? else {
            return Err(self.wrong(tx, me, field, &attempt, device).await?);
        };
        let standing = self.stepped_up(tx, me, method, device).await?;
        self.auth.factor_succeeded(&attempt).await;
        Ok(standing)
    }

    /// What follows when somebody signed in shows something wrong: it counts, and is written down.
    async fn wrong(
        &self,
        tx: TenantTx,
        me: &CurrentUser,
        field: &'static str,
        attempt: &Attempt,
        device: &Device,
    ) -> Result<FactorsError, FactorsError> {
        let tenant = tx.tenant();
        // A ceremony is used up also by a wrong answer.
        tx.commit().await?;
        self.auth.factor_failed(tenant, attempt, device).await?;
        self.auth.record_wrong_proof(tenant, me.id, field, device).await?;
        Ok(FactorsError::Wrong(field))
    }

    async fn stepped_up(
        &self,
        mut tx: TenantTx,
        me: &CurrentUser,
        method: Method,
        device: &Device,
    ) -> Result<Standing, FactorsError> {
        let now = self.clock.now();
        let standing = self.auth.renew_standing(&mut tx, me.session, method, now).await?;
        let details = json!({ "sessionId": me.session, "amr": [method.as_str()] });
        let entry = Entry::on_user(me.id, "STEP_UP").by(me.id).from(device).with(details);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(standing)
    }

    /// Takes all of somebody's factors away, for a user who lost them and their recovery codes. All their sessions end.
    pub async fn remove_all(
        &self,
        tenant: &TenantSnapshot,
        by: &CurrentUser,
        id: UserId,
        device: &Device,
    ) -> Result<Held, FactorsError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        users::target(&mut tx, tenant, by, id, true).await?;
        let held = repo::held(&mut tx, id).await?;
        repo::forget(&mut tx, id).await?;
        let ended = self.auth.revoke_others(&mut tx, id, None, "factor", now).await?;
        let details = json!({ "factors": held.methods(), "sessionsEnded": ended.len() });
        let entry = Entry::on_user(id, "REMOVE_FACTORS").by(by.id).from(device).with(details);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        self.auth.forget_sessions(tenant.id, &ended).await;
        self.auth.unlock_factor(tenant.id, id).await;
        Ok(held)
    }

    /// Whether what is shown is right; it is used up thereby. Where it is not (`None`) nothing changes, but for a passkey's
    /// ceremony, which is used up: commit.
    pub(super) async fn check(
        &self,
        tx: &mut TenantTx,
        tenant: &TenantSnapshot,
        user: UserId,
        shown: Shown,
        now: Timestamp,
    ) -> Result<Option<Method>, FactorsError> {
        match shown {
            Shown::Code(code) => {
                // The active secret alone: one that is being set up opens nothing.
                let Some(sealed) = repo::find_totp(tx, user).await?.secret else { return Ok(None) };
                let secret = totp::open(&self.key, tenant.id, user, sealed)?;
                let Some(step) = totp::step_of(&secret, code.expose(), now)? else { return Ok(None) };
                Ok(repo::use_step(tx, user, step).await?.then_some(Method::Totp))
            }
            Shown::Passkey(answered) => self.check_passkey(tx, tenant, user, &answered).await,
            Shown::RecoveryCode(code) => {
                let digest = RecoveryCode::given(&code).digest(user);
                Ok(repo::use_recovery_code(tx, user, &digest, now).await?.then_some(Method::RecoveryCode))
            }
        }
    }
}

async fn draw_recovery_codes(
    tx: &mut TenantTx,
    user: UserId,
    now: Timestamp,
) -> Result<Vec<RecoveryCode>, sqlx::Error> {
    let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| RecoveryCode::random()).collect();
    let digests: Vec<_> = codes.iter().map(|code| code.digest(user).to_vec()).collect();
    repo::replace_recovery_codes(tx, user, &digests, now).await?;
    Ok(codes)
}

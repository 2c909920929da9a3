//! The verbs of the room. Transactions begin and end here.

use std::sync::Arc;

use contract::{
    Secret, TenantId,
    seal::{Sealed, SealingKey},
};
use jiff::Timestamp;
use serde_json::json;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{
    model::{self, AddressChange, Purpose, RecoveryError},
    repo::{self, NewToken},
};
use crate::{
    extract::{CurrentUser, User, UserId},
    features::{
        audit::{self, Entry},
        auth::{Auth, AuthError, Device},
        mail::{Letter, Mail, Message, Place, Wish},
        users,
    },
    infra::{Clock, Db, TenantTx, Token},
    limits::{RateLimiter, counters::Charge},
    tenancy::TenantSnapshot,
};

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Recovery {
    db: Db,
    clock: Clock,
    auth: Auth,
    mail: Mail,
    limiter: RateLimiter,
    key: SealingKey,
}

/// How somebody shows that a mail reached them.
pub enum Proof {
    Token(Secret),
    Code { email: String, code: Secret },
}

impl Recovery {
    pub fn new(db: Db, clock: Clock, auth: Auth, mail: Mail, limiter: RateLimiter, key: SealingKey) -> Self {
        Self { db, clock, auth, mail, limiter, key }
    }

    /// Writes down that somebody asks for a mail to `email`, in one way for every address.
    pub async fn ask(
        &self,
        tenant: TenantId,
        email: &str,
        wish: Wish,
        action: &'static str,
        device: &Device,
    ) -> Result<(), RecoveryError> {
        self.mail.required()?;
        self.may_ask_for_mail(tenant, email, device).await?;
        let mut tx = self.db.begin(tenant).await?;
        self.mail.enqueue(&mut tx, &Message::to_address(email, Letter::Wish { wish })).await?;
        // Without the account: to look it up would take time that tells.
        audit::record_in_tx(&mut tx, &Entry::new("user", action).from(device), self.clock.now()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The letter that a request by address leads to, with its token kept; `None` where the address has no account, or
    /// nothing to ask for. Asked by the sender, when the mail is about to go.
    pub async fn grant(
        &self,
        tx: &mut TenantTx,
        tenant: &TenantSnapshot,
        email: &str,
        wish: Wish,
    ) -> Result<Option<Message>, sqlx::Error> {
        let found = users::repo::find_by_email(tx, email).await?;
        let Some((user, hash)) = found.filter(|(user, _)| user.is_active) else { return Ok(None) };
        let (letter, expires_at) = match wish {
            // Meanwhile they have found another way to a password.
            Wish::Invitation if hash.is_some() => return Ok(None),
            Wish::Invitation => {
                let (token, end) = self.issue(tx, &user, Purpose::Invitation, &user.email, None).await?;
                (Letter::Invitation { token }, end)
            }
            Wish::ResetPassword => {
                let (token, end) = self.issue(tx, &user, Purpose::ResetPassword, &user.email, None).await?;
                (Letter::ResetPassword { token }, end)
            }
            Wish::Unlock => {
                let (token, end) = self.issue(tx, &user, Purpose::Unlock, &user.email, None).await?;
                (Letter::AccountLocked { token }, end)
            }
            Wish::VerifyEmail if user.email_verified => return Ok(None),
            Wish::VerifyEmail => {
                let code = model::random_code();
                let (token, end) = self.issue(tx, &user, Purpose::VerifyEmail, &user.email, Some(&code)).await?;
                (Letter::VerifyEmail { token, code }, end)
            }
        };
        tracing::debug!(tenant = %tenant.name, kind = letter.kind(), "a mail that was asked for");
        Ok(Some(Message::to_user(&user, letter).until(expires_at)))
    }

    /// Whether an invitation to this address can be mailed: there is a mail server, and it did not get too many mails. Who
    /// invites is not counted by where they are: an administrator invites a whole company at once.
    pub async fn may_invite(&self, tenant: TenantId, email: &str) -> Result<(), AuthError> {
        self.mail.required()?;
        self.spend(&model::charges(tenant, email, None)).await
    }

    /// Sets a password by a mailed token: a new one, or the first. All sessions end, and with them whoever knew the old one.
    pub async fn reset_password(
        &self,
        tenant: &Arc<TenantSnapshot>,
        token: &Secret,
        password: Secret,
        device: &Device,
    ) -> Result<usize, RecoveryError> {
        let (digest, now) = (Token::given(token.expose()).digest(), self.clock.now());
        // Looked at before, so that nobody has passwords hashed without a token, and a password that the policy refuses
        // leaves the token good.
        let mut tx = self.db.begin(tenant.id).await?;
        let good = repo::find(&mut tx, &digest).await?;
        tx.commit().await?;
        let good = good.filter(|token| token.purpose.sets_password() && token.expires_at > now);
        let purpose = good.ok_or(RecoveryError::InvalidLink)?.purpose;
        let hash = self.auth.hash_within_policy(tenant, password).await?;

        let mut tx = self.db.begin(tenant.id).await?;
        let user = self.take(&mut tx, &digest, purpose, now).await?;
        users::repo::update_password_hash(&mut tx, user.id, &hash).await?;
        // The mail reached them: that is what a verification would show.
        users::repo::mark_verified(&mut tx, user.id, now).await?;
        repo::clear(&mut tx, user.id).await?;
        let sessions = self.auth.sessions_of(&mut tx, user.id, now).await?;
        self.auth.revoke_all(&mut tx, user.id, "password", now).await?;
        let (letter, action) = match purpose {
            Purpose::Invitation => (Letter::Welcome, "ACCEPT_INVITATION"),
            _ => (Letter::PasswordChanged { place: Place::of(device, now) }, "RESET_PASSWORD"),
        };
        self.mail.enqueue(&mut tx, &Message::to_user(&user, letter)).await?;
        let entry = Entry::on_user(user.id, action).by(user.id).from(device);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        self.auth.forget_sessions(tenant.id, &sessions).await;
        self.auth.unlock(tenant.id, &user.email).await;
        Ok(sessions.len())
    }

    /// Notes that an address is its owner's.
    pub async fn verify_email(
        &self,
        tenant: &Arc<TenantSnapshot>,
        proof: Proof,
        device: &Device,
    ) -> Result<User, RecoveryError> {
        let now = self.clock.now();
        let (mut tx, user) = match proof {
            Proof::Token(token) => {
                let mut tx = self.db.begin(tenant.id).await?;
                let user =
                    self.take(&mut tx, &Token::given(token.expose()).digest(), Purpose::VerifyEmail, now).await?;
                (tx, user)
            }
            Proof::Code { email, code } => self.try_code(tenant.id, &email, &code, device, now).await?,
        };
        users::repo::mark_verified(&mut tx, user.id, now).await?;
        if !user.email_verified {
            self.mail.enqueue(&mut tx, &Message::to_user(&user, Letter::Welcome)).await?;
        }
        let entry = Entry::on_user(user.id, "VERIFY_EMAIL").by(user.id).from(device);
        self.finish(tx, user.id, &entry, now).await
    }

    /// The transaction that a right code belongs to, the code used up, and its user.
    async fn try_code(
        &self,
        tenant: TenantId,
        email: &str,
        code: &Secret,
        device: &Device,
        now: Timestamp,
    ) -> Result<(TenantTx, User), RecoveryError> {
        let attempt = self.auth.begin_code(tenant, email, device).await?;
        let mut tx = self.db.begin(tenant).await?;
        // The account before its code; one statement each, whether there is such an account or not.
        users::repo::lock_by_email(&mut tx, email).await?;
        let known = repo::try_code(&mut tx, email, now).await?;
        let right = known.as_ref().and_then(|known| {
            let wanted = self.key.open(tenant, &code_field(known.id), &known.sealed).ok()?;
            let same = wanted.expose().as_bytes().ct_eq(code.expose().trim().as_bytes());
            bool::from(same).then_some(known.user)
        });
        let Some(user) = right else {
            audit::record_in_tx(&mut tx, &Entry::new("user", "VERIFY_EMAIL").from(device).failed(), now).await?;
            tx.commit().await?;
            return Err(RecoveryError::InvalidCode);
        };
        let user = users::repo::find_user(&mut tx, user).await?.ok_or(RecoveryError::InvalidCode)?;
        repo::void(&mut tx, user.id, Purpose::VerifyEmail).await?;
        if !user.is_active || user.email != email {
            return Err(RecoveryError::InvalidCode);
        }
        self.auth.code_succeeded(&attempt).await;
        Ok((tx, user))
    }

    /// Begins a change of address: both addresses are asked. The password was given again.
    pub async fn change_email(
        &self,
        tenant: &Arc<TenantSnapshot>,
        me: &CurrentUser,
        password: Secret,
        new: &str,
        device: &Device,
    ) -> Result<Timestamp, RecoveryError> {
        self.mail.required()?;
        if new == me.email {
            return Err(RecoveryError::SameAddress);
        }
        let confirmed = self.auth.confirm_password(tenant, me, password, device).await?;
        self.may_ask_for_mail(tenant.id, new, device).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        // Under the lock: the password may have been set anew meanwhile, or the account be gone.
        users::repo::lock_user(&mut tx, me.id).await?;
        if users::repo::password_hash(&mut tx, me.id).await? != confirmed {
            return Err(AuthError::WrongPassword.into());
        }
        let (leave, end) = self.issue(&mut tx, me, Purpose::LeaveAddress, new, None).await?;
        let (take, _) = self.issue(&mut tx, me, Purpose::TakeAddress, new, None).await?;
        let letter = Letter::LeaveAddress { token: leave, new: new.to_owned() };
        self.mail.enqueue(&mut tx, &Message::to_user(me, letter).until(end)).await?;
        // Without the name: the address may be a stranger's.
        let to_new = Message::to_address(new, Letter::TakeAddress { token: take });
        self.mail.enqueue(&mut tx, &Message { user: Some(me.id), ..to_new.until(end) }).await?;
        let entry = Entry::on_user(me.id, "REQUEST_EMAIL_CHANGE").by(me.id).from(device);
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(end)
    }

    /// One of the two addresses agrees. With the second yes the address changes.
    pub async fn confirm_email(
        &self,
        tenant: &Arc<TenantSnapshot>,
        token: &Secret,
        device: &Device,
    ) -> Result<AddressChange, RecoveryError> {
        let (digest, now) = (Token::given(token.expose()).digest(), self.clock.now());
        let mut tx = self.db.begin(tenant.id).await?;
        let owner = repo::find(&mut tx, &digest).await?.ok_or(RecoveryError::InvalidLink)?.user;
        // Two who say yes at once come one after the other; what was read before the lock is read again.
        users::repo::lock_user(&mut tx, owner).await?;
        let this = repo::find(&mut tx, &digest).await?.filter(|token| token.expires_at > now);
        let this = this.ok_or(RecoveryError::InvalidLink)?;
        let other_half = this.purpose.other_half().ok_or(RecoveryError::InvalidLink)?;
        let user = users::repo::find_user(&mut tx, owner).await?.filter(|user| user.is_active);
        let user = user.ok_or(RecoveryError::InvalidLink)?;
        repo::confirm(&mut tx, this.id, now).await?;
        let other = repo::find_of(&mut tx, owner, other_half).await?;
        let agreed = other.is_some_and(|other| other.confirmed_at.is_some() && other.email == this.email);
        if !agreed {
            let entry = Entry::on_user(owner, "CONFIRM_EMAIL_CHANGE").from(device);
            audit::record_in_tx(&mut tx, &entry.with(json!({ "half": this.purpose.as_str() })), now).await?;
            tx.commit().await?;
            return Ok(AddressChange { changed: false, email: user.email });
        }
        users::repo::update_email(&mut tx, owner, &this.email, now).await?;
        users::repo::mark_verified(&mut tx, owner, now).await?;
        // Whatever was mailed to the old address is void.
        repo::clear(&mut tx, owner).await?;
        for to in [&user.email, &this.email] {
            let letter = Letter::EmailChanged { new: this.email.clone() };
            self.mail.enqueue(&mut tx, &Message { to: to.clone(), ..Message::to_user(&user, letter) }).await?;
        }
        let entry = Entry::on_user(owner, "CHANGE_EMAIL").by(owner).from(device);
        let user = self.finish(tx, owner, &entry, now).await?;
        Ok(AddressChange { changed: true, email: user.email })
    }

    /// Lets an account be tried again, by a mailed token.
    pub async fn unlock(
        &self,
        tenant: &Arc<TenantSnapshot>,
        token: &Secret,
        device: &Device,
    ) -> Result<(), RecoveryError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let user = self.take(&mut tx, &Token::given(token.expose()).digest(), Purpose::Unlock, now).await?;
        audit::record_in_tx(&mut tx, &Entry::on_user(user.id, "UNLOCK").by(user.id).from(device), now).await?;
        tx.commit().await?;
        self.auth.unlock(tenant.id, &user.email).await;
        Ok(())
    }

    /// Whether one more mail to this address may be asked for. Each counts, whether there is such an account or not.
    async fn may_ask_for_mail(&self, tenant: TenantId, email: &str, device: &Device) -> Result<(), RecoveryError> {
        Ok(self.spend(&model::charges(tenant, email, device.line().as_deref())).await?)
    }

    async fn spend(&self, charges: &[Charge]) -> Result<(), AuthError> {
        let waits = |ms: u64| AuthError::Throttled(u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX));
        self.limiter.spend(charges).await.map_err(waits)
    }

    /// Makes a token and keeps what is to be kept of it. Gives it with its end.
    async fn issue(
        &self,
        tx: &mut TenantTx,
        user: &User,
        purpose: Purpose,
        email: &str,
        code: Option<&Secret>,
    ) -> Result<(Secret, Timestamp), sqlx::Error> {
        let (token, id, now) = (Token::random(), Uuid::now_v7(), self.clock.now());
        let expires_at = now.saturating_add(purpose.lifetime()).unwrap_or(Timestamp::MAX);
        let code = code.map(|code| self.key.seal(tx.tenant(), &code_field(id), code)).transpose();
        let code = code.map_err(|error| sqlx::Error::Encode(error.into()))?;
        let code = code.as_ref().map(Sealed::as_str);
        let digest = token.digest();
        let new = NewToken { id, user: user.id, purpose, digest: &digest, code, email, expires_at };
        repo::put(tx, &new, now).await?;
        Ok((token.into(), expires_at))
    }

    /// Uses a token up and gives its user, locked, who still has the address that it was mailed to. The account comes before
    /// its tokens, as wherever both are changed: the other way round two would wait for each other.
    async fn take(
        &self,
        tx: &mut TenantTx,
        digest: &[u8],
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<User, RecoveryError> {
        let owner = repo::find(tx, digest).await?.ok_or(RecoveryError::InvalidLink)?.user;
        users::repo::lock_user(tx, owner).await?;
        let token = repo::take(tx, digest, purpose, now).await?.ok_or(RecoveryError::InvalidLink)?;
        let user = users::repo::find_user(tx, token.user).await?;
        user.filter(|user| user.is_active && user.email == token.email).ok_or(RecoveryError::InvalidLink)
    }

    /// Records, commits, and makes the account as it is now known to its open sessions.
    async fn finish(
        &self,
        mut tx: TenantTx,
        id: UserId,
        entry: &Entry<'_>,
        now: Timestamp,
    ) -> Result<User, RecoveryError> {
        let tenant = tx.tenant();
        let user = users::repo::find_user(&mut tx, id).await?.ok_or(RecoveryError::InvalidLink)?;
        let sessions = self.auth.sessions_of(&mut tx, id, now).await?;
        audit::record_in_tx(&mut tx, entry, now).await?;
        tx.commit().await?;
        self.auth.renew_sessions(tenant, &sessions).await;
        Ok(user)
    }
}

fn code_field(id: Uuid) -> String {
    format!("mail-code/{id}")
}

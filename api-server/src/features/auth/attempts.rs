//! Attempts to prove who somebody is: counted, made to wait, forgiven. What is counted apart is told here; how, in
//! [`throttle`](super::throttle).

use contract::TenantId;
use serde_json::json;

use super::{
    device::Device,
    model::AuthError,
    service::Auth,
    throttle::{Alarm, Attempt, Wait},
};
use crate::{
    extract::UserId,
    features::{
        audit::{self, Entry},
        mail::{Letter, Message, Wish},
        users,
    },
};

impl Auth {
    /// Remembers that somebody tries stolen passwords, once for each alarm.
    pub(super) async fn record_alarms(
        &self,
        tenant: TenantId,
        alarms: &[Alarm],
        device: &Device,
    ) -> Result<(), sqlx::Error> {
        if alarms.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin(tenant).await?;
        for alarm in alarms {
            let entry = Entry::new("tenant", "CREDENTIAL_STUFFING").of(tenant.to_string()).from(device).failed();
            audit::record_in_tx(&mut tx, &entry.with(json!({ "kind": alarm.as_str() })), self.clock.now()).await?;
        }
        tx.commit().await
    }

    /// Remembers that a sign-in failed, the same way whether there is such an account or not: the time must not tell.
    pub(super) async fn record_failed_login(
        &self,
        tenant: TenantId,
        email: &str,
        user: Option<UserId>,
        attempt: &Attempt,
        device: &Device,
    ) -> Result<(), sqlx::Error> {
        let entry = Entry::new("user", "LOGIN").from(device).failed();
        let entry = Entry { resource_id: user.map(|user| user.to_string()), ..entry };
        let mut tx = self.db.begin(tenant).await?;
        // From here on everybody has to wait, its owner too: they get a link that spares them that.
        if attempt.locks
            && let Some(address) = users::email(email)
        {
            let wish = Letter::Wish { wish: Wish::Unlock };
            self.mail.enqueue(&mut tx, &Message::to_address(address, wish)).await?;
        }
        audit::record_in_tx(&mut tx, &entry, self.clock.now()).await?;
        tx.commit().await
    }

    /// Remembers that who is signed in gave a wrong proof of being the user: the sign of a stolen session.
    pub async fn record_wrong_proof(
        &self,
        tenant: TenantId,
        user: UserId,
        what: &str,
        device: &Device,
    ) -> Result<(), sqlx::Error> {
        let entry = Entry::on_user(user, "CONFIRM_IDENTITY").by(user).from(device).failed();
        let mut tx = self.db.begin(tenant).await?;
        audit::record_in_tx(&mut tx, &entry.with(json!({ "wrong": what })), self.clock.now()).await?;
        tx.commit().await
    }

    /// Begins an attempt at an account's second factor. Counted apart from its password: a right password must not
    /// forget wrong codes, or who has the password could try all of them.
    pub async fn begin_factor(&self, tenant: TenantId, user: UserId, device: &Device) -> Result<Attempt, AuthError> {
        let account = factor_of(user);
        self.throttle.begin(tenant, &account, device.line().as_deref()).await.map_err(|Wait(s)| AuthError::Throttled(s))
    }

    /// The second factor was wrong: that counts against the address too. Who guesses one in a session is written down by
    /// [`Auth::record_wrong_proof`].
    pub async fn factor_failed(&self, tenant: TenantId, attempt: &Attempt, device: &Device) -> Result<(), sqlx::Error> {
        let alarms = self.throttle.failed(attempt).await;
        self.record_alarms(tenant, &alarms, device).await
    }

    /// Lets an account's second factor be tried again at once.
    pub async fn unlock_factor(&self, tenant: TenantId, user: UserId) {
        self.throttle.unlock(tenant, &factor_of(user)).await;
    }

    /// The second factor was right.
    pub async fn factor_succeeded(&self, attempt: &Attempt) {
        self.throttle.succeeded(attempt).await;
    }

    /// Lets an account be tried again at once.
    pub async fn unlock(&self, tenant: TenantId, email: &str) {
        self.throttle.unlock(tenant, email).await;
    }

    /// Begins a try of the code that was mailed to this address. Counted apart from its password.
    pub async fn begin_code(&self, tenant: TenantId, email: &str, device: &Device) -> Result<Attempt, AuthError> {
        let account = format!("code of {email}");
        self.throttle.begin(tenant, &account, device.line().as_deref()).await.map_err(|Wait(s)| AuthError::Throttled(s))
    }

    /// The code was right.
    pub async fn code_succeeded(&self, attempt: &Attempt) {
        self.throttle.succeeded(attempt).await;
    }
}

/// What the throttle counts wrong codes of an account under: no address looks like it.
fn factor_of(user: UserId) -> String {
    format!("factor of {user}")
}

//! Where somebody is signed in, and how that ends: by themselves, on one device or on all, or by another room.

use contract::TenantId;
use jiff::Timestamp;

use super::{
    device::Device,
    model::{AuthError, LogoutScope, Session},
    repo,
    service::{Auth, record},
    tokens::RefreshSecret,
};
use crate::{
    extract::{SessionId, UserId},
    infra::TenantTx,
};

impl Auth {
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

    /// Where a user is signed in.
    pub async fn sessions(&self, tenant: TenantId, user: UserId) -> Result<Vec<Session>, AuthError> {
        let mut tx = self.db.begin(tenant).await?;
        let sessions = repo::live_sessions(&mut tx, user, self.clock.now()).await?;
        tx.commit().await?;
        Ok(sessions)
    }

    /// Ends one session of a user.
    pub async fn end_session(
        &self,
        tenant: TenantId,
        user: UserId,
        session: SessionId,
        device: &Device,
    ) -> Result<(), AuthError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant).await?;
        let ended = repo::revoke_sessions(&mut tx, user, Some(session), None, "logout", now).await?;
        if ended.is_empty() {
            return Err(AuthError::NoSuchSession);
        }
        record(&mut tx, "END_SESSION", user, Some(session), device, now).await?;
        tx.commit().await?;
        self.sessions.end(tenant, &ended).await;
        Ok(())
    }

    /// The sessions of a user that count, within a transaction of another room.
    pub async fn sessions_of(
        &self,
        tx: &mut TenantTx,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, sqlx::Error> {
        Ok(repo::live_sessions(tx, user, now).await?.into_iter().map(|session| session.id).collect())
    }

    /// Ends all sessions of a user within a transaction of another room; call [`Auth::forget_sessions`] after it.
    pub async fn revoke_all(
        &self,
        tx: &mut TenantTx,
        user: UserId,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        repo::revoke_sessions(tx, user, None, None, reason, now).await.map(drop)
    }

    /// Ends the sessions of a user but for `keep`, within a transaction of another room; give what it returns to
    /// [`Auth::forget_sessions`] after the commit.
    pub async fn revoke_others(
        &self,
        tx: &mut TenantTx,
        user: UserId,
        keep: Option<SessionId>,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, sqlx::Error> {
        repo::revoke_sessions(tx, user, None, keep, reason, now).await
    }

    /// Makes ended sessions known to every replica, after the commit.
    pub async fn forget_sessions(&self, tenant: TenantId, sessions: &[SessionId]) {
        self.sessions.end(tenant, sessions).await;
    }

    /// Makes a changed account known to its open sessions on every replica, after the commit.
    pub async fn renew_sessions(&self, tenant: TenantId, sessions: &[SessionId]) {
        self.sessions.renew(tenant, sessions).await;
    }
}

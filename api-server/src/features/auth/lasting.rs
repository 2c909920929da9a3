//! What a connection that stays open asks, again and again, of the token by which it was opened.

use std::collections::HashMap;

use contract::TenantId;

use super::{model::AuthError, service::Auth, sessions::State};
use crate::{extract::SessionId, tenancy::TenantSnapshot};

impl Auth {
    /// The session that a token names, where the token itself is still good. Whether the session is, is the next question.
    pub fn check(&self, tenant: &TenantSnapshot, token: &str) -> Result<SessionId, AuthError> {
        Ok(self.tokens.check(tenant, token, self.clock.now())?.sid)
    }

    /// What many sessions are at this moment, whatever was known here before.
    pub async fn sessions_now(
        &self,
        tenant: TenantId,
        sessions: &[SessionId],
    ) -> Result<HashMap<SessionId, State>, sqlx::Error> {
        self.sessions.states(tenant, sessions).await
    }
}

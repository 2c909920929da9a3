//! Where a request comes from.

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use uuid::Uuid;

use crate::{error::ApiError, middleware::Scope};

/// Where a request comes from, for the list of sessions and the audit.
#[derive(Debug, Clone)]
pub struct Device {
    pub ip: String,
    /// The address is of a proxy that was not declared as trusted: whoever comes through it has the same.
    pub behind_proxy: bool,
    pub user_agent: Option<String>,
    /// Leads from the audit to the log.
    pub request_id: Option<String>,
    /// The key, where a program acts for the user.
    pub api_key: Option<Uuid>,
}

impl Device {
    /// The address, where it tells who asks.
    pub fn known_ip(&self) -> Option<&str> {
        (!self.behind_proxy).then_some(self.ip.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Device {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let scope = Scope::from_request_parts(parts, state).await?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            ip: scope.client_ip().to_string(),
            behind_proxy: scope.behind_proxy(),
            user_agent: user_agent.map(|text| text.chars().take(500).collect()),
            request_id: Some(scope.request_id().to_owned()),
            api_key: scope.user().and_then(|user| user.as_machine()).map(|machine| machine.key),
        })
    }
}

//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr};

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
    /// What attempts and mails are counted by: the address, where it tells who asks.
    pub fn line(&self) -> Option<String> {
        (!self.behind_proxy).then(|| line(&self.ip))
    }
}

/// Whose an address is, as far as it tells: of IPv6 a line has 2^64, so the first half of the address counts.
fn line(ip: &str) -> String {
    match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Err(_) => ip.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_counted_as_one_however_many_addresses_it_has() {
        for (ip, counted) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("unknown", "unknown"),
        ] {
            assert_eq!(line(ip), counted);
        }
    }
}

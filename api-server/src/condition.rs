//! Conditions that a tenant's documents put on a request: `contract::condition` evaluates them, and here they are told of
//! a request.

use std::net::IpAddr;

use contract::condition::{Auth, Request};
pub use contract::condition::{Condition, Facts};
use http::{HeaderMap, Method, header};

use crate::extract::CurrentUser;

/// A condition, compiled once a revision.
pub fn compile(source: &str) -> Condition {
    let condition = Condition::compile(source);
    if let Some(error) = condition.error() {
        tracing::error!(source, error, "a condition cannot be evaluated");
    }
    condition
}

/// What conditions may speak of, gathered at most once a request. `path` is taken as it came, with the prefix or without.
pub fn facts(method: &Method, path: &str, ip: IpAddr, headers: &HeaderMap, user: Option<&CurrentUser>) -> Facts {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let auth = user.map_or_else(Auth::default, |user| Auth {
        user_id: user.id.to_string(),
        email: user.email.clone(),
        roles: user.roles().iter().map(ToString::to_string).collect(),
    });
    Facts::new(Request { method: method.as_str(), path, host, ip: ip.to_string(), headers }, &auth)
}

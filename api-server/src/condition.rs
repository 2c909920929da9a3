//! Conditions that a tenant's documents put on a request, in CEL: the `when` of a role binding or of a limit.
//!
//! `request` has `method`, `path` (without the `/api` prefix), `host`, `ip` and `headers` (names in lower case); `auth` has
//! `userId`, `email` and `roles`, and is empty where nobody is signed in. What a condition that cannot be evaluated means
//! is for its owner to say: [`Condition::holds`] then gives `None`.

use std::{collections::HashMap, net::IpAddr};

use cel::{Context, Program, Value};
use contract::expression::check_shape;
use http::{HeaderMap, Method, header};
use serde::Serialize;

use crate::extract::CurrentUser;

/// A condition, compiled once a revision. One that does not compile can never be evaluated.
#[derive(Debug)]
pub struct Condition(Option<Program>);

/// What conditions may speak of, gathered at most once a request.
pub struct Facts(Context<'static>);

#[derive(Serialize)]
struct RequestFacts<'a> {
    method: &'a str,
    path: &'a str,
    host: &'a str,
    ip: String,
    headers: HashMap<&'a str, &'a str>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct AuthFacts {
    user_id: String,
    email: String,
    roles: Vec<String>,
}

impl Condition {
    pub fn compile(source: &str) -> Self {
        // The parser recurses: what is too intricate for it must not reach it.
        if let Err(error) = check_shape(source) {
            tracing::error!(source, "condition {error}");
            return Self(None);
        }
        Self(Program::compile(source).inspect_err(|error| tracing::error!(source, %error, "condition is not CEL")).ok())
    }

    /// Whether it holds; `None` where it cannot be evaluated or is neither true nor false.
    pub fn holds(&self, facts: &Facts) -> Option<bool> {
        match self.0.as_ref()?.execute(&facts.0) {
            Ok(Value::Bool(holds)) => Some(holds),
            Ok(_) | Err(_) => None,
        }
    }
}

impl Facts {
    /// `path` is taken as it came, with the prefix or without.
    pub fn new(method: &Method, path: &str, ip: IpAddr, headers: &HeaderMap, user: Option<&CurrentUser>) -> Self {
        let text = |value: &'_ http::HeaderValue| value.to_str().map(str::to_owned);
        let host = headers.get(header::HOST).and_then(|host| text(host).ok()).unwrap_or_default();
        let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let path = crate::router::without_prefix(path);
        let request = RequestFacts { method: method.as_str(), path, host: &host, ip: ip.to_string(), headers };
        let auth = user.map_or_else(AuthFacts::default, |user| AuthFacts {
            user_id: user.id.to_string(),
            email: user.email.clone(),
            roles: user.roles().iter().map(ToString::to_string).collect(),
        });
        let mut context = Context::default();
        for (name, value) in [("request", cel::to_value(request)), ("auth", cel::to_value(auth))] {
            // A variable that is missing makes conditions on it ones that cannot be evaluated.
            if let Ok(value) = value {
                context.add_variable_from_value(name, value);
            }
        }
        Self(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_speaks_of_the_request() {
        let headers = HeaderMap::from_iter([(header::HOST, "acme.test".parse().unwrap())]);
        let facts = Facts::new(&Method::GET, "/api/v1/payments", [10, 0, 0, 1].into(), &headers, None);
        let holds = |source: &str| Condition::compile(source).holds(&facts);
        assert_eq!(holds("request.method in ['GET', 'POST'] && request.path == '/payments'"), Some(true));
        assert_eq!(holds("request.ip.startsWith('10.') && request.headers['host'] == request.host"), Some(true));
        assert_eq!(holds("'ADMIN' in auth.roles"), Some(false));
        let tower = "(".repeat(1000);
        for unevaluable in ["request.nothing == 1", "request.method", "1 +", "other", &tower] {
            assert_eq!(holds(unevaluable), None, "{unevaluable}");
        }
    }
}

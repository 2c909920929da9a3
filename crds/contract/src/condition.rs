//! What the `when` of a binding or of a limit means, in CEL: the one place that evaluates it, for who serves requests and
//! for who explains what would be served.
//!
//! `request` has `method`, `path` (without the `/api` prefix), `host`, `ip` and `headers` (names in lower case); `auth` has
//! `userId`, `email` and `roles`, and is empty where nobody is signed in. What a condition that cannot be evaluated means
//! is for its owner to say: [`Condition::holds`] then gives `None`.

use std::collections::HashMap;

use cel::{Context, Program, Value, objects::ValueType};
use serde::Serialize;

use crate::{expression::check_shape, limits::without_prefix};

/// A condition, compiled once. One that does not compile can never be evaluated.
#[derive(Debug)]
pub struct Condition(Result<Program, String>);

/// What conditions may speak of.
pub struct Facts(Context<'static>);

/// The request, as conditions know it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As it came, with the prefix or without.
    pub path: &'a str,
    pub host: &'a str,
    pub ip: String,
    /// By lower-case name.
    pub headers: HashMap<&'a str, &'a str>,
}

/// Who asks, as conditions know them; empty where nobody is signed in.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    pub user_id: String,
    pub email: String,
    pub roles: Vec<String>,
}

impl Condition {
    #[must_use]
    pub fn compile(source: &str) -> Self {
        // The parser recurses: what is too intricate for it must not reach it.
        Self(match check_shape(source) {
            Err(error) => Err(error.to_string()),
            Ok(()) => Program::compile(source).map_err(|error| error.to_string()),
        })
    }

    /// Why it can never be evaluated.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    /// The type of what it comes to, where that is neither true nor false: such a condition never holds.
    #[must_use]
    pub fn other_than_bool(&self, facts: &Facts) -> Option<String> {
        let found = self.0.as_ref().ok()?.execute(&facts.0).ok()?.type_of();
        (!matches!(found, ValueType::Bool)).then(|| found.to_string())
    }

    /// Whether it holds; `None` where it cannot be evaluated or is neither true nor false.
    #[must_use]
    pub fn holds(&self, facts: &Facts) -> Option<bool> {
        match self.0.as_ref().ok()?.execute(&facts.0) {
            Ok(Value::Bool(holds)) => Some(holds),
            Ok(_) | Err(_) => None,
        }
    }
}

impl Facts {
    #[must_use]
    pub fn new(request: Request<'_>, auth: &Auth) -> Self {
        let request = Request { path: without_prefix(request.path), ..request };
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
        let headers = HashMap::from([("host", "acme.test")]);
        let request =
            Request { method: "GET", path: "/api/v1/payments", host: "acme.test", ip: "10.0.0.1".into(), headers };
        let facts = Facts::new(request, &Auth::default());
        let holds = |source: &str| Condition::compile(source).holds(&facts);
        assert_eq!(holds("request.method in ['GET', 'POST'] && request.path == '/payments'"), Some(true));
        assert_eq!(holds("request.ip.startsWith('10.') && request.headers['host'] == request.host"), Some(true));
        assert_eq!(holds("'ADMIN' in auth.roles"), Some(false));
        let other = |source: &str| Condition::compile(source).other_than_bool(&facts);
        assert_eq!(other("1 + 1").as_deref(), Some("int"));
        assert_eq!((other("request.method == 'GET'"), other("request.nothing"), other("1 +")), (None, None, None));
        let tower = "(".repeat(1000);
        for unevaluable in ["request.nothing == 1", "request.method", "1 +", "other", &tower] {
            assert_eq!(holds(unevaluable), None, "{unevaluable}");
        }
        assert!(Condition::compile("1 +").error().is_some() && Condition::compile("true").error().is_none());
    }
}

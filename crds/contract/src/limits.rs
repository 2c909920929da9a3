//! How much is allowed.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// One limit in force: what it counts, by whom, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// `<policy>/<limit>`: names the counter, the header's entry and the refusal.
    pub name: String,
    /// Requests it is about; empty lists mean all.
    #[serde(default)]
    pub methods: Vec<String>,
    #[serde(default)]
    pub paths: Vec<PathMatch>,
    /// CEL predicates over `request` and `auth`, all of which must hold; one that cannot be evaluated counts as true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<String>,
    /// What a counter is kept for; one counter for each combination of values.
    pub counters: Vec<Counter>,
    /// All of them hold at once.
    pub rates: Vec<Rate>,
    pub algorithm: Algorithm,
    /// Tokens that may be spent at once, of a TokenBucket; the first rate's limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// What one request costs.
    pub cost: NonZeroU32,
    pub mode: LimitMode,
    pub failure_mode: FailureMode,
}

/// Name of the limit that `quotas.requestsPerDay` is, in headers and refusals.
pub const DAILY_QUOTA: &str = "quota/requests-per-day";

/// The prefix of the API; [`API_ALIAS`] means the same.
pub const API_PREFIX: &str = "/api/v1";
pub const API_ALIAS: &str = "/api";

/// The path as documents write it: the same for both prefixes.
#[must_use]
pub fn without_prefix(path: &str) -> &str {
    [API_PREFIX, API_ALIAS]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix).filter(|rest| rest.starts_with('/')))
        .unwrap_or(path)
}

/// The path as limits compare it. A limit on one prefix is a limit on both.
#[must_use]
pub fn canonical(path: &str) -> &str {
    without_prefix(path).trim_end_matches('/')
}

impl Limit {
    /// Whether it is about requests with this method to this path, whoever sends them.
    #[must_use]
    pub fn is_about(&self, method: &str, path: &str) -> bool {
        let path = canonical(path);
        (self.methods.is_empty() || self.methods.iter().any(|wanted| wanted.eq_ignore_ascii_case(method)))
            && (self.paths.is_empty() || self.paths.iter().any(|m| m.kind.matches(canonical(&m.value), path)))
    }

    /// The policy that it came from, and its name there.
    #[must_use]
    pub fn origin(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap_or((&self.name, ""))
    }
}

impl PathMatchKind {
    /// Whether `path` is meant by `wanted`, both [canonical].
    #[must_use]
    pub fn matches(self, wanted: &str, path: &str) -> bool {
        match self {
            Self::Exact => path == wanted,
            Self::PathPrefix => path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    #[serde(rename = "type")]
    pub kind: PathMatchKind,
    /// Begins with `/` and is written without the `/api` or `/api/v1` prefix, so that it means both.
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum PathMatchKind {
    Exact,
    /// At segment boundaries, as in the Gateway API: `/auth` matches `/auth/login`, not `/authors`.
    PathPrefix,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Counter {
    Tenant,
    /// The signed-in user; the source address where nobody is signed in.
    User,
    /// The API key; as `User` where none is used.
    ApiKey,
    SourceIp,
    /// The value of a request header, by its lower-case name.
    Header(String),
}

/// A counter that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a counter: use Tenant, User, ApiKey, SourceIP or Header:<name>")]
pub struct InvalidCounter(String);

impl std::str::FromStr for Counter {
    type Err = InvalidCounter;
    fn from_str(text: &str) -> Result<Self, InvalidCounter> {
        Ok(match text {
            "Tenant" => Self::Tenant,
            "User" => Self::User,
            "ApiKey" => Self::ApiKey,
            "SourceIP" => Self::SourceIp,
            _ => match text.strip_prefix("Header:") {
                Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
                    Self::Header(name.to_ascii_lowercase())
                }
                _ => return Err(InvalidCounter(text.to_owned())),
            },
        })
    }
}

impl TryFrom<String> for Counter {
    type Error = InvalidCounter;
    fn try_from(text: String) -> Result<Self, InvalidCounter> {
        text.parse()
    }
}

impl From<Counter> for String {
    fn from(counter: Counter) -> String {
        match counter {
            Counter::Tenant => "Tenant".into(),
            Counter::User => "User".into(),
            Counter::ApiKey => "ApiKey".into(),
            Counter::SourceIp => "SourceIP".into(),
            Counter::Header(name) => format!("Header:{name}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    pub limit: NonZeroU32,
    /// In seconds.
    pub window_seconds: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Algorithm {
    FixedWindow,
    #[default]
    SlidingWindow,
    TokenBucket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum LimitMode {
    #[default]
    Enforce,
    /// Counts and reports, refuses nobody.
    Shadow,
}

/// What happens while the counter store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum FailureMode {
    /// Let everything through.
    Open,
    /// Refuse everything with 503.
    Closed,
    /// Count in this process alone.
    #[default]
    Local,
}

#[cfg(test)]
mod tests {
    use PathMatchKind::{Exact, PathPrefix};

    use super::*;

    #[test]
    fn a_prefix_ends_at_a_segment_and_means_the_alias_too() {
        let matches = |kind: PathMatchKind, wanted: &str, path: &str| kind.matches(canonical(wanted), canonical(path));
        for path in ["/api/v1/auth/login", "/api/auth/login", "/api/v1/auth", "/api/auth/"] {
            assert!(matches(PathPrefix, "/auth", path), "{path}");
            assert!(matches(PathPrefix, "/api/v1/auth/", path), "{path}");
            assert!(matches(PathPrefix, "/", path), "{path}");
        }
        assert!(!matches(PathPrefix, "/auth", "/api/v1/authors"));
        assert!(matches(Exact, "/auth", "/api/auth") && !matches(Exact, "/auth", "/api/auth/login"));
        assert_eq!(canonical("/apiary/v1"), "/apiary/v1");
    }
}

//! How a replica is asked: `GET /internal/config` on its management port.

use std::{collections::HashMap, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use serde::Deserialize;

const CONNECT: Duration = Duration::from_secs(1);

/// What a replica says of all tenants, or of those that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What to ask with next; none from a replica that cannot tell changes.
    pub cursor: Option<String>,
    /// Whether this is all there is.
    pub whole: bool,
    /// Tenant and revision.
    pub tenants: Vec<(String, String)>,
    pub rejected: Vec<(String, Refusal)>,
    /// Tenants that it forgot.
    pub gone: Vec<String>,
}

/// A document that a replica did not take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    pub revision: Option<String>,
    pub error: String,
}

/// Someone who asks replicas.
pub trait Source: Send + Sync + 'static {
    /// What changed since `cursor`, or after at most `wait` that nothing did; everything without a cursor.
    fn ask<'a>(
        &'a self,
        address: &'a str,
        cursor: Option<&'a str>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Report, String>>;
}

/// Asks over the network.
#[derive(Debug, Clone)]
pub struct Http(reqwest::Client);

impl Http {
    pub fn new() -> reqwest::Result<Self> {
        reqwest::Client::builder()
            .user_agent(concat!("tenantry-operator/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .no_proxy()
            .build()
            .map(Self)
    }
}

impl Source for Http {
    fn ask<'a>(
        &'a self,
        address: &'a str,
        cursor: Option<&'a str>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Report, String>> {
        let mut url = format!("http://{address}/internal/config");
        if let Some(cursor) = cursor {
            url = format!("{url}?since={cursor}&waitSeconds={}", wait.as_secs());
        }
        let asked = async move {
            let answer: Answer = self.0.get(url).send().await?.error_for_status()?.json().await?;
            Ok::<_, reqwest::Error>(answer.into())
        };
        asked.map(|answer| answer.map_err(|error| error.to_string())).boxed()
    }
}

#[derive(Deserialize)]
struct Answer {
    cursor: Option<String>,
    /// A replica of the version before has no word for it, and tells everything.
    #[serde(default = "yes")]
    whole: bool,
    tenants: HashMap<String, Serves>,
    #[serde(default)]
    rejected: HashMap<String, Refusal>,
    #[serde(default)]
    gone: Vec<String>,
}

#[derive(Deserialize)]
struct Serves {
    revision: String,
}

const fn yes() -> bool {
    true
}

impl From<Answer> for Report {
    fn from(Answer { cursor, whole, tenants, rejected, gone }: Answer) -> Self {
        let tenants = tenants.into_iter().map(|(name, serves)| (name, serves.revision)).collect();
        Self { cursor, whole, tenants, rejected: rejected.into_iter().collect(), gone }
    }
}

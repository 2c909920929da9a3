//! The operator's own count of its requests, read from its metrics.

use std::{collections::BTreeMap, fmt, ops::Sub, time::Duration};

use anyhow::Result;

/// Requests to the Kubernetes API by verb and resource, as RBAC names them. Without watches, which are opened once, and
/// the Lease, which is renewed every second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<String, u64>);

impl Calls {
    /// What was read.
    pub fn reads(&self) -> u64 {
        self.sum(|verb| matches!(verb, "get" | "list"))
    }

    /// What was written or tried to be.
    pub fn writes(&self) -> u64 {
        self.sum(|verb| !matches!(verb, "get" | "list"))
    }

    fn sum(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let verb = |name: &str| name.split(' ').next().is_some_and(&wanted);
        self.0.iter().filter(|(name, _)| verb(name)).map(|(_, count)| count).sum()
    }
}

impl Sub for Calls {
    type Output = Self;

    fn sub(mut self, before: Self) -> Self {
        for (name, count) in before.0 {
            let now = self.0.entry(name).or_default();
            *now = now.saturating_sub(count);
        }
        self.0.retain(|_, count| *count > 0);
        self
    }
}

/// The most frequent first.
impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut calls: Vec<_> = self.0.iter().collect();
        calls.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
        let words: Vec<_> = calls.iter().map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&if words.is_empty() { "none".to_owned() } else { words.join(", ") })
    }
}

/// What the metrics of an operator say at one moment.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    pub calls: Calls,
    pub leads: bool,
    /// Visits of Tenants that ended.
    pub visits: usize,
    /// Tenants that wait for one.
    pub waiting: usize,
}

impl Scrape {
    pub async fn of(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let text = client.get(format!("{url}/metrics")).send().await?.error_for_status()?.text().await?;
        Ok(Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("tenantry_operator_")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let label = |key: &str| {
                let (_, rest) = labels.split_once(&format!("{key}=\""))?;
                rest.split('"').next()
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a count")]
            let count = value.parse::<f64>().unwrap_or_default() as u64;
            let size = usize::try_from(count).unwrap_or(usize::MAX);
            match (name, label("kind")) {
                ("leader", _) => scrape.leads = count > 0,
                ("queue_depth", Some("Tenant")) => scrape.waiting = size,
                ("reconcile_duration_seconds_count", Some("Tenant")) => scrape.visits += size,
                ("api_requests_total", _) => {
                    let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
                    if verb != "watch" && resource != "leases" {
                        *scrape.calls.0.entry(format!("{verb} {resource}")).or_default() += count;
                    }
                }
                _ => {}
            }
        }
        scrape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"
# TYPE tenantry_operator_api_requests counter
tenantry_operator_api_requests_total{verb="get",resource="secrets",code="200"} 5
tenantry_operator_api_requests_total{verb="get",resource="secrets",code="404"} 1
tenantry_operator_api_requests_total{verb="patch",resource="tenants/status",code="200"} 3
tenantry_operator_api_requests_total{verb="update",resource="leases",code="200"} 90
tenantry_operator_api_requests_total{verb="watch",resource="tenants",code="200"} 2
tenantry_operator_leader 1
tenantry_operator_queue_depth{kind="Tenant"} 4
tenantry_operator_queue_depth{kind="Platform"} 9
tenantry_operator_reconcile_duration_seconds_count{kind="Tenant"} 12
"#;

    #[test]
    fn metrics_are_read_without_watches_and_the_lease() {
        let scrape = Scrape::read(METRICS);
        assert_eq!((scrape.calls.reads(), scrape.calls.writes()), (6, 3));
        assert_eq!((scrape.leads, scrape.waiting, scrape.visits), (true, 4, 12));
        let more = Scrape::read(&METRICS.replace("code=\"404\"} 1", "code=\"404\"} 8")).calls - scrape.calls;
        assert_eq!(more.to_string(), "7 get secrets");
    }
}

//! A tenant's limits, made ready for the request path once per revision: which requests they are about, and under
//! which keys those are counted.

use std::{
    cell::LazyCell,
    net::{IpAddr, Ipv6Addr},
    sync::OnceLock,
};

use contract::{
    TenantConfig, TenantId,
    limits::{Algorithm as Named, Counter, DAILY_QUOTA, FailureMode, Limit, LimitMode, PathMatchKind, canonical},
};
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    counters::Charge,
    metrics::Meters,
    rate::{Algorithm, Rate},
};
use crate::condition::{self, Condition, Facts};

/// All limits of one tenant.
#[derive(Debug)]
pub struct Limits {
    tenant: TenantId,
    limits: Vec<CompiledLimit>,
}

/// One limit, with everything derived that does not depend on the request.
#[derive(Debug)]
pub struct CompiledLimit {
    pub name: String,
    methods: Vec<String>,
    paths: Vec<(PathMatchKind, String)>,
    when: Vec<Condition>,
    counters: Vec<Counter>,
    pub rates: Vec<CompiledRate>,
    pub cost: u64,
    pub mode: LimitMode,
    pub failure_mode: FailureMode,
}

#[derive(Debug)]
pub struct CompiledRate {
    pub rate: Rate,
    /// In the headers: the limit's name, and the window where the limit has several.
    pub name: String,
    /// The beginning of its counters' keys. A counter whose algorithm or window changes begins anew; one whose limit
    /// changes goes on from what has been spent.
    key: String,
    pub(super) meters: OnceLock<Meters>,
}

/// What a request is counted by.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub method: &'a Method,
    /// As it came, with or without the `/api` prefix.
    pub path: &'a str,
    pub user: Option<Uuid>,
    pub api_key: Option<Uuid>,
    pub address: IpAddr,
    pub headers: &'a HeaderMap,
    /// For limits with conditions; not gathered for others.
    pub facts: &'a (dyn Fn() -> Facts + Sync),
}

/// One rate that applies to a request.
#[derive(Debug)]
pub struct Applied<'a> {
    pub limit: &'a CompiledLimit,
    pub rate: &'a CompiledRate,
}

impl Limits {
    pub fn compile(tenant: &TenantConfig) -> Self {
        let quota = tenant.quotas.requests_per_day.map(|limit| daily_quota(tenant.id, limit));
        let limits = tenant.limits.iter().map(|limit| CompiledLimit::compile(tenant.id, limit)).chain(quota);
        Self { tenant: tenant.id, limits: limits.collect() }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The rates that this request must pass, each with its charge.
    pub fn applying<'a>(&'a self, caller: &Caller<'_>) -> (Vec<Applied<'a>>, Vec<Charge>) {
        let path = canonical(caller.path);
        let facts = LazyCell::new(caller.facts);
        let mut applied = Vec::with_capacity(self.limits.len());
        let mut charges = Vec::with_capacity(self.limits.len());
        for limit in self.limits.iter().filter(|limit| limit.matches(caller.method, path)) {
            // One that cannot be evaluated counts as true: a mistake in a condition must not lift the limit.
            if !limit.when.iter().all(|condition| condition.holds(&facts) != Some(false)) {
                continue;
            }
            let suffix = limit.counted_by(caller);
            for rate in &limit.rates {
                charges.push(Charge {
                    key: [rate.key.as_str(), &suffix].concat(),
                    rate: rate.rate,
                    cost: limit.cost,
                    enforced: limit.mode == LimitMode::Enforce,
                });
                applied.push(Applied { limit, rate });
            }
        }
        (applied, charges)
    }
}

impl CompiledLimit {
    fn compile(tenant: TenantId, limit: &Limit) -> Self {
        let burst = limit.burst.map(|burst| u64::from(burst.get()));
        let rates = limit.rates.iter().enumerate().map(|(index, rate)| {
            let (allowed, seconds) = (u64::from(rate.limit.get()), u64::from(rate.window_seconds.get()));
            let (algorithm, letter) = match limit.algorithm {
                Named::FixedWindow => (Algorithm::FixedWindow, 'F'),
                Named::SlidingWindow => (Algorithm::SlidingWindow, 'S'),
                // The burst is the first rate's; a longer rate beside it would never get to speak under so small a one.
                Named::TokenBucket => {
                    let burst = burst.filter(|_| index == 0).unwrap_or(allowed);
                    (Algorithm::TokenBucket { burst }, 'B')
                }
            };
            CompiledRate {
                rate: Rate { algorithm, limit: allowed, window_ms: seconds * 1_000 },
                name: if limit.rates.len() == 1 { limit.name.clone() } else { format!("{}/{seconds}s", limit.name) },
                key: format!("limit:{{{tenant}}}:{}:{letter}{seconds}", limit.name),
                meters: OnceLock::new(),
            }
        });
        Self {
            name: limit.name.clone(),
            methods: limit.methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
            paths: limit.paths.iter().map(|path| (path.kind, canonical(&path.value).to_owned())).collect(),
            when: limit.when.iter().map(|source| condition::compile(source)).collect(),
            counters: limit.counters.clone(),
            rates: rates.collect(),
            cost: limit.cost.get().into(),
            mode: limit.mode,
            failure_mode: limit.failure_mode,
        }
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|wanted| wanted == method.as_str()))
            && (self.paths.is_empty() || self.paths.iter().any(|(kind, wanted)| kind.matches(wanted, path)))
    }

    /// The end of the key: one counter for each combination of values.
    fn counted_by(&self, caller: &Caller<'_>) -> String {
        let mut key = String::with_capacity(48);
        for counter in &self.counters {
            key.push(':');
            match (counter, caller.user, caller.api_key) {
                (Counter::Tenant, ..) => {}
                (Counter::User, Some(id), _) | (Counter::ApiKey, _, Some(id)) => {
                    key.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
                }
                (Counter::User | Counter::ApiKey | Counter::SourceIp, ..) => {
                    key.push_str(&network(caller.address).to_string());
                }
                (Counter::Header(name), ..) => {
                    // Hashed, because a header is as long as its sender likes. Without the header, all share one counter.
                    let value = caller.headers.get(name).map_or(&[][..], |value| value.as_bytes());
                    key.push_str(&hex::encode(&Sha256::digest(value)[..16]));
                }
            }
        }
        key
    }
}

/// `Tenant.spec.quotas.requestsPerDay`, as the limit that it is.
fn daily_quota(tenant: TenantId, limit: u64) -> CompiledLimit {
    let rate = Rate { algorithm: Algorithm::FixedWindow, limit, window_ms: 86_400_000 };
    CompiledLimit {
        name: DAILY_QUOTA.to_owned(),
        methods: vec![],
        paths: vec![],
        when: vec![],
        counters: vec![Counter::Tenant],
        rates: vec![CompiledRate {
            rate,
            name: DAILY_QUOTA.to_owned(),
            key: format!("limit:{{{tenant}}}:{DAILY_QUOTA}:F86400"),
            meters: OnceLock::new(),
        }],
        cost: 1,
        mode: LimitMode::Enforce,
        failure_mode: FailureMode::Open,
    }
}

/// Whom an address stands for: an IPv6 host has a whole /64 to itself, and would otherwise walk through it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_and_a_mapped_ipv4_as_itself() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}

//! How much is allowed: decides a request against all the limits of its tenant that are about it.
//!
//! - [`policy`] makes a tenant's limits ready once per revision; a request then only collects keys.
//! - [`rate`] is the arithmetic; `lua/decide.lua` the same where all replicas meet, in Redis, on Redis' clock.
//! - [`counters`] asks either. All limits of a request are decided at once: a request that is refused spends nothing.
//! - [`headers`] tells the caller what is left, in both families of header names.
//!
//! When Redis does not answer within its deadline, each limit's `failureMode` speaks: let through, refuse, or count in
//! this process alone, which goes on from what Redis last refused.

pub mod counters;
pub mod headers;
pub mod metrics;
pub mod policy;
pub mod rate;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use contract::limits::{FailureMode, LimitMode};

pub use self::policy::{Caller, Limits};
use self::{
    counters::{Charge, LocalCounters, decide_in_redis},
    metrics::LimitMetrics,
    policy::Applied,
    rate::Verdict,
};
use crate::infra::{Clock, Redis};

/// The API starts without Redis, too: it is not waited for longer than this.
const PREPARED_WITHIN: Duration = Duration::from_secs(1);

/// Decides requests. Cheap to clone.
#[derive(Clone)]
pub struct RateLimiter(Arc<Inner>);

struct Inner {
    redis: Redis,
    local: LocalCounters,
    clock: Clock,
    metrics: LimitMetrics,
    breaker: Breaker,
}

/// What the limits said to one request.
#[derive(Debug)]
pub struct Decision<'a> {
    pub outcome: Outcome<'a>,
    /// The enforced rates that were counted, in the order of the limits' names.
    pub entries: Vec<(Applied<'a>, Verdict)>,
}

#[derive(Debug)]
pub enum Outcome<'a> {
    Admitted,
    /// Over this limit; of several the one that frees up last.
    Limited {
        limit: &'a str,
        retry_ms: u64,
    },
    /// This limit cannot be counted, and refuses rather than guess.
    Unavailable {
        limit: &'a str,
    },
}

impl RateLimiter {
    pub fn new(redis: Redis, clock: Clock, metrics: LimitMetrics) -> Self {
        Self(Arc::new(Inner { redis, local: LocalCounters::default(), clock, metrics, breaker: Breaker::new() }))
    }

    /// Connects to Redis ahead of the first request, which would otherwise be decided without it.
    pub async fn prepare(&self) {
        let prepared = tokio::time::timeout(PREPARED_WITHIN, counters::prepare(&self.0.redis)).await;
        if !matches!(prepared, Ok(Ok(()))) {
            tracing::warn!("rate limits begin without Redis");
        }
    }

    /// Decides, and spends what the request costs if it may go ahead.
    pub async fn decide<'a>(&self, limits: &'a Limits, caller: &Caller<'_>) -> Decision<'a> {
        let (applied, charges) = limits.applying(caller);
        if charges.is_empty() {
            return Decision { outcome: Outcome::Admitted, entries: vec![] };
        }
        match self.count(&charges).await {
            Some(verdicts) => self.conclude(applied.into_iter().zip(verdicts), &charges),
            None => self.without_redis(applied, charges),
        }
    }

    /// Spends from counters that no tenant's limit knows: what the API itself bounds. An error is the milliseconds until there is
    /// room again; while Redis is away each replica counts for itself.
    pub async fn spend(&self, charges: &[Charge]) -> Result<(), u64> {
        let verdicts = match self.count(charges).await {
            Some(verdicts) => verdicts,
            None => self.0.local.decide(charges, self.now_ms()),
        };
        match verdicts.iter().filter(|verdict| !verdict.allowed).map(|verdict| verdict.retry_ms).max() {
            Some(retry_ms) => Err(retry_ms),
            None => Ok(()),
        }
    }

    async fn count(&self, charges: &[Charge]) -> Option<Vec<Verdict>> {
        let breaker = &self.0.breaker;
        if !breaker.closed() {
            return None;
        }
        match decide_in_redis(&self.0.redis, charges, None).await {
            Ok(verdicts) => {
                breaker.succeeded();
                for (charge, verdict) in charges.iter().zip(&verdicts).filter(|(_, verdict)| !verdict.allowed) {
                    self.0.local.learn(charge, verdict, self.now_ms());
                }
                Some(verdicts)
            }
            Err(error) => {
                breaker.failed();
                tracing::warn!(%error, "rate limits are decided without Redis");
                None
            }
        }
    }

    fn without_redis<'a>(&self, applied: Vec<Applied<'a>>, charges: Vec<Charge>) -> Decision<'a> {
        for Applied { rate, .. } in &applied {
            self.0.metrics.of(rate).error.inc();
        }
        let closed =
            |a: &&Applied<'a>| a.limit.failure_mode == FailureMode::Closed && a.limit.mode == LimitMode::Enforce;
        if let Some(Applied { limit, .. }) = applied.iter().find(closed) {
            return Decision { outcome: Outcome::Unavailable { limit: &limit.name }, entries: vec![] };
        }
        let (applied, charges): (Vec<_>, Vec<_>) = applied
            .into_iter()
            .zip(charges)
            .filter(|(applied, _)| applied.limit.failure_mode == FailureMode::Local)
            .unzip();
        let verdicts = self.0.local.decide(&charges, self.now_ms());
        self.conclude(applied.into_iter().zip(verdicts), &charges)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.clock.now().as_millisecond()).unwrap_or_default()
    }

    fn conclude<'a>(&self, decided: impl Iterator<Item = (Applied<'a>, Verdict)>, charges: &[Charge]) -> Decision<'a> {
        let mut outcome = Outcome::Admitted;
        let mut entries = Vec::with_capacity(charges.len());
        for (applied, verdict) in decided {
            let meters = self.0.metrics.of(applied.rate);
            match (verdict.allowed, applied.limit.mode) {
                (true, _) => meters.allowed.inc(),
                (false, LimitMode::Shadow) => meters.shadow.inc(),
                (false, LimitMode::Enforce) => meters.limited.inc(),
            };
            if applied.limit.mode == LimitMode::Shadow {
                continue;
            }
            let latest = match outcome {
                Outcome::Limited { retry_ms, .. } => retry_ms,
                _ => 0,
            };
            if !verdict.allowed && verdict.retry_ms >= latest {
                outcome = Outcome::Limited { limit: &applied.limit.name, retry_ms: verdict.retry_ms };
            }
            entries.push((applied, verdict));
        }
        if let Outcome::Limited { .. } = outcome {
            // Nothing was spent where there was room.
            for (applied, verdict) in entries.iter_mut().filter(|(_, verdict)| verdict.allowed) {
                verdict.remaining += applied.limit.cost;
            }
        }
        Decision { outcome, entries }
    }
}

/// Stops asking a Redis that does not answer, so that not every request waits out the deadline; one in [`Breaker::PAUSE_MS`]
/// tries again.
struct Breaker {
    began: Instant,
    failures: AtomicU32,
    ask_again_at: AtomicU64,
}

impl Breaker {
    const FAILURES: u32 = 3;
    const PAUSE_MS: u64 = 250;

    fn new() -> Self {
        Self { began: Instant::now(), failures: AtomicU32::new(0), ask_again_at: AtomicU64::new(0) }
    }

    fn closed(&self) -> bool {
        if self.failures.load(Relaxed) < Self::FAILURES {
            return true;
        }
        let (now, ask_again_at) = (self.now_ms(), self.ask_again_at.load(Relaxed));
        now >= ask_again_at
            && self.ask_again_at.compare_exchange(ask_again_at, now + Self::PAUSE_MS, Relaxed, Relaxed).is_ok()
    }

    fn succeeded(&self) {
        // Read first: a store by every request on every core would pass the cache line around.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.ask_again_at.store(self.now_ms() + Self::PAUSE_MS, Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

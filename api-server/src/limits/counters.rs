//! Where what was spent is kept: in Redis, one for all replicas, or in this process while Redis is away.
//! Both decide all the rates of a request at once, so that a request that is refused has spent nothing.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, Script, ServerErrorKind};

use super::rate::{Algorithm, Rate, Spent, Verdict};
use crate::infra::{Redis, patience};

/// What one request asks of one rate.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The counter's full name, with its tenant in braces: all of a request's keys share one Redis Cluster slot.
    pub key: String,
    pub rate: Rate,
    pub cost: u64,
    /// Whether a refusal by this rate refuses the request.
    pub enforced: bool,
}

/// A request waits no longer than this to be counted; then the limit's failure mode speaks.
const DEADLINE: Duration = Duration::from_millis(50);

static DECIDE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/decide.lua")));

#[derive(Debug, thiserror::Error)]
pub enum CountersError {
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error("Redis did not answer within {} ms", DEADLINE.as_millis())]
    Deadline,
    #[error("Redis answered {0} numbers where {1} were asked for")]
    Answer(usize, usize),
}

/// Teaches Redis the script, and with that connects to it: the first request then finds both done.
pub async fn prepare(redis: &Redis) -> Result<(), CountersError> {
    redis.query::<String>(redis::cmd("SCRIPT").arg("LOAD").arg(include_str!("lua/decide.lua"))).await?;
    Ok(())
}

/// Decides `charges` in one round trip. `now` is Redis' own clock unless a test says otherwise.
pub async fn decide_in_redis(
    redis: &Redis,
    charges: &[Charge],
    now: Option<u64>,
) -> Result<Vec<Verdict>, CountersError> {
    let mut command = redis::cmd("EVALSHA");
    command.arg(DECIDE.get_hash()).arg(charges.len());
    for charge in charges {
        command.arg(redis.key(format_args!("{}", charge.key)));
    }
    match now {
        Some(now) => command.arg(now),
        None => command.arg(""),
    };
    for Charge { rate, cost, enforced, .. } in charges {
        let kind = match rate.algorithm {
            Algorithm::FixedWindow => "F",
            Algorithm::SlidingWindow => "S",
            Algorithm::TokenBucket { .. } => "B",
        };
        command.arg(kind).arg(rate.limit).arg(rate.window_ms).arg(rate.quota()).arg(cost).arg(u8::from(*enforced));
    }
    let numbers: Vec<u64> = patience::within(DEADLINE, async {
        match redis.query(&command).await {
            // A restarted Redis has forgotten its scripts.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                prepare(redis).await?;
                Ok(redis.query(&command).await?)
            }
            answered => answered.map_err(CountersError::from),
        }
    })
    .await
    .ok_or(CountersError::Deadline)??;
    if numbers.len() != charges.len() * 4 {
        return Err(CountersError::Answer(numbers.len(), charges.len() * 4));
    }
    let verdicts = numbers.chunks_exact(4).map(|n| Verdict {
        allowed: n[0] == 1,
        remaining: n[1],
        reset_ms: n[2],
        retry_ms: n[3],
    });
    Ok(verdicts.collect())
}

/// Counters in this process.
#[derive(Debug, Default)]
pub struct LocalCounters(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    spent: HashMap<String, (Rate, Spent)>,
    /// Grown to this many keys, the map is rid of those that have nothing left to remember.
    sweep_at: usize,
}

impl LocalCounters {
    pub fn decide(&self, charges: &[Charge], now: u64) -> Vec<Verdict> {
        let mut counted = self.0.lock();
        let decided: Vec<(Verdict, Spent)> = charges
            .iter()
            .map(|Charge { key, rate, cost, .. }| {
                rate.decide(counted.spent.get(key).map(|(_, spent)| spent), *cost, now)
            })
            .collect();
        let admitted = charges.iter().zip(&decided).all(|(charge, (verdict, _))| verdict.allowed || !charge.enforced);
        let mut verdicts = Vec::with_capacity(charges.len());
        for (charge, (verdict, spent)) in charges.iter().zip(decided) {
            if admitted && verdict.allowed {
                counted.spent.insert(charge.key.clone(), (charge.rate, spent));
            }
            verdicts.push(verdict);
        }
        counted.sweep(now);
        verdicts
    }
}

impl LocalCounters {
    /// Takes over what Redis refused, so that it stays refused should Redis be away for the next request.
    pub fn learn(&self, charge: &Charge, verdict: &Verdict, now: u64) {
        let spent = charge.rate.used_up(charge.cost, verdict.retry_ms, now);
        let mut counted = self.0.lock();
        counted.spent.insert(charge.key.clone(), (charge.rate, spent));
        counted.sweep(now);
    }
}

impl Counted {
    fn sweep(&mut self, now: u64) {
        const AT_LEAST: usize = 1_024;
        if self.spent.len() >= self.sweep_at.max(AT_LEAST) {
            self.spent.retain(|_, (rate, spent)| spent.forgotten_at(rate) > now);
            self.sweep_at = self.spent.len() * 2;
        }
    }
}

//! How often passwords may be tried: on one account, whoever tries, and from one address, whichever accounts.
//!
//! After [`ACCOUNT`]'s and [`ADDRESS`]'s free attempts each further one makes the next wait twice as long. The count is shared
//! by all replicas, in Redis; while that is away each replica counts for itself. An account that does not exist is counted
//! like one that does: being throttled tells nothing.

use std::sync::{Arc, LazyLock};

use contract::TenantId;
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use parking_lot::Mutex;
use redis::Script;
use sha2::{Digest, Sha256};

use crate::{
    infra::{Clock, Redis},
    metrics::Metrics,
};

/// When tries on something begin to be delayed, and how long.
#[derive(Debug, Clone, Copy)]
struct Pace {
    free: u32,
    first: SignedDuration,
    longest: SignedDuration,
}

const ACCOUNT: Pace = Pace { free: 5, first: SignedDuration::from_secs(30), longest: SignedDuration::from_hours(1) };
/// Many people can share an address; who tries many accounts from one is stuffing it with stolen passwords.
const ADDRESS: Pace = Pace { free: 30, first: SignedDuration::from_secs(30), longest: SignedDuration::from_hours(1) };
/// Failures are forgotten this long after the last one.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);
const COUNTED_HERE: u64 = 100_000;

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("throttle.lua")));

/// What was tried so far.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    failures: u32,
    blocked_until: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Throttle {
    redis: Redis,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Where Redis is away.
    here: Cache<String, Arc<Mutex<Tries>>>,
}

/// One attempt that was let through.
#[derive(Debug)]
pub struct Attempt {
    account: String,
    address: String,
}

/// Seconds to wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub u32);

impl Throttle {
    pub fn new(redis: Redis, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let forgotten = std::time::Duration::try_from(FORGOTTEN).unwrap_or_default();
        let here = Cache::builder().max_capacity(COUNTED_HERE).time_to_idle(forgotten).build();
        Self { redis, clock, metrics, here }
    }

    /// Begins an attempt, or says how long to wait. It counts as failed until [`Throttle::succeeded`].
    pub async fn begin(&self, tenant: TenantId, email: &str, ip: &str) -> Result<Attempt, Wait> {
        let attempt = Attempt { account: self.account(tenant, email), address: self.address(tenant, ip) };
        let now = self.clock.now();
        let mut script = BEGIN.prepare_invoke();
        script.key(&attempt.account).key(&attempt.address).arg(now.as_millisecond()).arg(millis(FORGOTTEN));
        for pace in [ACCOUNT, ADDRESS] {
            script.arg(pace.free).arg(millis(pace.first)).arg(millis(pace.longest));
        }
        let wait = match self.redis.run::<i64>(&script).await {
            Ok(wait) => SignedDuration::from_millis(wait),
            Err(error) => {
                self.metrics.redis_failures.inc();
                tracing::debug!(%error, "attempts to sign in are counted by this replica alone");
                self.begin_here(&attempt, now)
            }
        };
        if wait.is_positive() {
            self.metrics.logins_throttled.inc();
            return Err(Wait(u32::try_from((wait.as_millis() + 999) / 1000).unwrap_or(u32::MAX)));
        }
        Ok(attempt)
    }

    /// The password was right: the account's failures are forgotten. The address keeps its own, or a thief with one account
    /// would have as many tries as they like.
    pub async fn succeeded(&self, attempt: &Attempt) {
        self.forget(&attempt.account).await;
    }

    /// Lets an account be tried again at once: its password was set anew, or an administrator says so.
    pub async fn unlock(&self, tenant: TenantId, email: &str) {
        self.forget(&self.account(tenant, email)).await;
    }

    async fn forget(&self, key: &str) {
        self.here.invalidate(key);
        if self.redis.query::<redis::Value>(&redis::Cmd::del(key)).await.is_err() {
            self.metrics.redis_failures.inc();
        }
    }

    fn begin_here(&self, attempt: &Attempt, now: Timestamp) -> SignedDuration {
        let (account, address) = (self.tries(&attempt.account), self.tries(&attempt.address));
        // Always in this order, so two attempts never wait for each other.
        let (mut account, mut address) = (account.lock(), address.lock());
        let left = |tries: &Tries| tries.blocked_until.map_or(SignedDuration::ZERO, |until| until.duration_since(now));
        let wait = left(&account).max(left(&address));
        if !wait.is_positive() {
            count(&mut account, ACCOUNT, now);
            count(&mut address, ADDRESS, now);
        }
        wait
    }

    fn tries(&self, key: &str) -> Arc<Mutex<Tries>> {
        self.here.get_with(key.to_owned(), Arc::default)
    }

    /// Both keys of a tenant share a Redis Cluster slot. The address is hashed: Redis is no place for a list of users.
    fn account(&self, tenant: TenantId, email: &str) -> String {
        let digest = Sha256::digest(email.trim().to_lowercase());
        self.redis.key(format_args!("{{t:{tenant}}}:tries:account:{}", hex::encode(&digest[..16])))
    }

    fn address(&self, tenant: TenantId, ip: &str) -> String {
        self.redis.key(format_args!("{{t:{tenant}}}:tries:address:{ip}"))
    }
}

fn count(tries: &mut Tries, pace: Pace, now: Timestamp) {
    tries.failures = tries.failures.saturating_add(1);
    tries.blocked_until = delay(tries.failures, pace).and_then(|delay| now.checked_add(delay).ok());
}

/// How long the next attempt waits after this many failures.
fn delay(failures: u32, pace: Pace) -> Option<SignedDuration> {
    let doubled = failures.checked_sub(pace.free)?;
    let factor = 1_i32.checked_shl(doubled).filter(|factor| *factor > 0).unwrap_or(i32::MAX);
    Some(pace.first.saturating_mul(factor).min(pace.longest))
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_longest() {
        let seconds = |failures| delay(failures, ACCOUNT).map(|delay| delay.as_secs());
        assert_eq!(
            [4, 5, 6, 7, 11, 12, 40, u32::MAX].map(seconds),
            [None, Some(30), Some(60), Some(120), Some(1_920), Some(3_600), Some(3_600), Some(3_600)]
        );
    }
}

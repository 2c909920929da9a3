//! How often passwords may be tried: on one account, whoever tries, and from one address, whichever accounts.
//!
//! After [`ACCOUNT`]'s and [`ADDRESS`]'s free attempts each further one makes the next wait twice as long. The count is shared
//! by all replicas, in Redis; while that is away each replica counts for itself. An account that does not exist is counted
//! like one that does: being throttled tells nothing.
//!
//! An address counts what failed from it, and only that: the people of an office who sign in at once, or all day, slow nobody
//! down. Where the address is a proxy's that nobody declared, it is everybody's, and counts for nothing.
//!
//! Who tries stolen passwords tries each account once, so two more things are watched: how many accounts fail from one address
//! ([`MANY_ACCOUNTS`]), and from how many addresses sign-ins to a tenant fail ([`MANY_ADDRESSES`]) beside those that succeed.
//! Either raises an alarm, and the waits; whoever signs in counts for neither.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use contract::TenantId;
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use parking_lot::Mutex;
use redis::Script;
use sha2::{Digest, Sha256};

use crate::{
    features::users,
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
/// Many people can share an address.
const ADDRESS: Pace = Pace { free: 30, first: SignedDuration::from_secs(30), longest: SignedDuration::from_hours(1) };
/// Failures are forgotten this long after the last one.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);
const COUNTED_HERE: u64 = 100_000;

/// So many accounts that failed from one address are no office whose people forgot their passwords …
const MANY_ACCOUNTS: u32 = 20;
/// … and it waits this long, twice as long after each further one.
const STUFFING: Pace =
    Pace { free: MANY_ACCOUNTS, first: SignedDuration::from_mins(15), longest: SignedDuration::from_hours(24) };
/// The accounts of an address are forgotten this long after the last one.
const STUFFING_FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

/// So many addresses that failed within [`ATTACK_WINDOW`], and [`ATTACK_RATIO`] times those that signed in, are one attacker.
const MANY_ADDRESSES: u32 = 100;
const ATTACK_RATIO: u32 = 3;
const ATTACK_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// Meanwhile an account has fewer free attempts.
const ATTACKED_FREE: u32 = 2;

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/begin.lua")));
static FAILED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/failed.lua")));

/// What was tried so far.
#[derive(Debug, Default)]
struct Tries {
    failures: u32,
    blocked_until: Option<Timestamp>,
    /// Of an address: the accounts that failed from it.
    accounts: HashSet<[u8; 8]>,
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
    tenant: TenantId,
    account: String,
    address: String,
    /// `None` where the address is nobody's in particular.
    line: Option<String>,
    /// Stands for the account in the set of its address.
    name: [u8; 8],
    /// Whether the account makes everybody wait from this attempt on, should it fail too.
    pub locks: bool,
}

impl Attempt {
    fn accounts(&self) -> String {
        format!("{}:accounts", self.address)
    }
}

/// Somebody tries stolen passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// On many accounts from one address.
    ManyAccounts,
    /// On a tenant from many addresses.
    ManyAddresses,
}

impl Alarm {
    /// For the audit and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManyAccounts => "many_accounts",
            Self::ManyAddresses => "many_addresses",
        }
    }
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

    /// Begins an attempt, or says how long to wait. It counts as the account's failure until [`Throttle::succeeded`], and as
    /// the address's from [`Throttle::failed`] on. `line` ([`Device::line`](super::Device::line)) is `None` where it is not
    /// known who asks.
    pub async fn begin(&self, tenant: TenantId, email: &str, line: Option<&str>) -> Result<Attempt, Wait> {
        let digest = digest(email);
        let mut attempt = Attempt {
            tenant,
            account: self.key(tenant, format_args!("account:{}", hex::encode(&digest[..16]))),
            address: self.key(tenant, format_args!("address:{}", line.unwrap_or("unknown"))),
            line: line.map(str::to_owned),
            name: digest.first_chunk().copied().unwrap_or_default(),
            locks: false,
        };
        let now = self.clock.now();
        let mut begin = BEGIN.prepare_invoke();
        begin.key(&attempt.account).key(&attempt.address).key(self.addresses(tenant)).key(self.signed_in(tenant));
        begin.arg(now.as_millisecond()).arg(millis(FORGOTTEN));
        begin.arg(ACCOUNT.free).arg(millis(ACCOUNT.first)).arg(millis(ACCOUNT.longest));
        begin.arg(MANY_ADDRESSES).arg(ATTACK_RATIO).arg(ATTACKED_FREE);
        let wait = match self.redis.run::<(i64, bool)>(&begin).await {
            Ok((wait, locks)) => {
                attempt.locks = locks;
                SignedDuration::from_millis(wait)
            }
            Err(error) => {
                self.metrics.redis_failures.inc();
                tracing::debug!(%error, "attempts to sign in are counted by this replica alone");
                self.begin_here(&mut attempt, now)
            }
        };
        if wait.is_positive() {
            self.metrics.logins_throttled.inc();
            return Err(Wait(u32::try_from((wait.as_millis() + 999) / 1000).unwrap_or(u32::MAX)));
        }
        Ok(attempt)
    }

    /// The attempt failed: it counts against its address. Says what it was one too many of.
    pub async fn failed(&self, attempt: &Attempt) -> Vec<Alarm> {
        let Some(line) = &attempt.line else { return vec![] };
        let now = self.clock.now();
        let mut failed = FAILED.prepare_invoke();
        failed.key(&attempt.address).key(attempt.accounts()).key(self.addresses(attempt.tenant));
        failed.key(self.signed_in(attempt.tenant)).key(self.key(attempt.tenant, format_args!("alarm")));
        failed.arg(now.as_millisecond()).arg(millis(FORGOTTEN));
        failed.arg(ADDRESS.free).arg(millis(ADDRESS.first)).arg(millis(ADDRESS.longest));
        failed.arg(&attempt.name[..]).arg(line);
        failed.arg(STUFFING.free).arg(millis(STUFFING.first)).arg(millis(STUFFING.longest));
        failed.arg(millis(STUFFING_FORGOTTEN)).arg(MANY_ADDRESSES).arg(ATTACK_RATIO).arg(millis(ATTACK_WINDOW));
        let counted = self.redis.run::<(bool, bool)>(&failed).await;
        // How many addresses fail shows only where all replicas count together.
        let (accounts, addresses) = counted.unwrap_or_else(|_| {
            self.metrics.redis_failures.inc();
            (self.failed_here(attempt, now), false)
        });
        let rung = [(accounts, Alarm::ManyAccounts), (addresses, Alarm::ManyAddresses)];
        let alarms: Vec<_> = rung.into_iter().filter_map(|(rings, alarm)| rings.then_some(alarm)).collect();
        for alarm in &alarms {
            self.metrics.stuffing.rings(alarm.as_str());
        }
        alarms
    }

    /// The password was right: the account's failures are forgotten, and it is none that fails from its address. What failed
    /// from there before still counts, or a thief with one account would have as many tries as they like.
    pub async fn succeeded(&self, attempt: &Attempt) {
        self.here.invalidate(&attempt.account);
        if let Some(address) = self.here.get(&attempt.address) {
            address.lock().accounts.remove(&attempt.name);
        }
        let signed_in = self.signed_in(attempt.tenant);
        let mut pipe = redis::pipe();
        pipe.del(&attempt.account).ignore();
        if let Some(line) = &attempt.line {
            pipe.srem(attempt.accounts(), &attempt.name[..]).ignore();
            pipe.srem(self.addresses(attempt.tenant), line).ignore();
        }
        pipe.cmd("SET").arg(&signed_in).arg(0).arg("NX").arg("PX").arg(millis(ATTACK_WINDOW)).ignore();
        pipe.incr(&signed_in, 1).ignore();
        if self.redis.pipeline(&pipe).await.is_err() {
            self.metrics.redis_failures.inc();
        }
    }

    /// Lets an account be tried again at once: its password was set anew, or an administrator says so.
    pub async fn unlock(&self, tenant: TenantId, email: &str) {
        let account = self.key(tenant, format_args!("account:{}", hex::encode(&digest(email)[..16])));
        self.forget(&account).await;
    }

    async fn forget(&self, key: &str) {
        self.here.invalidate(key);
        if self.redis.query::<redis::Value>(&redis::Cmd::del(key)).await.is_err() {
            self.metrics.redis_failures.inc();
        }
    }

    /// Counts in this process alone.
    fn begin_here(&self, attempt: &mut Attempt, now: Timestamp) -> SignedDuration {
        let left = |tries: &Tries| tries.blocked_until.map_or(SignedDuration::ZERO, |until| until.duration_since(now));
        let address = self.here.get(&attempt.address).map_or(SignedDuration::ZERO, |address| left(&address.lock()));
        let account = self.tries(&attempt.account);
        let mut account = account.lock();
        let wait = left(&account).max(address);
        if !wait.is_positive() {
            let waited = account.blocked_until.is_some();
            count(&mut account, ACCOUNT, now);
            attempt.locks = !waited && account.blocked_until.is_some();
        }
        wait
    }

    /// Says whether one account too many failed from the address.
    fn failed_here(&self, attempt: &Attempt, now: Timestamp) -> bool {
        let address = self.tries(&attempt.address);
        let mut address = address.lock();
        count(&mut address, ADDRESS, now);
        let new = address.accounts.insert(attempt.name);
        let accounts = u32::try_from(address.accounts.len()).unwrap_or(u32::MAX);
        if let Some(until) = delay(accounts, STUFFING).and_then(|delay| now.checked_add(delay).ok()) {
            address.blocked_until = address.blocked_until.max(Some(until));
        }
        new && accounts == MANY_ACCOUNTS
    }

    fn tries(&self, key: &str) -> Arc<Mutex<Tries>> {
        self.here.get_with(key.to_owned(), Arc::default)
    }

    /// All keys of a tenant share a Redis Cluster slot.
    fn key(&self, tenant: TenantId, of: std::fmt::Arguments<'_>) -> String {
        self.redis.key(format_args!("{{t:{tenant}}}:tries:{of}"))
    }

    /// How many signed in to a tenant of late.
    fn signed_in(&self, tenant: TenantId) -> String {
        self.key(tenant, format_args!("succeeded"))
    }

    fn addresses(&self, tenant: TenantId) -> String {
        self.key(tenant, format_args!("addresses"))
    }
}

/// Redis is no place for a list of users. Counted by the form in which an address is kept: none has more tries for being
/// written in several ways.
fn digest(account: &str) -> [u8; 32] {
    match users::email(account) {
        Some(email) => Sha256::digest(email).into(),
        None => Sha256::digest(account.trim().to_lowercase()).into(),
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
    fn an_account_is_counted_as_one_however_its_address_is_written() {
        let same = ["zo\u{eb}@acme.test", " ZOE\u{308}@Acme.TEST ", "Zo\u{cb}@acme.test"];
        assert!(same.iter().all(|email| digest(email) == digest(same[0])));
        assert_ne!(digest("zoe@acme.test"), digest(same[0]));
    }

    #[test]
    fn the_wait_doubles_up_to_its_longest() {
        let seconds = |failures| delay(failures, ACCOUNT).map(|delay| delay.as_secs());
        assert_eq!(
            [4, 5, 6, 7, 11, 12, 40, u32::MAX].map(seconds),
            [None, Some(30), Some(60), Some(120), Some(1_920), Some(3_600), Some(3_600), Some(3_600)]
        );
    }
}

//! The same promises, kept by Redis and by the process alone; and what happens between the two.

use std::{collections::HashMap, net::IpAddr, num::NonZeroU32};

use contract::{
    TenantConfig, TenantId, TenantName,
    limits::{Algorithm as Named, Counter, Limit, PathMatch, PathMatchKind, Rate as NamedRate},
};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{
    rate::{Algorithm, Rate},
    *,
};
use crate::condition;

/// A Redis of its own, as far as names go.
fn redis() -> Redis {
    Redis::lazy(&crate::testing::redis_url(), format!("test-{}:", Uuid::new_v4())).unwrap()
}

enum Store {
    Redis(Redis),
    Local(LocalCounters),
}

impl Store {
    async fn decide(&self, charges: &[Charge], now: u64) -> Vec<Verdict> {
        match self {
            Self::Redis(redis) => decide_in_redis(redis, charges, Some(now)).await.unwrap(),
            Self::Local(local) => local.decide(charges, now),
        }
    }
}

/// Every promise, of both stores.
macro_rules! promises {
    ($($name:ident),+ $(,)?) => {
        mod in_redis { $(#[tokio::test] async fn $name() { super::$name(&super::Store::Redis(super::redis())).await; })+ }
        mod in_this_process { $(#[tokio::test] async fn $name() { super::$name(&super::Store::Local(Default::default())).await; })+ }
    };
}

promises! {
    each_algorithm_admits_exactly_its_limit,
    a_refused_request_spends_nothing_anywhere,
    a_limit_that_only_watches_refuses_nobody,
    a_request_may_cost_more_than_one,
    time_gives_back_what_was_spent,
}

const T: u64 = 1_700_000_000_000;
const KINDS: [Algorithm; 3] = [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket { burst: 5 }];

fn charge(key: &str, algorithm: Algorithm, limit: u64) -> Charge {
    Charge { key: format!("{{t}}:{key}"), rate: Rate { algorithm, limit, window_ms: 60_000 }, cost: 1, enforced: true }
}

async fn each_algorithm_admits_exactly_its_limit(store: &Store) {
    for (index, algorithm) in KINDS.into_iter().enumerate() {
        let charges = [charge(&format!("k{index}"), algorithm, 5)];
        for left in (0..5).rev() {
            let verdict = store.decide(&charges, T).await[0];
            assert!(
                verdict.allowed && verdict.remaining == left && verdict.retry_ms == 0,
                "{algorithm:?}: {verdict:?}"
            );
        }
        let verdict = store.decide(&charges, T).await[0];
        assert!(!verdict.allowed && verdict.remaining == 0 && verdict.retry_ms > 0, "{algorithm:?}: {verdict:?}");
    }
}

async fn a_refused_request_spends_nothing_anywhere(store: &Store) {
    for (index, algorithm) in KINDS.into_iter().enumerate() {
        let (wide, narrow) = (
            charge(&format!("wide{index}"), algorithm, 5),
            charge(&format!("narrow{index}"), Algorithm::FixedWindow, 1),
        );
        store.decide(&[wide.clone(), narrow.clone()], T).await;
        for _ in 0..10 {
            let verdicts = store.decide(&[wide.clone(), narrow.clone()], T).await;
            assert!(verdicts[0].allowed && !verdicts[1].allowed);
        }
        assert_eq!(store.decide(&[wide], T).await[0].remaining, 3, "{algorithm:?}: two were admitted of five");
    }
}

async fn a_limit_that_only_watches_refuses_nobody(store: &Store) {
    let (real, watching) = (charge("real", Algorithm::FixedWindow, 3), charge("shadow", Algorithm::FixedWindow, 1));
    let charges = [real, Charge { enforced: false, ..watching }];
    let verdicts = [store.decide(&charges, T).await, store.decide(&charges, T).await, store.decide(&charges, T).await];
    assert_eq!(verdicts.each_ref().map(|v| v[0].allowed), [true; 3]);
    assert_eq!(verdicts.each_ref().map(|v| v[1].allowed), [true, false, false]);
}

async fn a_request_may_cost_more_than_one(store: &Store) {
    for (index, algorithm) in KINDS.into_iter().enumerate() {
        let charges = [Charge { cost: 2, ..charge(&format!("dear{index}"), algorithm, 5) }];
        let mut allowed = 0;
        for _ in 0..5 {
            allowed += u32::from(store.decide(&charges, T).await[0].allowed);
        }
        assert_eq!(allowed, 2, "{algorithm:?}");
    }
}

async fn time_gives_back_what_was_spent(store: &Store) {
    for (index, algorithm) in KINDS.into_iter().enumerate() {
        let charges = [charge(&format!("again{index}"), algorithm, 5)];
        for _ in 0..5 {
            store.decide(&charges, T).await;
        }
        let retry = store.decide(&charges, T).await[0].retry_ms;
        assert!(!store.decide(&charges, T + retry - 1).await[0].allowed, "{algorithm:?}");
        assert!(store.decide(&charges, T + retry).await[0].allowed, "{algorithm:?}");
    }
}

#[tokio::test]
async fn redis_and_the_process_agree_on_every_request() {
    let (redis, local) = (Store::Redis(redis()), Store::Local(LocalCounters::default()));
    let mut random = StdRng::seed_from_u64(7);
    let mut now = T;
    for step in 0..3_000 {
        now += random.random_range(0..400);
        let count = random.random_range(1..4);
        let charges: Vec<Charge> = (0..count)
            .map(|_| {
                let (kind, limit, window) =
                    (random.random_range(0..3), random.random_range(1..8), random.random_range(1..5));
                let algorithm = match kind {
                    0 => Algorithm::FixedWindow,
                    1 => Algorithm::SlidingWindow,
                    _ => Algorithm::TokenBucket { burst: random.random_range(1..8) },
                };
                let key = format!("{{t}}:{kind}:{limit}:{window}");
                let rate = Rate { algorithm, limit, window_ms: window * 700 };
                Charge { key, rate, cost: random.random_range(1..3), enforced: random.random_bool(0.8) }
            })
            .collect();
        // One request never names a counter twice.
        let unique: HashMap<&str, &Charge> = charges.iter().map(|charge| (charge.key.as_str(), charge)).collect();
        let charges: Vec<Charge> = unique.into_values().cloned().collect();
        assert_eq!(redis.decide(&charges, now).await, local.decide(&charges, now).await, "step {step}: {charges:?}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------

pub(crate) fn limit(name: &str, allowed: u32, counters: &[Counter]) -> Limit {
    let number = |n| NonZeroU32::new(n).unwrap();
    Limit {
        name: name.to_owned(),
        methods: vec![],
        paths: vec![],
        when: vec![],
        counters: counters.to_vec(),
        rates: vec![NamedRate { limit: number(allowed), window_seconds: number(3_600) }],
        algorithm: Named::FixedWindow,
        burst: None,
        cost: number(1),
        mode: LimitMode::Enforce,
        failure_mode: FailureMode::Local,
    }
}

fn limits(limits: Vec<Limit>) -> Limits {
    let name = format!("t-{}", Uuid::new_v4().simple());
    let mut tenant = TenantConfig::new(TenantId::derive("test", &name), TenantName::new(name).unwrap());
    tenant.limits = limits;
    Limits::compile(&tenant)
}

fn limiter(redis: &Redis) -> RateLimiter {
    RateLimiter::new(redis.clone(), Clock::system(), LimitMetrics::default())
}

/// A request of `user`, or of nobody.
async fn ask<'a>(limiter: &RateLimiter, limits: &'a Limits, path: &str, user: Option<Uuid>) -> Decision<'a> {
    let (method, headers) = (Method::POST, HeaderMap::new());
    let address = IpAddr::from([192, 0, 2, 1]);
    let facts = || condition::facts(&method, path, address, &headers, None);
    limiter
        .decide(
            limits,
            &Caller { method: &method, path, user, api_key: None, address, headers: &headers, facts: &facts },
        )
        .await
}

fn admitted(decision: &Decision<'_>) -> bool {
    matches!(decision.outcome, Outcome::Admitted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_replicas_together_admit_exactly_the_limit() {
    let redis = redis();
    for algorithm in [Named::FixedWindow, Named::SlidingWindow, Named::TokenBucket] {
        let closed =
            Limit { algorithm, failure_mode: FailureMode::Closed, ..limit("api/all", 100, &[Counter::Tenant]) };
        let limits = Arc::new(limits(vec![closed]));
        let replicas = [limiter(&redis), limiter(&redis), limiter(&redis)];
        let callers = (0..24).map(|n| {
            let (replica, limits) = (replicas[n % 3].clone(), Arc::clone(&limits));
            tokio::spawn(async move {
                let (mut admitted, mut unanswered) = (0, 0);
                loop {
                    match ask(&replica, &limits, "/api/v1/x", None).await.outcome {
                        Outcome::Admitted => admitted += 1,
                        Outcome::Unavailable { .. } => unanswered += 1,
                        Outcome::Limited { .. } => return (admitted, unanswered),
                    }
                }
            })
        });
        let (mut admitted, mut unanswered) = (0, 0);
        for caller in callers.collect::<Vec<_>>() {
            let (more, lost) = caller.await.unwrap();
            (admitted, unanswered) = (admitted + more, unanswered + lost);
        }
        // A machine that stalls may lose an answer after its request was counted: then one fewer is admitted, never one more.
        assert!(
            admitted <= 100 && admitted + unanswered >= 100,
            "{algorithm:?}: {admitted} of 100, {unanswered} unanswered"
        );
    }
}

#[tokio::test]
async fn a_user_is_counted_alone_and_nobody_by_address() {
    let (limiter, limits) = (limiter(&redis()), limits(vec![limit("api/user", 1, &[Counter::User])]));
    let (ada, bob) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
    for user in [ada, bob, None] {
        assert!(admitted(&ask(&limiter, &limits, "/api/x", user).await));
        assert!(!admitted(&ask(&limiter, &limits, "/api/x", user).await));
    }
}

#[tokio::test]
async fn stacked_limits_all_hold_and_the_one_that_is_used_up_is_named() {
    let login = Limit {
        paths: vec![PathMatch { kind: PathMatchKind::PathPrefix, value: "/auth".into() }],
        methods: vec!["POST".into()],
        ..limit("auth/login", 2, &[Counter::SourceIp])
    };
    let (limiter, limits) = (limiter(&redis()), limits(vec![login, limit("api/all", 100, &[Counter::Tenant])]));
    for _ in 0..2 {
        assert!(admitted(&ask(&limiter, &limits, "/api/v1/auth/login", None).await));
    }
    // The alias is no way around.
    let refused = ask(&limiter, &limits, "/api/auth/login", None).await;
    assert!(
        matches!(refused.outcome, Outcome::Limited { limit: "auth/login", retry_ms: 3_500_000..=3_600_000 }),
        "{refused:?}"
    );
    let elsewhere = ask(&limiter, &limits, "/api/v1/authors", None).await;
    assert_eq!(elsewhere.entries.len(), 1);
    assert_eq!(elsewhere.entries[0].1.remaining, 97, "what was refused was not counted");
}

#[tokio::test]
async fn a_condition_narrows_a_limit_and_a_broken_one_does_not_lift_it() {
    let when = |source: &str| Limit { when: vec![source.to_owned()], ..limit(source, 1, &[Counter::Tenant]) };
    let conditions = ["request.path == '/a'", "request.method == 'GET'", "request.moon == 'full'", "1 +"];
    let (limiter, limits) = (limiter(&redis()), limits(conditions.map(when).to_vec()));
    let decision = ask(&limiter, &limits, "/api/v1/a", None).await;
    let applied: Vec<_> = decision.entries.iter().map(|(applied, _)| applied.limit.name.as_str()).collect();
    assert_eq!(applied, [conditions[0], conditions[2], conditions[3]]);
}

#[tokio::test]
async fn a_raised_limit_goes_on_from_what_was_spent() {
    let limiter = limiter(&redis());
    let tenant = |allowed| {
        let mut tenant = TenantConfig::new(TenantId::derive("test", "raised"), TenantName::new("raised").unwrap());
        tenant.limits = vec![limit("api/all", allowed, &[Counter::Tenant])];
        Limits::compile(&tenant)
    };
    let (low, high) = (tenant(1), tenant(3));
    assert!(admitted(&ask(&limiter, &low, "/api/x", None).await));
    assert!(!admitted(&ask(&limiter, &low, "/api/x", None).await));
    assert_eq!(ask(&limiter, &high, "/api/x", None).await.entries[0].1.remaining, 1);
}

#[tokio::test]
async fn a_redis_that_has_forgotten_its_scripts_is_taught_again() {
    let (redis, limits) = (redis(), limits(vec![limit("api/all", 2, &[Counter::Tenant])]));
    let limiter = limiter(&redis);
    assert!(admitted(&ask(&limiter, &limits, "/api/x", None).await));
    redis.query::<String>(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    assert_eq!(ask(&limiter, &limits, "/api/x", None).await.entries[0].1.remaining, 0);
}

#[tokio::test]
async fn without_redis_each_limit_does_what_it_is_told() {
    // It takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("redis://{}", silent.local_addr().unwrap());
    for url in ["redis://127.0.0.1:1", &silent] {
        let limiter = limiter(&Redis::lazy(url, "").unwrap());
        let with = |failure_mode| limits(vec![Limit { failure_mode, ..limit("api/all", 2, &[Counter::Tenant]) }]);
        let (open, closed, local) = (with(FailureMode::Open), with(FailureMode::Closed), with(FailureMode::Local));
        let began = Instant::now();
        for n in 0..50 {
            assert!(admitted(&ask(&limiter, &open, "/api/x", None).await));
            let refused = ask(&limiter, &closed, "/api/x", None).await;
            assert!(matches!(refused.outcome, Outcome::Unavailable { limit: "api/all" }));
            assert_eq!(admitted(&ask(&limiter, &local, "/api/x", None).await), n < 2);
        }
        assert!(began.elapsed().as_secs() < 5, "150 requests did not each wait out the deadline");
    }
}

#[tokio::test]
async fn what_redis_refused_stays_refused_while_it_is_away() {
    let (redis, limits) = (redis(), limits(vec![limit("api/all", 1, &[Counter::Tenant])]));
    let limiter = limiter(&redis);
    assert!(admitted(&ask(&limiter, &limits, "/api/x", None).await));
    assert!(!admitted(&ask(&limiter, &limits, "/api/x", None).await));
    for _ in 0..3 {
        limiter.0.breaker.failed();
    }
    let refused = ask(&limiter, &limits, "/api/x", None).await;
    assert!(matches!(refused.outcome, Outcome::Limited { retry_ms: 3_500_000..=3_600_000, .. }), "{refused:?}");
}

#[tokio::test]
async fn the_headers_of_both_families_tell_the_tightest_limit() {
    let (limiter, limits) = (
        limiter(&redis()),
        limits(vec![limit("api/all", 9, &[Counter::Tenant]), limit("auth/login", 1, &[Counter::User])]),
    );
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let mut answers = vec![];
    for _ in 0..2 {
        let mut headers = HeaderMap::new();
        super::headers::write(&ask(&limiter, &limits, "/api/x", None).await, now, &mut headers);
        answers.push(headers);
    }
    let [admitted, refused] = answers.as_slice() else { panic!("two answers") };
    assert_eq!(admitted["ratelimit-policy"], "\"api/all\";q=9;w=3600, \"auth/login\";q=1;w=3600");
    assert_eq!(admitted["ratelimit"], "\"api/all\";r=8;t=3600, \"auth/login\";r=0;t=3600");
    assert_eq!(
        (&admitted["ratelimit-limit"], &admitted["ratelimit-remaining"], &admitted["ratelimit-reset"]),
        (&"1".parse().unwrap(), &"0".parse().unwrap(), &"3600".parse().unwrap())
    );
    assert_eq!(admitted["x-ratelimit-reset"], "1700003600");
    assert!(!admitted.contains_key("retry-after"));
    assert_eq!(refused["retry-after"], "3600");
    assert_eq!(refused["x-ratelimit-remaining"], "0");
    assert_eq!(refused["ratelimit"], "\"api/all\";r=8;t=3600, \"auth/login\";r=0;t=3600");
}

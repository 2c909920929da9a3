//! Rate limits, as a caller meets them.

use std::num::NonZeroU32;

use contract::limits::{Algorithm, Counter, FailureMode, Limit, LimitMode, PathMatch, PathMatchKind, Rate};

use super::*;

/// So many requests for payments an hour, for each user.
fn payments(allowed: u32) -> Limit {
    let number = |n| NonZeroU32::new(n).unwrap();
    Limit {
        name: "acme/payments".into(),
        methods: vec![],
        paths: vec![PathMatch { kind: PathMatchKind::PathPrefix, value: "/payments".into() }],
        when: vec![],
        counters: vec![Counter::User],
        rates: vec![Rate { limit: number(allowed), window_seconds: number(3_600) }],
        algorithm: Algorithm::FixedWindow,
        burst: None,
        cost: number(1),
        mode: LimitMode::Enforce,
        failure_mode: FailureMode::Local,
    }
}

fn serve(app: &TestApp, tenant: &str, limit: Limit) {
    let mut config = app.tenant(tenant);
    config.limits = vec![limit];
    app.serve(&config);
}

#[tokio::test]
async fn a_limit_holds_across_replicas_and_names_itself() {
    let app = TestApp::new().await;
    let replica = app.replica();
    serve(&app, "acme", payments(3));
    serve(&replica, "acme", payments(3));
    let ada = token(&app.register("ada@acme.test").await);
    let first = app.get("/api/v1/payments").bearer(&ada).send().await;
    assert_eq!(
        (first.status, first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")),
        (StatusCode::OK, "3", "2")
    );
    assert_eq!(first.header("ratelimit-policy"), "\"acme/payments\";q=3;w=3600");
    assert_eq!(first.header("ratelimit"), "\"acme/payments\";r=2;t=3600");
    for (app, path) in [(&replica, "/api/payments"), (&app, "/api/v1/payments/webhook")] {
        app.get(path).bearer(&ada).send().await;
    }
    let refused = replica.get("/api/v1/payments").bearer(&ada).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"));
    assert!(refused.json["error"]["message"].as_str().unwrap().contains("acme/payments"));
    let wait: i64 = refused.header("retry-after").parse().unwrap();
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    let reset: i64 = refused.header("x-ratelimit-reset").parse().unwrap();
    assert_eq!(reset, app.clock.now().as_second() + wait);
    assert_eq!(
        app.get("/api/v1/auth/me").bearer(&ada).send().await.status,
        StatusCode::OK,
        "the limit is about payments"
    );
}

#[tokio::test]
async fn a_raised_limit_takes_effect_at_once() {
    let app = TestApp::new().await;
    let ada = token(&app.register("ada@acme.test").await);
    let list = async || app.get("/api/v1/payments").bearer(&ada).send().await.status;
    serve(&app, "acme", payments(1));
    assert_eq!((list().await, list().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
    serve(&app, "acme", payments(2));
    assert_eq!((list().await, list().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn one_tenants_traffic_costs_another_nothing() {
    let app = TestApp::new().await;
    let by_address = || Limit { counters: vec![Counter::SourceIp], ..payments(1) };
    serve(&app, "acme", by_address());
    serve(&app, "beta", by_address());
    let call = async |host: &str| app.get("/api/v1/payments").host(host).send().await.status;
    assert_eq!(
        (call("acme.test").await, call("acme.test").await),
        (StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS)
    );
    assert_eq!(call("beta.test").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_limit_that_only_watches_is_not_noticed() {
    let app = TestApp::new().await;
    serve(&app, "acme", Limit { mode: LimitMode::Shadow, counters: vec![Counter::Tenant], ..payments(1) });
    for _ in 0..3 {
        let answer = app.get("/api/v1/payments").send().await;
        assert_eq!((answer.status, answer.header("ratelimit")), (StatusCode::UNAUTHORIZED, ""));
    }
    let metrics = app.app.metrics.encode().unwrap();
    assert!(metrics.contains(r#"rate_limit_decisions_total{limit="acme/payments",outcome="shadow"} 2"#), "{metrics}");
}

#[tokio::test]
async fn a_limit_that_must_be_counted_refuses_while_it_cannot_be() {
    let app = TestApp::new().await.without_redis();
    serve(&app, "acme", Limit { failure_mode: FailureMode::Closed, counters: vec![Counter::Tenant], ..payments(1) });
    let refused = app.get("/api/v1/payments").send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"));
    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test]
async fn a_tenants_daily_quota_is_a_limit_like_any_other() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.quotas.requests_per_day = Some(1);
    app.serve(&acme);
    assert_eq!(app.get("/api/v1/payments").send().await.status, StatusCode::UNAUTHORIZED);
    let refused = app.get("/api/v1/payments").send().await;
    assert_eq!(
        (refused.status, refused.header("ratelimit-policy")),
        (StatusCode::TOO_MANY_REQUESTS, "\"quota/requests-per-day\";q=1;w=86400")
    );
}

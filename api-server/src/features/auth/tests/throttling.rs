//! How often passwords may be tried.

use futures::StreamExt;
use http::StatusCode;
use serde_json::json;

use crate::testing::{PASSWORD, TestApp, seconds};

#[tokio::test]
async fn a_password_is_tried_ever_more_slowly_on_every_replica() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    app.register("ada@acme.test").await;
    let login = async |app: &TestApp, email: &str, password: &str| {
        app.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).send().await
    };
    // Whether there is such an account makes no difference.
    for email in ["ada@acme.test", "nobody@acme.test"] {
        for n in 0..5 {
            let on = if n % 2 == 0 { &app } else { &other };
            assert_eq!(login(on, email, "Wrong-Horse-7").await.status, StatusCode::UNAUTHORIZED, "{email} {n}");
        }
        let refused = login(&other, email, PASSWORD).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS"));
        assert_eq!(refused.header("retry-after"), "30");
    }
    app.clock.advance(seconds(30));
    assert_eq!(login(&app, "ada@acme.test", "Wrong-Horse-7").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&app, "ada@acme.test", PASSWORD).await.header("retry-after"), "60");
    app.clock.advance(seconds(60));
    assert_eq!(login(&other, "ada@acme.test", PASSWORD).await.status, StatusCode::OK);
    // The failures are forgotten: there are free attempts again.
    assert_eq!(login(&app, "ada@acme.test", "Wrong-Horse-7").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&app, "ada@acme.test", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn many_attempts_at_once_get_no_further_than_one_after_the_other() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let wrong = json!({ "email": "ada@acme.test", "password": "Wrong-Horse-7" });
    let attempts = (0..12).map(|_| app.post("/api/v1/auth/login", &wrong).send());
    let answers = futures::future::join_all(attempts).await;
    let tried = answers.iter().filter(|answer| answer.status == StatusCode::UNAUTHORIZED).count();
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((tried, refused), (5, 7));
}

#[tokio::test]
async fn an_office_that_signs_in_all_day_and_all_at_once_is_never_slowed_down() {
    for redis in [true, false] {
        let app = TestApp::new().await;
        for n in 0..24 {
            app.register(&format!("user{n}@acme.test")).await;
        }
        let office = if redis { app.replica() } else { app.without_redis() };
        office.serve(&office.tenant("acme"));
        for _ in 0..2 {
            // More at once than accounts that may fail, and in all more than attempts that may.
            let logins = (0..24).map(|n| {
                let body = json!({ "email": format!("user{n}@acme.test"), "password": PASSWORD });
                office.post("/api/v1/auth/login", &body).send()
            });
            let statuses: Vec<_> = futures::future::join_all(logins).await.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [StatusCode::OK; 24]);
        }
        assert_eq!(office.app.metrics.stuffing.rung("many_accounts"), 0);
    }
}

#[tokio::test]
async fn behind_a_proxy_that_nobody_declared_a_thief_keeps_nobody_else_out() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let login = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        app.post("/api/v1/auth/login", &body)
            .peer([10, 0, 0, 7])
            .header("x-forwarded-for", "203.0.113.9")
            .send()
            .await
            .status
    };
    for n in 0..40 {
        assert_eq!(login(&format!("user{n}@acme.test"), "Wrong-Horse-7").await, StatusCode::UNAUTHORIZED, "{n}");
    }
    assert_eq!(login("ada@acme.test", PASSWORD).await, StatusCode::OK);
}

#[tokio::test]
async fn who_tries_many_accounts_from_one_address_is_taken_for_a_thief() {
    for redis in [true, false] {
        let app = TestApp::new().await;
        let admin = app.admin().await;
        app.register("ada@acme.test").await;
        let other = if redis { app.replica() } else { app.without_redis() };
        other.serve(&other.tenant("acme"));
        let login = async |email: &str, password: &str| {
            other.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).send().await
        };
        for n in 0..20 {
            if n % 4 == 0 {
                // Who succeeds is not counted: an office whose people sign in is no thief.
                assert_eq!(login("ada@acme.test", PASSWORD).await.status, StatusCode::OK, "{n}");
            }
            let wrong = login(&format!("user{n}@acme.test"), "Wrong-Horse-7").await;
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{n}");
        }
        let refused = login("user20@acme.test", "Wrong-Horse-7").await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "900"));
        assert_eq!(other.app.metrics.stuffing.rung("many_accounts"), 1);
        let logs = app.get("/api/v1/admin/audit-logs?action=credential_stuffing").bearer(&admin).send().await;
        let entries = logs.json["data"].as_array().unwrap();
        assert_eq!((entries.len(), &entries[0]["details"]["kind"]), (1, &json!("many_accounts")), "{}", logs.text);
    }
}

#[tokio::test]
async fn a_tenant_that_is_tried_from_many_addresses_gives_accounts_fewer_tries() {
    let app = TestApp::new().await;
    let proxied = app.with_flags(&["--trusted-proxies", "192.0.2.0/24"]);
    proxied.serve(&proxied.tenant("acme"));
    app.register("ada@acme.test").await;
    let login = async |ip: String, email: &str| {
        let body = json!({ "email": email, "password": "Wrong-Horse-7" });
        proxied.post("/api/v1/auth/login", &body).header("x-forwarded-for", &ip).send().await.status
    };
    for n in 0..100 {
        assert_eq!(login(format!("198.51.100.{n}"), &format!("user{n}@acme.test")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(proxied.app.metrics.stuffing.rung("many_addresses"), 1);
    let ada: Vec<_> =
        futures::stream::iter(0..3).then(|n| login(format!("203.0.113.{n}"), "ada@acme.test")).collect().await;
    assert_eq!(ada, [StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS]);
    assert_eq!(proxied.app.metrics.stuffing.rung("many_addresses"), 1, "one alarm for one attack");
}

#[tokio::test]
async fn attempts_are_counted_without_redis_and_an_admin_unlocks_the_account() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    let without = app.without_redis();
    without.serve(&without.tenant("acme"));
    let login = async |app: &TestApp, password: &str| {
        app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": password })).send().await.status
    };
    for on in [&without, &app] {
        for _ in 0..5 {
            assert_eq!(login(on, "Wrong-Horse-7").await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(login(on, PASSWORD).await, StatusCode::TOO_MANY_REQUESTS);
    }
    let path = format!("/api/v1/admin/users/{}/unlock", ada["user"]["id"].as_str().unwrap());
    assert_eq!(app.request(http::Method::POST, &path).bearer(&admin).send().await.status, StatusCode::OK);
    assert_eq!(login(&app, PASSWORD).await, StatusCode::OK);
}

use http::{Method, StatusCode};
use serde_json::json;

use crate::testing::TestApp;

#[tokio::test]
async fn an_unknown_host_is_told_so() {
    let app = TestApp::new().await;
    for host in ["other.test", "acme.test.evil", "192.0.2.9:8080"] {
        let answer = app.get("/api/v1/auth/me").host(host).send().await;
        assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "TENANT_NOT_FOUND"), "{host}");
        assert!(answer.json["error"]["message"].as_str().unwrap().contains(host.split(':').next().unwrap()));
    }
    for host in ["ACME.test", "acme.test:8443", "acme.test."] {
        assert_eq!(app.get("/api/v1/auth/me").host(host).send().await.status, StatusCode::UNAUTHORIZED, "{host}");
    }
}

#[tokio::test]
async fn the_header_names_the_tenant_only_where_that_is_allowed() {
    let app = TestApp::new().await;
    let refused = app.get("/api/v1/auth/me").host("10.0.0.1").header("x-tenant", "acme").send().await;
    assert_eq!(refused.code(), "TENANT_NOT_FOUND");
    let app = app.with_flags(&["--tenant-header", "allowed"]);
    app.serve(&app.tenant("acme"));
    let status =
        async |name: &str| app.get("/api/v1/auth/me").host("10.0.0.1").header("x-tenant", name).send().await.status;
    assert_eq!(status("acme").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("nobody").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_suspended_tenant_is_refused() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.state = contract::tenant::TenantState::Suspended;
    app.serve(&acme);
    let answer = app.get("/api/v1/auth/me").send().await;
    assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "TENANT_SUSPENDED"));
    assert_eq!(app.get("/health").send().await.json["checks"]["database"], "healthy");
}

#[tokio::test]
async fn every_dialect_says_the_same_in_its_own_shape() {
    let app = TestApp::new().await;
    let login = async |accept: &str| {
        app.register(&format!("{}@acme.test", accept.len())).await;
        let body = json!({ "email": format!("{}@acme.test", accept.len()), "password": crate::testing::PASSWORD });
        app.post("/api/v1/auth/login", &body).header("accept", accept).send().await.json
    };
    let enveloped = login("application/json, text/plain, */*").await;
    assert_eq!(enveloped["success"], true);
    assert!(enveloped["data"]["user"]["id"].is_string() && enveloped["message"].is_string());
    for bare in ["application/vnd.platform.flat+json", "application/vnd.platform.legacy+json"] {
        let session = login(bare).await;
        assert!(
            session["token"].is_string() && session["accessToken"].is_string() && session["user"]["email"].is_string(),
            "{session}"
        );
        assert_eq!(session.get("success"), None);
    }

    let fail = async |accept: &str| app.get("/api/v1/auth/me").bearer("bad").header("accept", accept).send().await;
    let enveloped = fail("*/*").await;
    assert_eq!((&enveloped.json["success"], enveloped.code()), (&json!(false), "INVALID_TOKEN"));
    let meta = &enveloped.json["meta"];
    assert_eq!((&meta["path"], &meta["timestamp"]), (&json!("/api/v1/auth/me"), &json!("2026-03-01T12:00:00Z")));
    assert_eq!(meta["requestId"], enveloped.header("x-request-id"));
    let flat = fail("application/vnd.platform.flat+json").await;
    assert_eq!(flat.json, json!({ "code": "INVALID_TOKEN", "message": "Invalid token", "details": [] }));
    let legacy = fail("application/vnd.platform.legacy+json").await;
    assert_eq!(
        (legacy.status, legacy.json),
        (StatusCode::FORBIDDEN, json!({ "error": "Invalid token", "details": [] }))
    );
    let problem = fail("application/problem+json").await;
    assert_eq!(
        (problem.status, problem.header("content-type")),
        (StatusCode::UNAUTHORIZED, "application/problem+json")
    );
    assert_eq!(
        (&problem.json["status"], &problem.json["code"], &problem.json["title"]),
        (&json!(401), &json!("INVALID_TOKEN"), &json!("Unauthorized"))
    );
    assert!(problem.headers.get_all("vary").iter().any(|value| value == "Accept"));

    let mut acme = app.tenant("acme");
    acme.dialect = contract::tenant::Dialect::Legacy;
    app.serve(&acme);
    let none = app.get("/api/v1/auth/me").send().await;
    assert_eq!(
        (none.status, none.json),
        (StatusCode::UNAUTHORIZED, json!({ "error": "Access token required", "details": [] }))
    );
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_taken_have_the_same_shape() {
    let app = TestApp::new().await;
    let nothing = app.get("/api/v1/nothing").send().await;
    assert_eq!((nothing.status, nothing.code()), (StatusCode::NOT_FOUND, "NOT_FOUND"));
    let method = app.request(Method::DELETE, "/api/v1/auth/login").send().await;
    assert_eq!(
        (method.status, method.code(), method.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "POST")
    );
    let large = app.request(Method::POST, "/api/v1/auth/login").header("content-type", "application/json");
    let large = large.body(vec![b' '; 11 * 1024 * 1024]).send().await;
    assert_eq!((large.status, large.code()), (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers_and_an_id() {
    let app = TestApp::new().await;
    for path in ["/health", "/api/health", "/api/v1/auth/me", "/nothing", "/.well-known/jwks.json"] {
        let answer = app.get(path).header("x-request-id", "mine-1").send().await;
        assert_eq!(answer.header("x-request-id"), "mine-1", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
    }
    assert_eq!(app.get("/.well-known/jwks.json").send().await.header("cache-control"), "public, max-age=300");
    assert_eq!(app.get("/health").send().await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn only_the_tenants_own_origins_may_call_from_a_browser() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.cors.allowed_origins = vec!["https://app.acme.test".into()];
    app.serve(&acme);
    let preflight = async |origin: &str| {
        let call = app.request(Method::OPTIONS, "/api/v1/auth/login").header("origin", origin);
        call.header("access-control-request-method", "POST").send().await
    };
    let ours = preflight("https://app.acme.test").await;
    assert_eq!(
        (ours.status, ours.header("access-control-allow-origin")),
        (StatusCode::NO_CONTENT, "https://app.acme.test")
    );
    assert!(ours.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(preflight("https://evil.test").await.header("access-control-allow-origin"), "");
    let call = app.get("/api/v1/auth/me").header("origin", "https://app.acme.test").send().await;
    assert_eq!(call.header("access-control-allow-credentials"), "true");
    assert!(call.header("access-control-expose-headers").contains("x-request-id"));
}

#[tokio::test]
async fn health_says_what_is_not_well() {
    let app = TestApp::new().await;
    let before = app.get("/health").send().await;
    // No complete set of documents yet.
    assert_eq!(
        (before.status, &before.json["checks"]["external"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy"))
    );
    app.app.tenants.replace(&[]);
    let after = app.get("/health").host("anything").send().await;
    assert_eq!((after.status, &after.json["status"]), (StatusCode::OK, &json!("healthy")), "{}", after.json);
    assert!(after.json["memory"]["rss"].as_u64().unwrap() > 0);
    let without = app.without_redis();
    assert_eq!(without.get("/health").send().await.json["checks"]["redis"], "unhealthy");
}

#[tokio::test]
async fn a_panic_is_an_ordinary_500_and_is_counted() {
    let app = TestApp::new().await;
    let boom = axum::Router::new().route("/boom", axum::routing::get(async || -> () { panic!("secret detail") }));
    let router = super::outer_stack(boom, &app.app).with_state(app.app.clone());
    let request = http::Request::builder().uri("/boom").body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("INTERNAL_ERROR") && !text.contains("secret detail"), "{text}");
    assert_eq!(app.app.metrics.panics.get(), 1);
}

#[tokio::test]
async fn metrics_are_text_for_prometheus_and_a_document_for_who_may_read_it() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    app.get("/api/v1/auth/me").send().await;
    let text = app.get("/metrics").send().await;
    assert_eq!(text.status, StatusCode::OK);
    assert!(
        text.text.contains(r#"tenantry_api_requests_total{method="GET",route="/api/v1/auth/me",status="401"} 1"#),
        "{}",
        text.text
    );
    let json = || app.get("/metrics").header("accept", "application/json");
    assert_eq!(json().send().await.status, StatusCode::UNAUTHORIZED);
    let document = json().bearer(&admin).send().await;
    assert_eq!(document.json["users"]["active"], 1, "{}", document.json);
    assert!(document.json["system"]["uptime"].is_number() && document.json["transactions"]["total"].is_number());
}

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::testing::{Answer, TestApp, binding, seconds};

const KEYS: &str = "/api/v1/api-keys";
const ME: &str = "/api/v1/auth/me";
const USERS: &str = "/api/v1/users";

async fn make(app: &TestApp, token: &str, name: &str, scopes: &[&str]) -> Answer {
    app.post(KEYS, &json!({ "name": name, "scopes": scopes })).bearer(token).send().await
}

async fn key(app: &TestApp, token: &str, name: &str, scopes: &[&str]) -> Value {
    let made = make(app, token, name, scopes).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json["data"].clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field}: {value}"))
}

#[tokio::test]
async fn a_key_acts_for_its_maker_within_its_scopes_by_either_header() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let made = key(&app, &admin, "export", &["users:read"]).await;
    let secret = text(&made, "key");
    assert!(secret.starts_with(text(&made, "prefix")));
    let listed = app.get(KEYS).bearer(&admin).send().await;
    assert_eq!(listed.json["data"][0]["name"], "export");
    assert!(!listed.text.contains(secret), "a key is told once");

    assert_eq!(app.get(USERS).bearer(secret).send().await.status, StatusCode::OK);
    assert_eq!(app.get(USERS).header("x-api-key", secret).send().await.status, StatusCode::OK);
    assert_eq!(app.get(ME).bearer(secret).send().await.json["data"]["email"], "admin@acme.test");
    // Within the maker's reach and not within the key's scopes.
    for path in ["/api/v1/admin/audit-logs", "/api/v1/payments"] {
        let refused = app.get(path).bearer(secret).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "FORBIDDEN"), "{path}");
    }
    let other = app.register("ada@acme.test").await;
    let path = format!("{USERS}/{}", text(&other["user"], "id"));
    assert_eq!(app.get(&path).bearer(secret).send().await.status, StatusCode::OK);
    assert_eq!(app.request(Method::DELETE, &path).bearer(secret).send().await.status, StatusCode::FORBIDDEN);
    // A key that is none is told so, and an access token beside it is what counts.
    for bad in ["tnt_", "nonsense", &secret[..secret.len() - 1], &secret.to_lowercase()] {
        let refused = app.get(USERS).header("x-api-key", bad).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_TOKEN"), "{bad}");
    }
    assert_eq!(app.get(USERS).bearer(&admin).header("x-api-key", "nonsense").send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_does_not_take_over_the_account_of_its_own_maker() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let me = app.get(ME).bearer(&admin).send().await;
    let id = text(&me.json["data"], "id").to_owned();
    let made = key(&app, &admin, "crm", &["users:update", "users:delete"]).await;
    let secret = text(&made, "key");
    // Its maker may do everything, and it may not: to give them another address would be to become them.
    for (method, path, body) in [
        (Method::PUT, format!("/api/v1/admin/users/{id}"), json!({ "email": "thief@acme.test" })),
        (Method::DELETE, format!("/api/v1/admin/users/{id}"), json!({})),
        (Method::DELETE, format!("{USERS}/{id}"), json!({})),
    ] {
        let refused = app.request(method.clone(), &path).json(&body).bearer(secret).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "FORBIDDEN"), "{method} {path}");
    }
    let renamed = app.request(Method::PUT, &format!("{USERS}/{id}")).json(&json!({ "name": "Root" }));
    assert_eq!(renamed.bearer(secret).send().await.status, StatusCode::OK);
    // One's own hands may.
    let moved =
        app.request(Method::PUT, &format!("/api/v1/admin/users/{id}")).json(&json!({ "email": "me@acme.test" }));
    assert_eq!(moved.bearer(&admin).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_does_nothing_that_takes_a_person() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let made = key(&app, &admin, "all", &["*:*"]).await;
    let secret = text(&made, "key");
    for (method, path) in [
        (Method::POST, KEYS),
        (Method::GET, KEYS),
        (Method::PUT, "/api/v1/auth/password"),
        (Method::POST, "/api/v1/auth/logout"),
        (Method::GET, "/api/v1/auth/sessions"),
    ] {
        let refused = app.request(method, path).json(&json!({})).bearer(secret).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "PERSON_REQUIRED"), "{path}");
    }
}

#[tokio::test]
async fn nobody_makes_a_key_that_reaches_further_than_they_do() {
    let app = TestApp::new().await;
    let ada = app.register("ada@acme.test").await;
    let ada = text(&ada, "accessToken");
    assert_eq!(
        make(&app, ada, "mine", &["payments:pay"]).await.status,
        StatusCode::FORBIDDEN,
        "without the permission"
    );
    let mut acme = app.tenant("acme");
    let role = contract::RoleName::new("INTEGRATOR").unwrap();
    let permissions = ["api-keys:create", "users:read"].map(|p| p.parse().unwrap()).into();
    let integrator = contract::access::Binding { role, permissions, ..binding("integrators", "USER", "ada@acme.test") };
    let mut night = binding("night", "VENDOR", "x@acme.test");
    night.subjects[0] = contract::access::Subject { kind: contract::access::SubjectKind::ApiKey, name: "night".into() };
    acme.bindings = vec![integrator, night];
    app.serve(&acme);
    for scopes in [&["users:*"][..], &["*:read"], &["users:read", "audit:read"]] {
        let refused = make(&app, ada, "mine", scopes).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{scopes:?}: {}", refused.text);
        assert_eq!(refused.json["error"]["details"][0]["field"], "scopes");
    }
    // The name would bring what a RoleBinding gives to it.
    assert_eq!(make(&app, ada, "night", &["users:read"]).await.status, StatusCode::FORBIDDEN);
    let made = key(&app, ada, "mine", &["users:read"]).await;
    assert_eq!(make(&app, ada, "mine", &["users:read"]).await.code(), "NAME_TAKEN");
    for (body, field) in [
        (json!({ "name": "a b", "scopes": ["users:read"] }), "name"),
        (json!({ "name": "ok", "scopes": [] }), "scopes"),
        (json!({ "name": "ok", "scopes": ["users:read", "users"] }), "scopes.1"),
        (json!({ "name": "ok", "scopes": ["users:read"], "expiresInDays": 367 }), "expiresInDays"),
    ] {
        let refused = app.post(KEYS, &body).bearer(ada).send().await;
        assert_eq!(
            (refused.status, &refused.json["error"]["details"][0]["field"]),
            (StatusCode::BAD_REQUEST, &json!(field))
        );
    }
    // What the maker loses, the key loses at the next request.
    let secret = text(&made, "key");
    assert_eq!(app.get(USERS).bearer(secret).send().await.status, StatusCode::OK);
    app.serve(&app.tenant("acme"));
    assert_eq!(app.get(USERS).bearer(secret).send().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_role_binding_names_a_key() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let made = key(&app, &admin, "night", &["users:read"]).await;
    let logs = || app.get("/api/v1/admin/audit-logs").bearer(text(&made, "key")).send();
    assert_eq!(logs().await.status, StatusCode::FORBIDDEN);
    for name in ["night", text(&made, "id")] {
        let mut acme = app.tenant("acme");
        let mut auditors = binding("auditors", "ADMIN", "x@acme.test");
        auditors.subjects[0] =
            contract::access::Subject { kind: contract::access::SubjectKind::ApiKey, name: name.into() };
        acme.bindings = vec![auditors];
        app.serve(&acme);
        assert_eq!(logs().await.status, StatusCode::OK, "{name}");
    }
    let mut acme = app.tenant("acme");
    let mut elsewhere = binding("auditors", "ADMIN", "x@acme.test");
    elsewhere.subjects[0] =
        contract::access::Subject { kind: contract::access::SubjectKind::ApiKey, name: "night".into() };
    elsewhere.when = Some("request.ip.startsWith('10.')".into());
    acme.bindings = vec![elsewhere];
    app.serve(&acme);
    assert_eq!(logs().await.status, StatusCode::FORBIDDEN, "a condition that this request does not meet");
}

#[tokio::test]
async fn the_end_of_a_key_or_of_its_maker_is_felt_everywhere_within_a_second() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let mut acme = app.tenant("acme");
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test"), binding("more", "ADMIN", "eve@acme.test")];
    let replicas = [app.replica(), app.replica(), app.without_redis()];
    for replica in replicas.iter().chain([&app]) {
        replica.serve(&acme);
    }
    let eve = app.register("eve@acme.test").await;
    let keys = [
        key(&app, &admin, "revoked", &["users:read"]).await,
        key(&app, text(&eve, "accessToken"), "eves", &["users:read"]).await,
    ];
    for replica in replicas.iter().chain([&app]) {
        for key in &keys {
            assert_eq!(replica.get(USERS).bearer(text(key, "key")).send().await.status, StatusCode::OK);
        }
    }
    let revoke = app.request(Method::DELETE, &format!("{KEYS}/{}", text(&keys[0], "id"))).bearer(&admin);
    assert_eq!(revoke.send().await.status, StatusCode::OK);
    let ban = format!("/api/v1/admin/users/{}", text(&eve["user"], "id"));
    let ban = app.request(Method::PUT, &ban).json(&json!({ "isActive": false })).bearer(&admin).send().await;
    assert_eq!(ban.status, StatusCode::OK, "{}", ban.text);
    assert_eq!(
        app.get(USERS).bearer(text(&keys[0], "key")).send().await.status,
        StatusCode::UNAUTHORIZED,
        "at once here"
    );
    app.clock.advance(seconds(1));
    for replica in replicas.iter().chain([&app]) {
        for key in &keys {
            assert_eq!(replica.get(USERS).bearer(text(key, "key")).send().await.status, StatusCode::UNAUTHORIZED);
        }
    }
    let again = app.request(Method::DELETE, &format!("{KEYS}/{}", text(&keys[0], "id"))).bearer(&admin).send().await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    // The name of a revoked key is free again.
    key(&app, &admin, "revoked", &["users:read"]).await;
}

#[tokio::test]
async fn a_key_expires_and_its_last_use_is_kept_to_the_minute() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let body = json!({ "name": "brief", "scopes": ["users:read"], "expiresInDays": 1 });
    let made = app.post(KEYS, &body).bearer(&admin).send().await.json["data"].clone();
    let uses = || app.get(USERS).bearer(text(&made, "key")).send();
    let last_use = async || {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let at: Option<jiff_sqlx::Timestamp> =
            sqlx::query_scalar("SELECT last_used_at FROM auth.api_keys").fetch_one(tx.conn()).await.unwrap();
        at.map(jiff_sqlx::Timestamp::to_jiff)
    };
    let began = app.clock.now();
    assert_eq!(last_use().await, None);
    for (after, known) in [(0, 0), (2, 0), (57, 0), (1, 60), (59, 60), (1, 120)] {
        app.clock.advance(seconds(after));
        assert_eq!(uses().await.status, StatusCode::OK);
        assert_eq!(last_use().await, Some(began + seconds(known)));
    }
    app.clock.advance(seconds(86_400 - 120 - 1));
    assert_eq!(uses().await.status, StatusCode::OK);
    // A second later it is over, though this replica asked the database less than a second ago.
    app.clock.advance(seconds(1));
    assert_eq!(uses().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_is_of_one_tenant_and_goes_with_its_account() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("beta"));
    let admin = app.admin().await;
    let made = key(&app, &admin, "mine", &["users:read"]).await;
    assert_eq!(
        app.get(USERS).host("beta.test").bearer(text(&made, "key")).send().await.status,
        StatusCode::UNAUTHORIZED
    );
    let path = format!("{USERS}/{}", text(&made, "userId"));
    assert_eq!(app.request(Method::DELETE, &path).bearer(&admin).send().await.status, StatusCode::OK);
    app.clock.advance(seconds(1));
    assert_eq!(app.get(USERS).bearer(text(&made, "key")).send().await.status, StatusCode::UNAUTHORIZED);
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM auth.api_keys").fetch_one(tx.conn()).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_audit_tells_a_key_from_the_hand_of_its_maker() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let made = key(&app, &admin, "maker", &["users:*", "payments:*"]).await;
    let body = json!({ "email": "ada@acme.test", "name": "Ada" });
    assert_eq!(
        app.post("/api/v1/admin/users", &body).bearer(text(&made, "key")).send().await.status,
        StatusCode::CREATED
    );
    let logs = app.get("/api/v1/admin/audit-logs").bearer(&admin).send().await;
    let entries = logs.json["data"].as_array().unwrap();
    let of = |action: &str, kind: &str| {
        entries.iter().find(|entry| entry["action"] == action && entry["resourceType"] == kind).cloned().unwrap()
    };
    assert_eq!(of("CREATE", "user")["details"]["apiKeyId"], made["id"]);
    let creation = of("CREATE", "api_key");
    assert_eq!((&creation["resourceId"], creation["details"].get("apiKeyId")), (&made["id"], None));
    assert!(!logs.text.contains(text(&made, "key")));
}

#[tokio::test]
async fn a_limit_counts_each_key_by_itself() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let keys = [key(&app, &admin, "one", &["users:read"]).await, key(&app, &admin, "two", &["users:read"]).await];
    let mut acme = app.tenant("acme");
    acme.bindings.push(binding("admins", "ADMIN", "admin@acme.test"));
    acme.limits = vec![crate::limits::tests::limit("keys", 2, &[contract::limits::Counter::ApiKey])];
    app.serve(&acme);
    for key in &keys {
        for expected in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
            assert_eq!(app.get(USERS).bearer(text(key, "key")).send().await.status, expected);
        }
    }
}

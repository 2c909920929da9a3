use contract::auth::EmailVerification;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    features::mail::tests::{kinds, token},
    testing::{Answer, PASSWORD, TestApp, binding, seconds},
};

const GRACE: &str = "grace@acme.test";
const WEEK: i64 = 7 * 24 * 3600;

async fn make(app: &TestApp, admin: &str, more: Value) -> Answer {
    let mut body = json!({ "email": GRACE, "name": "Grace" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.post("/api/v1/admin/users", &body).bearer(admin).send().await
}

async fn invite(app: &TestApp, admin: &str, user: &Value) -> Answer {
    let path = format!("/api/v1/admin/users/{}/invite", user["id"].as_str().unwrap());
    app.post(&path, &json!({})).bearer(admin).send().await
}

async fn choose(app: &TestApp, link: &str) -> Answer {
    app.post("/api/v1/auth/reset-password", &json!({ "token": link, "password": PASSWORD })).send().await
}

async fn login(app: &TestApp) -> Answer {
    app.post("/api/v1/auth/login", &json!({ "email": GRACE, "password": PASSWORD })).send().await
}

async fn actions(app: &TestApp, admin: &str) -> Vec<String> {
    let logs = app.get("/api/v1/admin/audit-logs?resourceType=user").bearer(admin).send().await;
    let all = logs.json["data"].as_array().unwrap().clone();
    all.iter().rev().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_is_made_without_a_password_is_mailed_one_link_to_choose_it() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    let admin = app.admin().await;
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
    acme.auth.email_verification = EmailVerification::Required;
    app.serve(&acme);
    let made = make(&app, &admin, json!({})).await;
    assert_eq!((made.status, &made.json["data"]["emailVerified"]), (StatusCode::CREATED, &json!(false)));
    assert_eq!(made.json["message"], "Created: an invitation is on its way");
    assert_eq!(login(&app).await.code(), "INVALID_CREDENTIALS");
    assert_eq!(kinds(&app, GRACE).await, ["invitation"], "one mail for one act");

    let link = token(&app, GRACE, "invitation").await;
    app.clock.advance(seconds(WEEK - 60));
    for other in ["verify-email", "email/confirm", "unlock"] {
        let answer = app.post(&format!("/api/v1/auth/{other}"), &json!({ "token": link })).send().await;
        assert_eq!(answer.code(), "INVALID_LINK", "{other}");
    }
    let chosen = choose(&app, &link).await;
    assert_eq!(chosen.status, StatusCode::OK, "{}", chosen.text);
    let signed_in = login(&app).await;
    assert_eq!(signed_in.json["data"]["user"]["emailVerified"], true, "{}", signed_in.text);
    assert_eq!(choose(&app, &link).await.code(), "INVALID_LINK", "good once");
    assert_eq!(kinds(&app, GRACE).await, ["invitation", "welcome"], "no news of a changed password: there was none");
}

#[tokio::test]
async fn an_invitation_is_sent_again_and_the_former_one_is_void() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let made = make(&app, &admin, json!({ "invite": false })).await.json["data"].clone();
    assert!(kinds(&app, GRACE).await.is_empty());
    let mut links = vec![];
    for _ in 0..2 {
        let sent = invite(&app, &admin, &made).await;
        assert_eq!(sent.status, StatusCode::OK, "{}", sent.text);
        links.push(token(&app, GRACE, "invitation").await);
    }
    assert_eq!(choose(&app, &links[0]).await.code(), "INVALID_LINK", "replaced");

    let path = format!("/api/v1/admin/users/{}", made["id"].as_str().unwrap());
    let active = async |is: bool| {
        let body = json!({ "isActive": is });
        app.request(http::Method::PUT, &path).json(&body).bearer(&admin).send().await
    };
    active(false).await;
    assert_eq!(invite(&app, &admin, &made).await.code(), "USER_DEACTIVATED");
    assert_eq!(choose(&app, &links[1]).await.code(), "INVALID_LINK", "of a banned account");
    active(true).await;
    assert_eq!(actions(&app, &admin).await[..4], ["REGISTER", "CREATE", "INVITE", "INVITE"]);
}

#[tokio::test]
async fn an_invitation_ends_with_its_week_and_with_another_way_to_a_password() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    make(&app, &admin, json!({})).await;
    let old = token(&app, GRACE, "invitation").await;
    app.clock.advance(seconds(WEEK));
    assert_eq!(choose(&app, &old).await.code(), "INVALID_LINK", "expired");

    let forgot = json!({ "email": GRACE });
    app.post("/api/v1/auth/forgot-password", &forgot).send().await;
    let reset = token(&app, GRACE, "reset-password").await;
    assert_eq!(choose(&app, &reset).await.status, StatusCode::OK);
    assert_eq!(login(&app).await.status, StatusCode::OK);
}

/// Asked for, and before it goes out its user has found another way.
#[tokio::test]
async fn an_invitation_that_is_not_needed_any_more_is_not_sent() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let made = make(&app, &admin, json!({ "invite": false })).await.json["data"].clone();
    app.post("/api/v1/auth/forgot-password", &json!({ "email": GRACE })).send().await;
    let reset = token(&app, GRACE, "reset-password").await;
    invite(&app, &admin, &made).await;
    assert_eq!(choose(&app, &reset).await.status, StatusCode::OK);
    assert_eq!(kinds(&app, GRACE).await, ["reset-password", "password-changed"]);
    let again = invite(&app, &admin, &made).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "HAS_PASSWORD"));
}

#[tokio::test]
async fn nobody_is_flooded_with_invitations() {
    // Without Redis, which counts by its own clock.
    let app = TestApp::new().await.without_redis();
    app.serve(&app.tenant("acme"));
    let admin = app.admin().await;
    let made = make(&app, &admin, json!({})).await.json["data"].clone();
    for _ in 0..3 {
        assert_eq!(invite(&app, &admin, &made).await.status, StatusCode::OK);
    }
    let refused = invite(&app, &admin, &made).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS"));
    assert_eq!(refused.header("retry-after"), "900");
    let other = app.post("/api/v1/admin/users", &json!({ "email": "bob@acme.test", "name": "Bob" }));
    assert_eq!(other.bearer(&admin).send().await.status, StatusCode::CREATED, "others are counted apart");
}

#[tokio::test]
async fn without_a_mail_server_nobody_is_made_who_could_never_sign_in() {
    let app = TestApp::new().await.with_flags(&["--mail-from", ""]);
    app.serve(&app.tenant("acme"));
    let admin = app.admin().await;
    let refused = make(&app, &admin, json!({})).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "MAIL_NOT_CONFIGURED"), "{}", refused.text);
    let made = make(&app, &admin, json!({ "invite": false })).await;
    assert_eq!(made.status, StatusCode::CREATED, "nothing of the refused one is left: {}", made.text);
    assert_eq!(invite(&app, &admin, &made.json["data"]).await.code(), "MAIL_NOT_CONFIGURED");
    let other = json!({ "email": "bob@acme.test", "name": "Bob", "password": PASSWORD });
    let make_bob = async || app.post("/api/v1/admin/users", &other).bearer(&admin).send().await;

    let mut acme = app.tenant("acme");
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
    acme.auth.email_verification = EmailVerification::Required;
    app.serve(&acme);
    assert_eq!(make_bob().await.code(), "MAIL_NOT_CONFIGURED", "their address could never be verified");
    acme.auth.email_verification = EmailVerification::Optional;
    app.serve(&acme);
    assert_eq!(make_bob().await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn who_is_made_with_a_password_is_asked_to_verify_where_the_tenant_wants_it() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let mut acme = app.tenant("acme");
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
    acme.auth.email_verification = EmailVerification::Required;
    app.serve(&acme);
    make(&app, &admin, json!({ "password": PASSWORD })).await;
    assert_eq!(login(&app).await.code(), "EMAIL_NOT_VERIFIED");
    assert_eq!(kinds(&app, GRACE).await, ["verify-email"]);
}

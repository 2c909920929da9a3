use contract::auth::Mfa;
use http::StatusCode;
use serde_json::json;

use super::{ADA, claims, code, enrolled, login, text, verify, with_policy};
use crate::testing::{PASSWORD, TestApp, seconds};

/// What a sign-in with the right password leads to.
fn outcome(answer: &crate::testing::Answer) -> &'static str {
    let data = &answer.json["data"];
    match (data["mfaRequired"].as_bool(), data["mfaEnrolmentRequired"].as_bool(), data["refreshToken"].is_string()) {
        (Some(true), None, false) => "challenged",
        (None, Some(true), false) => "enrolment",
        (None, None, true) => "signed in",
        other => panic!("{other:?}: {data}"),
    }
}

#[tokio::test]
async fn the_tenants_policy_and_the_account_decide_what_a_password_opens() {
    for (policy, without, with) in [
        (Mfa::Off, "signed in", "signed in"),
        (Mfa::Optional, "signed in", "challenged"),
        (Mfa::Required, "enrolment", "challenged"),
    ] {
        let app = TestApp::new().await;
        enrolled(&app).await;
        app.register("bob@acme.test").await;
        with_policy(&app, policy);
        assert_eq!(outcome(&login(&app).await), with, "{policy:?} with a factor");
        let bob = json!({ "email": "bob@acme.test", "password": PASSWORD });
        assert_eq!(outcome(&app.post("/api/v1/auth/login", &bob).send().await), without, "{policy:?} without one");
        let eve = json!({ "email": "eve@acme.test", "password": PASSWORD, "name": "Eve" });
        let registered = app.post("/api/v1/auth/register", &eve).send().await;
        assert_eq!((registered.status, outcome(&registered)), (StatusCode::CREATED, without), "{policy:?} registered");
    }
}

#[tokio::test]
async fn who_must_set_a_factor_up_can_do_that_and_nothing_else() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    with_policy(&app, Mfa::Required);
    let limited = login(&app).await.json["data"].clone();
    let token = text(&limited, "accessToken");
    assert_eq!(claims(token)["scope"], "factors:enrol");
    for path in ["/api/v1/auth/me", "/api/v1/auth/sessions", "/api/v1/users", "/api/v1/payments", "/api/v1/auth/2fa"] {
        let refused = app.get(path).bearer(token).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "MFA_ENROLMENT_REQUIRED"), "{path}");
    }
    let step_up = app.post("/api/v1/auth/step-up", &json!({ "password": PASSWORD })).bearer(token).send().await;
    assert_eq!(step_up.code(), "MFA_ENROLMENT_REQUIRED");

    let setup = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await;
    let secret = text(&setup.json["data"], "secret");
    let body = json!({ "code": code(&app, secret, 0) });
    let active = app.post("/api/v1/auth/2fa/activate", &body).bearer(token).send().await;
    assert_eq!(active.status, StatusCode::OK, "{}", active.json);
    assert_eq!(active.json["data"]["recoveryCodes"].as_array().unwrap().len(), 10);
    let session = &active.json["data"]["session"];
    let whole = text(session, "accessToken");
    assert_eq!((&claims(whole)["aal"], claims(whole).get("scope")), (&json!("aal2"), None));
    assert_eq!(app.get("/api/v1/auth/me").bearer(whole).send().await.status, StatusCode::OK);
    let body = json!({ "refreshToken": session["refreshToken"] });
    assert_eq!(app.post("/api/v1/auth/refresh", &body).send().await.status, StatusCode::OK);
    // The limited one has done its work.
    let spent = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await;
    assert_eq!(spent.status, StatusCode::UNAUTHORIZED, "{}", spent.json);
}

#[tokio::test]
async fn a_limited_session_lasts_a_quarter_of_an_hour_and_can_be_left() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    with_policy(&app, Mfa::Required);
    let setup = async |token: &str| app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await.status;
    let first = login(&app).await.json["data"].clone();
    app.clock.advance(seconds(14 * 60));
    assert_eq!(setup(text(&first, "accessToken")).await, StatusCode::OK);
    app.clock.advance(seconds(2 * 60));
    assert_eq!(setup(text(&first, "accessToken")).await, StatusCode::UNAUTHORIZED);
    let second = login(&app).await.json["data"].clone();
    let left = app.post("/api/v1/auth/logout", &json!({})).bearer(text(&second, "accessToken")).send().await;
    assert_eq!(left.status, StatusCode::OK, "{}", left.json);
    assert_eq!(setup(text(&second, "accessToken")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_tenant_that_begins_to_demand_a_factor_is_heard_at_the_next_refresh() {
    let app = TestApp::new().await;
    let bob = app.register("bob@acme.test").await;
    let ada = enrolled(&app).await;
    with_policy(&app, Mfa::Required);
    let refresh = async |token: &str| app.post("/api/v1/auth/refresh", &json!({ "refreshToken": token })).send().await;
    let refused = refresh(text(&bob, "refreshToken")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "MFA_REQUIRED"));
    assert_eq!(refresh(&ada.refresh).await.status, StatusCode::OK, "hers was strengthened by setting the factor up");
    with_policy(&app, Mfa::Optional);
    assert_eq!(refresh(text(&bob, "refreshToken")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_last_factor_stays_where_it_is_demanded_and_none_begins_where_they_are_off() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    with_policy(&app, Mfa::Required);
    let body = json!({ "password": PASSWORD, "code": code(&app, &ada.secret, 0) });
    let refused = app.post("/api/v1/auth/2fa/disable", &body).bearer(&ada.token).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "MFA_DEMANDED"));

    let app = TestApp::new().await;
    let ada = app.register(ADA).await;
    with_policy(&app, Mfa::Off);
    let refused = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(text(&ada, "accessToken")).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "MFA_OFF"));
}

#[tokio::test]
async fn an_unverified_address_is_told_before_any_factor() {
    let app = TestApp::new().await;
    enrolled(&app).await;
    let mut acme = with_policy(&app, Mfa::Required);
    acme.auth.email_verification = contract::auth::EmailVerification::Required;
    app.serve(&acme);
    let refused = login(&app).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "EMAIL_NOT_VERIFIED"));
}

#[tokio::test]
async fn a_user_of_one_tenant_has_no_factor_at_another() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("other"));
    enrolled(&app).await;
    app.register_at("other.test", ADA).await;
    let body = json!({ "email": ADA, "password": PASSWORD });
    let other = app.post("/api/v1/auth/login", &body).host("other.test").send().await;
    assert!(other.json["data"]["accessToken"].is_string(), "{}", other.json);
    let token = text(&other.json["data"], "accessToken");
    let setup = app.post("/api/v1/auth/2fa/setup", &json!({})).host("other.test").bearer(token).send().await;
    let theirs = text(&setup.json["data"], "secret");
    let begun = super::begin(&app).await;
    assert_eq!(verify(&app, &begun, ("code", &code(&app, theirs, 0))).await.code(), "INVALID_MFA_CODE");
}

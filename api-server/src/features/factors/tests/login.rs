use http::{Method, StatusCode};
use serde_json::json;

use super::{ADA, begin, code, enrolled, login, text, verify, wrong_code};
use crate::testing::{PASSWORD, TestApp, seconds};

#[tokio::test]
async fn a_login_waits_five_minutes_for_its_second_factor_and_is_finished_once() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let (late, used) = (begin(&app).await, begin(&app).await);
    assert_eq!(verify(&app, &used, ("code", &code(&app, &ada.secret, 0))).await.status, StatusCode::OK);
    app.clock.advance(seconds(60));
    assert_eq!(verify(&app, &used, ("code", &code(&app, &ada.secret, 0))).await.code(), "INVALID_MFA_TOKEN");
    app.clock.advance(seconds(240));
    assert_eq!(verify(&app, &late, ("code", &code(&app, &ada.secret, 0))).await.code(), "INVALID_MFA_TOKEN");
    for nonsense in ["", "x", &ada.token, &ada.refresh] {
        let refused = verify(&app, nonsense, ("code", &code(&app, &ada.secret, 0))).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_MFA_TOKEN"));
    }
}

#[tokio::test]
async fn a_login_of_one_tenant_is_not_finished_at_another() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("other"));
    let ada = enrolled(&app).await;
    let token = begin(&app).await;
    let body = json!({ "mfaToken": token, "code": code(&app, &ada.secret, 0) });
    let elsewhere = app.post("/api/v1/auth/2fa/verify", &body).host("other.test").send().await;
    assert_eq!((elsewhere.status, elsewhere.code()), (StatusCode::UNAUTHORIZED, "INVALID_MFA_TOKEN"));
    assert_eq!(app.post("/api/v1/auth/2fa/verify", &body).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_changed_password_and_a_ban_void_the_logins_that_were_begun_before() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let begun = begin(&app).await;
    let body = json!({ "currentPassword": PASSWORD, "newPassword": "Another-Horse-8" });
    let changed = app.request(Method::PUT, "/api/v1/auth/password").json(&body).bearer(&ada.token).send().await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.json);
    let refused = verify(&app, &begun, ("code", &code(&app, &ada.secret, 0))).await;
    assert_eq!(refused.code(), "INVALID_MFA_TOKEN");

    let body = json!({ "email": ADA, "password": "Another-Horse-8" });
    let begun = app.post("/api/v1/auth/login", &body).send().await;
    let begun = text(&begun.json["data"], "mfaToken").to_owned();
    let me = app.get("/api/v1/auth/me").bearer(&ada.token).send().await.json["data"]["id"].clone();
    let path = format!("/api/v1/admin/users/{}", me.as_str().unwrap());
    let admin = app.admin().await;
    let banned = app.request(Method::PUT, &path).json(&json!({ "isActive": false })).bearer(&admin).send().await;
    assert_eq!(banned.status, StatusCode::OK, "{}", banned.json);
    let refused = verify(&app, &begun, ("code", &code(&app, &ada.secret, 0))).await;
    assert_eq!(refused.code(), "INVALID_MFA_TOKEN");
    // A new name is no such turn.
    let back = json!({ "isActive": true });
    app.request(Method::PUT, &path).json(&back).bearer(&admin).send().await;
    let begun = app.post("/api/v1/auth/login", &body).send().await;
    let begun = text(&begun.json["data"], "mfaToken").to_owned();
    app.request(Method::PUT, &path).json(&json!({ "name": "Ada King" })).bearer(&admin).send().await;
    assert_eq!(verify(&app, &begun, ("code", &code(&app, &ada.secret, 0))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn wrong_codes_end_the_login_and_are_throttled_whatever_the_password_does() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    let ada = enrolled(&app).await;
    // The count of the activating code was forgotten with its success: five are free, here and there together.
    for n in 0..5 {
        let replica = if n % 2 == 0 { &app } else { &other };
        let token = begin(replica).await;
        assert_eq!(
            verify(replica, &token, ("code", &wrong_code(&app, &ada.secret))).await.code(),
            "INVALID_MFA_CODE",
            "{n}"
        );
    }
    // A right password, again and again, forgets none of them.
    let token = begin(&app).await;
    let blocked = verify(&app, &token, ("code", &code(&app, &ada.secret, 0))).await;
    assert_eq!((blocked.status, blocked.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS"));
    assert_eq!(blocked.header("retry-after"), "30");
    app.clock.advance(seconds(30));
    assert_eq!(verify(&other, &token, ("code", &wrong_code(&app, &ada.secret))).await.code(), "INVALID_MFA_CODE");
    assert_eq!(verify(&app, &token, ("code", &code(&app, &ada.secret, 0))).await.header("retry-after"), "60");
    // An administrator's unlock is about codes as well.
    let me = app.get("/api/v1/auth/me").bearer(&ada.token).send().await.json["data"]["id"].clone();
    let path = format!("/api/v1/admin/users/{}/unlock", me.as_str().unwrap());
    let admin = app.admin().await;
    assert_eq!(app.post(&path, &json!({})).bearer(&admin).send().await.status, StatusCode::OK);
    assert_eq!(verify(&other, &token, ("code", &code(&app, &ada.secret, 0))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_login_ends_after_five_wrong_codes_also_where_redis_forgets() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let token = begin(&app).await;
    for _ in 0..5 {
        app.forget("tries").await;
        assert_eq!(verify(&app, &token, ("code", &wrong_code(&app, &ada.secret))).await.code(), "INVALID_MFA_CODE");
    }
    app.forget("tries").await;
    assert_eq!(verify(&app, &token, ("code", &code(&app, &ada.secret, 0))).await.code(), "INVALID_MFA_TOKEN");
    // Without Redis a login is finished all the same, and still once.
    let without = app.without_redis();
    without.serve(&without.tenant("acme"));
    let token = begin(&without).await;
    let now = code(&app, &ada.secret, 0);
    assert_eq!(verify(&without, &token, ("code", &now)).await.status, StatusCode::OK);
    assert_eq!(verify(&without, &token, ("code", &now)).await.code(), "INVALID_MFA_TOKEN");
}

#[tokio::test]
async fn two_proofs_or_none_are_refused_with_the_field() {
    let app = TestApp::new().await;
    enrolled(&app).await;
    let token = begin(&app).await;
    for body in [
        json!({ "mfaToken": token }),
        json!({ "mfaToken": token, "code": "123456", "recoveryCode": "x" }),
        json!({ "code": "123456" }),
        json!({ "mfaToken": 1, "code": "123456" }),
    ] {
        let refused = app.post("/api/v1/auth/2fa/verify", &body).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"), "{body}");
    }
}

#[tokio::test]
async fn every_dialect_says_that_a_second_factor_is_asked_for() {
    let app = TestApp::new().await;
    enrolled(&app).await;
    assert_eq!(login(&app).await.json["data"]["mfaRequired"], true);
    for dialect in ["flat", "legacy"] {
        let accept = format!("application/vnd.platform.{dialect}+json");
        let call = app.post("/api/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD }));
        let begun = call.header("accept", &accept).send().await;
        assert_eq!(
            (begun.status.as_u16(), &begun.json["mfaRequired"]),
            (200, &json!(true)),
            "{dialect}: {}",
            begun.json
        );
        assert!(begun.json["mfaToken"].is_string() && begun.json.get("token").is_none());
    }
}

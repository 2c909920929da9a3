use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ADA, claims, code, enrolled, text};
use crate::testing::{Answer, PASSWORD, TestApp, seconds};

async fn step_up(app: &TestApp, token: &str, proof: &Value) -> Answer {
    app.post("/api/v1/auth/step-up", proof).bearer(token).send().await
}

/// A token that is good, ten minutes after the proof.
async fn later(app: &TestApp, refresh: &str) -> String {
    app.clock.advance(seconds(601));
    let answer = app.post("/api/v1/auth/refresh", &json!({ "refreshToken": refresh })).send().await;
    text(&answer.json["data"], "accessToken").to_owned()
}

#[tokio::test]
async fn a_route_that_asks_for_a_recent_proof_says_what_would_do() {
    let app = TestApp::new().await;
    let ada = app.register(ADA).await;
    let token = later(&app, text(&ada, "refreshToken")).await;
    assert_eq!(app.get("/api/v1/auth/me").bearer(&token).send().await.status, StatusCode::OK);
    let setup = || app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(&token).send();
    let refused = setup().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "STEP_UP_REQUIRED"), "{}", refused.json);
    assert_eq!(refused.json["error"]["details"][0]["field"], "password");
    assert_eq!(
        refused.header("www-authenticate"),
        "Bearer error=\"insufficient_user_authentication\", acr_values=\"aal1\", max_age=\"600\""
    );
    let wrong = step_up(&app, &token, &json!({ "password": "Wrong-Horse-7" })).await;
    assert_eq!(
        (wrong.status, wrong.json["error"]["details"][0]["field"].as_str()),
        (StatusCode::BAD_REQUEST, Some("password"))
    );
    let done = step_up(&app, &token, &json!({ "password": PASSWORD })).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.json);
    let new = text(&done.json["data"], "accessToken");
    assert_eq!(
        (claims(new)["auth_time"].as_i64(), &claims(new)["aal"]),
        (Some(app.clock.now().as_second()), &json!("aal1"))
    );
    assert_eq!(setup().await.status, StatusCode::OK, "the old token is of the same session");
    app.clock.advance(seconds(600));
    assert_eq!(setup().await.code(), "STEP_UP_REQUIRED");
}

#[tokio::test]
async fn with_a_factor_the_password_alone_is_not_enough() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let token = later(&app, &ada.refresh).await;
    let renew = || app.post("/api/v1/auth/2fa/recovery-codes", &json!({})).bearer(&token).send();
    let refused = renew().await;
    assert_eq!(refused.code(), "STEP_UP_REQUIRED");
    let fields: Vec<_> = refused.json["error"]["details"].as_array().unwrap().iter().map(|d| &d["field"]).collect();
    assert_eq!(fields, ["totp", "recoveryCode"]);
    assert!(refused.header("www-authenticate").contains("acr_values=\"aal2\""));
    assert_eq!(step_up(&app, &token, &json!({ "password": PASSWORD })).await.status, StatusCode::OK);
    assert_eq!(renew().await.code(), "STEP_UP_REQUIRED");
    let now = code(&app, &ada.secret, 0);
    let done = step_up(&app, &token, &json!({ "code": now })).await;
    assert_eq!((done.status, &done.json["data"]["aal"]), (StatusCode::OK, &json!("aal2")), "{}", done.json);
    assert_eq!(renew().await.status, StatusCode::OK);
    // A code that stepped up is used up.
    assert_eq!(step_up(&app, &token, &json!({ "code": now })).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_step_up_is_of_one_session_and_seen_by_every_replica() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    let first = app.register(ADA).await;
    let body = json!({ "email": ADA, "password": PASSWORD });
    let second = app.post("/api/v1/auth/login", &body).send().await.json["data"].clone();
    let first = later(&app, text(&first, "refreshToken")).await;
    let again = app.post("/api/v1/auth/refresh", &json!({ "refreshToken": second["refreshToken"] })).send().await;
    let second = text(&again.json["data"], "accessToken");
    assert_eq!(step_up(&app, &first, &json!({ "password": PASSWORD })).await.status, StatusCode::OK);
    let setup = async |token: &str| other.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await;
    assert_eq!(setup(&first).await.status, StatusCode::OK);
    assert_eq!(setup(second).await.code(), "STEP_UP_REQUIRED");
}

#[tokio::test]
async fn each_route_that_could_lock_the_owner_out_asks_for_it() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let token = later(&app, &ada.refresh).await;
    let me = app.get("/api/v1/auth/me").bearer(&token).send().await.json["data"]["id"].as_str().unwrap().to_owned();
    let own = format!("/api/v1/users/{me}");
    let password = json!({ "currentPassword": PASSWORD, "newPassword": "Another-Horse-8" });
    for (method, path, body) in [
        (Method::PUT, "/api/v1/auth/password", password),
        (Method::POST, "/api/v1/auth/logout", json!({ "scope": "all" })),
        (Method::POST, "/api/v1/auth/logout", json!({ "scope": "others" })),
        (Method::POST, "/api/v1/auth/2fa/setup", json!({})),
        (Method::POST, "/api/v1/auth/2fa/activate", json!({ "code": "123456" })),
        (Method::POST, "/api/v1/auth/2fa/recovery-codes", json!({})),
        (Method::DELETE, own.as_str(), json!({})),
    ] {
        let refused = app.request(method, path).json(&body).bearer(&token).send().await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "STEP_UP_REQUIRED"), "{path}");
    }
    let left = app.post("/api/v1/auth/logout", &json!({})).bearer(&token).send().await;
    assert_eq!(left.status, StatusCode::OK, "to leave this session is always allowed");
}

#[tokio::test]
async fn without_a_factor_the_current_password_in_the_request_is_proof_enough() {
    let app = TestApp::new().await;
    let ada = app.register(ADA).await;
    let token = later(&app, text(&ada, "refreshToken")).await;
    let body = json!({ "currentPassword": PASSWORD, "newPassword": "Another-Horse-8" });
    let changed = app.request(Method::PUT, "/api/v1/auth/password").json(&body).bearer(&token).send().await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.json);
}

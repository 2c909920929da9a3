//! Sessions, their ends, and how soon an end is felt.

use http::StatusCode;
use serde_json::json;

use super::{ME, refresh, token};
use crate::testing::{PASSWORD, TestApp, seconds};

#[tokio::test]
async fn a_logout_is_felt_at_once_here_and_within_a_second_elsewhere() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    let session = app.register("ada@acme.test").await;
    let access = token(&session, "accessToken");
    assert_eq!(app.get(ME).bearer(access).send().await.status, StatusCode::OK);
    assert_eq!(other.get(ME).bearer(access).send().await.status, StatusCode::OK);

    let logout = app.request(http::Method::POST, "/api/v1/auth/logout").bearer(access).send().await;
    assert_eq!((logout.status, &logout.json["data"]["sessionsEnded"]), (StatusCode::OK, &json!(1)));
    let refused = app.get(ME).bearer(access).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_TOKEN"));
    assert_eq!(refused.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    other.clock.advance(seconds(1));
    assert_eq!(other.get(ME).bearer(access).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refresh(&app, token(&session, "refreshToken")).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_logout_reaches_as_far_as_it_says() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let mut sessions = vec![];
    for _ in 0..3 {
        let login =
            app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": PASSWORD })).send().await;
        sessions.push(login.json["data"].clone());
    }
    let works =
        async |at: usize| app.get(ME).bearer(token(&sessions[at], "accessToken")).send().await.status == StatusCode::OK;
    let logout = async |at: usize, scope: &str| {
        let call = app.post("/api/v1/auth/logout", &json!({ "scope": scope }));
        call.bearer(token(&sessions[at], "accessToken")).send().await.json["data"]["sessionsEnded"].clone()
    };
    assert_eq!(logout(0, "local").await, 1);
    assert_eq!((works(0).await, works(1).await, works(2).await), (false, true, true));
    // The registration's own session, and the third.
    assert_eq!(logout(1, "others").await, 2);
    assert_eq!((works(1).await, works(2).await), (true, false));
    assert_eq!(logout(1, "all").await, 1);
    assert!(!works(1).await);
}

#[tokio::test]
async fn a_client_whose_access_token_expired_signs_out_with_its_refresh_token() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    app.clock.advance(seconds(3_600));
    let call = app.post("/api/v1/auth/logout", &json!({ "refreshToken": session["refreshToken"] }));
    assert_eq!(call.bearer(token(&session, "accessToken")).send().await.status, StatusCode::OK);
    assert_eq!(refresh(&app, token(&session, "refreshToken")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.request(http::Method::POST, "/api/v1/auth/logout").send().await.code(), "UNAUTHORIZED");
}

#[tokio::test]
async fn a_dead_redis_keeps_nobody_out_and_revives_nobody() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    let access = token(&session, "accessToken");
    let without = app.without_redis();
    without.serve(&without.tenant("acme"));
    assert_eq!(without.get(ME).bearer(access).send().await.status, StatusCode::OK);
    without.request(http::Method::POST, "/api/v1/auth/logout").bearer(access).send().await;
    assert_eq!(without.get(ME).bearer(access).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn one_sees_where_one_is_signed_in_and_ends_one_of_it() {
    let app = TestApp::new().await;
    let first = app.register("ada@acme.test").await;
    app.clock.advance(seconds(5));
    let body = json!({ "email": "ada@acme.test", "password": PASSWORD });
    let phone =
        app.post("/api/v1/auth/login", &body).header("user-agent", "Phone/1.0").send().await.json["data"].clone();
    let sessions = async || {
        let answer = app.get("/api/v1/auth/sessions").bearer(token(&first, "accessToken")).send().await;
        answer.json["data"].as_array().cloned().unwrap()
    };
    let both = sessions().await;
    assert_eq!((both.len(), &both[0]["userAgent"], &both[0]["current"]), (2, &json!("Phone/1.0"), &json!(false)));
    assert_eq!((&both[1]["current"], &both[1]["ipAddress"]), (&json!(true), &json!("192.0.2.1")));

    let end = async |bearer: &str, id: &str| {
        app.request(http::Method::DELETE, &format!("/api/v1/auth/sessions/{id}")).bearer(bearer).send().await.status
    };
    let bob = app.register("bob@acme.test").await;
    let id = both[0]["id"].as_str().unwrap();
    assert_eq!(end(token(&bob, "accessToken"), id).await, StatusCode::NOT_FOUND);
    assert_eq!(end(token(&first, "accessToken"), id).await, StatusCode::OK);
    assert_eq!(app.get(ME).bearer(token(&phone, "accessToken")).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(sessions().await.len(), 1);
    assert_eq!(end(token(&first, "accessToken"), id).await, StatusCode::NOT_FOUND);
}

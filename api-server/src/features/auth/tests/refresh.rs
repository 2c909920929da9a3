//! Refresh tokens: once, in time, of one session.

use http::StatusCode;
use serde_json::{Value, json};

use super::{ME, refresh, token};
use crate::testing::{PASSWORD, TestApp, seconds};

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_family() {
    let app = TestApp::new().await;
    let first = app.register("ada@acme.test").await;
    let second = refresh(&app, token(&first, "refreshToken")).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.json);
    let second = &second.json["data"];
    assert_ne!(first["refreshToken"], second["refreshToken"]);

    app.clock.advance(seconds(11));
    let reuse = refresh(&app, token(&first, "refreshToken")).await;
    assert_eq!((reuse.status, reuse.code()), (StatusCode::UNAUTHORIZED, "TOKEN_REUSED"));
    // The thief and the owner hold tokens of one family: neither goes on.
    assert_eq!(refresh(&app, token(second, "refreshToken")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.get(ME).bearer(token(second, "accessToken")).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_within_the_grace_and_not_in_strict_mode() {
    let app = TestApp::new().await;
    let first = app.register("ada@acme.test").await;
    let answer = refresh(&app, token(&first, "refreshToken")).await.json["data"]["refreshToken"].clone();
    app.clock.advance(seconds(9));
    let again = refresh(&app, token(&first, "refreshToken")).await;
    assert_eq!(again.json["data"]["refreshToken"], answer, "{}", again.json);

    // Once the successor was used, the parent is no lost answer any more.
    assert_eq!(refresh(&app, answer.as_str().unwrap()).await.status, StatusCode::OK);
    assert_eq!(refresh(&app, token(&first, "refreshToken")).await.code(), "TOKEN_REUSED");

    let mut strict = app.tenant("acme");
    strict.auth.refresh_reuse_seconds = 0;
    app.serve(&strict);
    let other = app.register("bob@acme.test").await;
    assert_eq!(refresh(&app, token(&other, "refreshToken")).await.status, StatusCode::OK);
    assert_eq!(refresh(&app, token(&other, "refreshToken")).await.code(), "TOKEN_REUSED");
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_get_the_same_successor() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    let old = token(&session, "refreshToken");
    let (one, two) = tokio::join!(refresh(&app, old), refresh(&app, old));
    assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(one.json["data"]["refreshToken"], two.json["data"]["refreshToken"]);
}

#[tokio::test]
async fn a_refresh_goes_with_an_expired_access_token_of_its_own_session_only() {
    let app = TestApp::new().await;
    let (ada, bob) = (app.register("ada@acme.test").await, app.register("bob@acme.test").await);
    app.clock.advance(seconds(3_600));
    assert_eq!(app.get(ME).bearer(token(&ada, "accessToken")).send().await.status, StatusCode::UNAUTHORIZED);
    let body = json!({ "refresh_token": ada["refreshToken"] });
    let with = |access: &Value| app.post("/api/v1/auth/refresh", &body).bearer(access.as_str().unwrap()).send();
    assert_eq!(with(&bob["accessToken"]).await.code(), "INVALID_REFRESH_TOKEN");
    assert_eq!(with(&ada["accessToken"]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_refresh_token_expires() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    app.clock.advance(seconds(604_801));
    assert_eq!(refresh(&app, token(&session, "refreshToken")).await.code(), "INVALID_REFRESH_TOKEN");
    assert_eq!(refresh(&app, "nonsense").await.code(), "INVALID_REFRESH_TOKEN");
}

#[tokio::test]
async fn a_refresh_token_may_live_in_a_cookie_that_no_script_reads() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let asked = |path: &str, body: &Value| app.post(path, body).header("x-refresh-token", "cookie");
    let login = json!({ "email": "ada@acme.test", "password": PASSWORD });
    let first = asked("/api/v1/auth/login", &login).send().await;
    let set = first.header("set-cookie").to_owned();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/api; Max-Age=604800; HttpOnly; Secure; SameSite=Strict");
    assert!(
        first.json["data"].get("refreshToken").is_none() && first.json["data"]["accessToken"].is_string(),
        "{}",
        first.text
    );
    let refresh = "/api/v1/auth/refresh";
    // The cookie alone is what a page of another site could make a browser send.
    let alone = app.request(http::Method::POST, refresh).header("cookie", pair).send().await;
    assert_eq!((alone.status, alone.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"));
    let cookies = format!("theme=dark; {pair}; x=y");
    let call =
        || app.request(http::Method::POST, refresh).header("x-refresh-token", "cookie").header("cookie", &cookies);
    let second = call().send().await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    let next = second.header("set-cookie").split_once("; ").unwrap().0.to_owned();
    assert_ne!(next, pair);
    assert!(!second.text.contains(next.split_once('=').unwrap().1), "the token is in the cookie alone");
    let odd = app.post("/api/v1/auth/login", &login).header("x-refresh-token", "pocket").send().await;
    assert_eq!(odd.json["error"]["details"][0]["field"], "X-Refresh-Token");
    let logout = app
        .request(http::Method::POST, "/api/v1/auth/logout")
        .header("x-refresh-token", "cookie")
        .header("cookie", &next);
    let logout = logout.send().await;
    assert_eq!(logout.status, StatusCode::OK, "{}", logout.text);
    assert!(
        logout.header("set-cookie").starts_with("__Secure-refresh=; Path=/api; Max-Age=0;"),
        "{:?}",
        logout.headers
    );
    assert_eq!(call().send().await.status, StatusCode::UNAUTHORIZED);
    // Who does not ask for it gets none.
    let plain = app.post("/api/v1/auth/login", &login).send().await;
    assert!(plain.header("set-cookie").is_empty() && plain.json["data"]["refreshToken"].is_string());
}

//! What two do at the same time, in the order that lets the wrong one win.

use http::{Method, StatusCode};
use serde_json::json;

use super::{ME, token};
use crate::{
    extract::{SessionId, UserId},
    testing::{PASSWORD, TestApp, seconds},
};

const NEW_PASSWORD: &str = "Better-Horse-8";
/// Of a password that is told nowhere here.
const OF_THE_OWNER: &str = "$2b$04$DCq7YPn5Rq63x1Lad4cll.d.LDdhiA4IgbK.oJt3ASoyWKM.yG2ZW";

#[tokio::test]
async fn a_password_that_was_changed_while_the_old_one_was_checked_opens_nothing() {
    let app = TestApp::new().await;
    let ada = app.register("ada@acme.test").await;
    let login = json!({ "email": "ada@acme.test", "password": PASSWORD });
    // Held until the new hash is in the row, so that the sign-in has checked the old one by then.
    let changed = app.hold("UPDATE auth.users SET password_hash = NULL").await;
    let login = app.post("/api/v1/auth/login", &login).send();
    let answer = app.beside(login, async || changed.commit().await.unwrap()).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS"));
    assert_eq!(app.get(ME).bearer(token(&ada, "accessToken")).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_holds_the_old_password_does_not_change_the_one_that_was_just_reset() {
    for (what, statement) in [
        ("reset", format!("UPDATE auth.users SET password_hash = '{OF_THE_OWNER}'")),
        ("ban", format!("UPDATE auth.users SET is_active = false, password_hash = '{OF_THE_OWNER}'")),
        (
            "sign-out",
            "WITH out AS (UPDATE auth.sessions SET revoked_at = now()) UPDATE auth.users SET name = name".into(),
        ),
    ] {
        let app = TestApp::new().await;
        let thief = app.register("ada@acme.test").await;
        let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW_PASSWORD });
        let held = app.hold(&statement).await;
        let change = app.request(Method::PUT, "/api/v1/auth/password").json(&body);
        let change = change.bearer(token(&thief, "accessToken")).send();
        let answer = app.beside(change, async || held.commit().await.unwrap()).await;
        assert!(answer.status.is_client_error(), "{what}: {}", answer.text);
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let hash: String =
            sqlx::query_scalar("SELECT password_hash FROM auth.users").fetch_one(tx.conn()).await.unwrap();
        assert_eq!(hash == OF_THE_OWNER, what != "sign-out", "{what}");
        let login = json!({ "email": "ada@acme.test", "password": NEW_PASSWORD });
        assert_eq!(app.post("/api/v1/auth/login", &login).send().await.status, StatusCode::UNAUTHORIZED, "{what}");
    }
}

#[tokio::test]
async fn who_is_signed_in_does_nothing_more_by_a_password_or_account_that_is_gone_meanwhile() {
    let app = TestApp::new().await;
    let bearer = app.admin().await;
    let move_away = json!({ "email": "thief@acme.test", "currentPassword": PASSWORD });
    let a_key = json!({ "name": "backdoor", "scopes": ["users:read"] });
    for (statement, method, path, body, status) in [
        (
            format!("UPDATE auth.users SET password_hash = '{OF_THE_OWNER}'"),
            Method::PUT,
            "/api/v1/auth/email",
            &move_away,
            StatusCode::BAD_REQUEST,
        ),
        (
            "UPDATE auth.users SET is_active = false".into(),
            Method::POST,
            "/api/v1/api-keys",
            &a_key,
            StatusCode::UNAUTHORIZED,
        ),
    ] {
        let held = app.hold(&statement).await;
        let act = app.request(method, path).json(body).bearer(&bearer).send();
        let answer = app.beside(act, async || held.commit().await.unwrap()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM auth.mailed_tokens), (SELECT count(*) FROM auth.api_keys)";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(left).fetch_one(tx.conn()).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_wrong_proof_of_who_is_signed_in_is_in_the_audit() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    let bearer = token(&ada, "accessToken");
    for (method, path, body) in [
        (
            Method::PUT,
            "/api/v1/auth/password",
            json!({ "currentPassword": "Wrong-Horse-7", "newPassword": NEW_PASSWORD }),
        ),
        (Method::POST, "/api/v1/auth/step-up", json!({ "password": "Wrong-Horse-7" })),
        (Method::POST, "/api/v1/auth/step-up", json!({ "recoveryCode": "AAAA-BBBB-CCCC-DDDD" })),
    ] {
        let wrong = app.request(method, path).json(&body).bearer(bearer).send().await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{path}: {}", wrong.text);
    }
    let logs = app.get("/api/v1/admin/audit-logs?action=confirm_identity&outcome=failure").bearer(&admin).send().await;
    let wrong: Vec<_> = logs.json["data"].as_array().unwrap().iter().map(|entry| &entry["details"]["wrong"]).collect();
    assert_eq!(wrong, ["recoveryCode", "password", "password"], "{}", logs.text);
    assert!(!logs.text.contains("Wrong-Horse") && !logs.text.contains("AAAA"), "{}", logs.text);
}

#[tokio::test]
async fn late_word_of_a_change_revives_no_session_and_no_role() {
    let app = TestApp::new().await;
    let tenant = app.tenant("acme").id;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    let id = UserId(token(&ada["user"], "id").parse().unwrap());
    let replica = app.replica();
    replica.serve(&replica.tenant("acme"));
    let (users, bearer) = ("/api/v1/users", token(&ada, "accessToken"));
    let roles = format!("{users}/{id}/roles");
    let given = app.post(&roles, &json!({ "role": "SUPPORT" })).bearer(&admin).send().await;
    assert!(given.status.is_success(), "{}", given.text);
    let listed = app.get("/api/v1/auth/sessions").bearer(bearer).send().await;
    let session = SessionId(token(&listed.json["data"][0], "id").parse().unwrap());
    assert_eq!(replica.get(users).bearer(bearer).send().await.status, StatusCode::OK);

    // The role is taken; then comes the word of a replica that gave it, and was slow to say so.
    let taken = app.request(Method::DELETE, &format!("{roles}/SUPPORT")).bearer(&admin).send().await;
    assert!(taken.status.is_success(), "{}", taken.text);
    app.app.auth.renew_sessions(tenant, &[session]).await;
    app.clock.advance(seconds(1));
    for replica in [&app, &replica] {
        let refused = replica.get(users).bearer(bearer).send().await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    }
    // The same with a session that ended.
    let out = app.post("/api/v1/auth/logout", &json!({})).bearer(bearer).send().await;
    assert!(out.status.is_success(), "{}", out.text);
    app.app.auth.renew_sessions(tenant, &[session]).await;
    app.clock.advance(seconds(1));
    for replica in [&app, &replica] {
        assert_eq!(replica.get(ME).bearer(bearer).send().await.status, StatusCode::UNAUTHORIZED);
    }
}

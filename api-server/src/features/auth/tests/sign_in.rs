//! Registering and signing in.

use http::StatusCode;
use serde_json::{Value, json};

use super::{ME, token};
use crate::testing::{PASSWORD, TestApp, binding, seconds};

#[tokio::test]
async fn somebody_registers_signs_in_and_is_known() {
    let app = TestApp::new().await;
    let body =
        json!({ "email": " Ada@Example.com ", "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace" });
    let registered = app.post("/api/auth/register", &body).send().await;
    assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.json);
    assert_eq!(registered.json["success"], true);
    let session = &registered.json["data"];
    assert_eq!(session["token"], session["accessToken"]);
    assert_eq!((&session["tokenType"], &session["expiresIn"]), (&json!("Bearer"), &json!(900)));

    let login =
        app.post("/api/v1/auth/login", &json!({ "email": "ADA@example.com", "password": PASSWORD })).send().await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.json);

    let me = app.get(ME).bearer(token(&login.json["data"], "accessToken")).send().await;
    assert_eq!(me.status, StatusCode::OK, "{}", me.json);
    let user = &me.json["data"];
    for (field, value) in [
        ("email", "ada@example.com"),
        ("name", "Ada Lovelace"),
        ("fullName", "Ada Lovelace"),
        ("full_name", "Ada Lovelace"),
        ("firstName", "Ada"),
        ("lastName", "Lovelace"),
        ("role", "USER"),
    ] {
        assert_eq!(user[field], value, "{field}");
    }
    assert_eq!(user["roles"], json!(["USER"]));
    assert!(!me.text.contains("argon2"), "{}", me.text);
}

#[tokio::test]
async fn a_registration_that_breaks_rules_is_told_each_of_them() {
    let app = TestApp::new().await;
    let fields = |answer: &crate::testing::Answer| {
        let details = answer.json["error"]["details"].as_array().cloned().unwrap_or_default();
        details.iter().map(|d| d["field"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let bad = app.post("/api/v1/auth/register", &json!({ "email": "nobody", "password": "" })).send().await;
    assert_eq!((bad.status, bad.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"));
    assert_eq!(fields(&bad), ["email", "password", "name"]);
    let weak =
        app.post("/api/v1/auth/register", &json!({ "email": "a@b.co", "password": "weak", "name": "A" })).send().await;
    assert_eq!((weak.code(), fields(&weak).len()), ("VALIDATION_ERROR", 3));

    app.register("ada@acme.test").await;
    let again = app
        .post("/api/v1/auth/register", &json!({ "email": "Ada@acme.test", "password": PASSWORD, "name": "A" }))
        .send()
        .await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "EMAIL_TAKEN"));
}

#[tokio::test]
async fn a_malformed_body_names_its_fault_and_never_a_500() {
    let app = TestApp::new().await;
    let login = "/api/v1/auth/login";
    for (body, field) in [
        ("{", "body"),
        ("[]", "body"),
        ("null", "body"),
        // An array of the fields' values, in their order, is no object.
        (r#"["ada@acme.test", "Correct-Horse-7"]"#, "body"),
        (r#"{"email": "a\u0000@b.co", "password": "x"}"#, "email"),
        (r#"{"email": "a@b.co", "password": "x", "more": [{"deep": "\u0000"}]}"#, "more.0.deep"),
        (r#"{"email": 1, "password": "x"}"#, "email"),
        (r#"{"email": "a"} x"#, "body"),
        ("", "body"),
    ] {
        let answer =
            app.request(http::Method::POST, login).header("content-type", "application/json").body(body).send().await;
        assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"), "{body}");
        assert_eq!(answer.json["error"]["details"][0]["field"], field, "{body}: {}", answer.json);
    }
    let form = app.request(http::Method::POST, login).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.body("email=a%40b.co&password=x").send().await.code(), "INVALID_CREDENTIALS");
    let form = app.request(http::Method::POST, login).header("content-type", "application/x-www-form-urlencoded");
    let answer = form.body("email=a%40b.co&password=%00").send().await;
    assert_eq!(answer.json["error"]["details"][0]["field"], "password", "{}", answer.json);
    let xml = app.request(http::Method::POST, login).header("content-type", "text/xml").body("<a/>").send().await;
    assert_eq!(xml.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_get_the_same_answer() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let mut answers = vec![];
    for (email, password) in
        [("ada@acme.test", "Wrong-Horse-7"), ("nobody@acme.test", PASSWORD), ("no address", PASSWORD)]
    {
        let mut answer = app.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        answer.json["meta"] = Value::Null;
        answers.push(answer.json);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test]
async fn a_stale_token_does_not_keep_anyone_from_signing_in() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    app.clock.advance(seconds(3_600));
    let login = app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": PASSWORD }));
    assert_eq!(login.bearer(token(&session, "accessToken")).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_tenant_that_wants_verified_addresses_gives_no_tokens_before() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.auth.email_verification = contract::auth::EmailVerification::Required;
    app.serve(&acme);
    let session = app.register("ada@acme.test").await;
    assert_eq!((&session["verificationRequired"], session.get("accessToken")), (&json!(true), None));
    let login = app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": PASSWORD })).send().await;
    assert_eq!(login.code(), "EMAIL_NOT_VERIFIED");
}

#[tokio::test]
async fn a_quota_of_users_is_kept() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.quotas.users = Some(1);
    app.serve(&acme);
    app.register("ada@acme.test").await;
    let body = json!({ "email": "bob@acme.test", "password": PASSWORD, "name": "Bob" });
    assert_eq!(app.post("/api/v1/auth/register", &body).send().await.code(), "QUOTA_REACHED");
}

#[tokio::test]
async fn roles_of_bindings_stand_beside_the_primary_one() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    let mut acme = app.tenant("acme");
    acme.bindings = vec![
        binding("vendors", "VENDOR", "ADA@acme.test"),
        binding("helpers", "SUPPORT", session["user"]["id"].as_str().unwrap()),
    ];
    app.serve(&acme);
    let me = app.get(ME).bearer(token(&session, "accessToken")).send().await;
    assert_eq!(me.json["data"]["roles"], json!(["USER", "VENDOR", "SUPPORT"]));
    assert_eq!(me.json["data"]["role"], "USER");
}

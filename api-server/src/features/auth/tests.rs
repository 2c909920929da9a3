use futures::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};

use crate::testing::{PASSWORD, TestApp, binding, seconds};

const ME: &str = "/api/v1/auth/me";

fn token<'a>(session: &'a Value, name: &str) -> &'a str {
    session[name].as_str().unwrap()
}

async fn refresh(app: &TestApp, token: &str) -> crate::testing::Answer {
    app.post("/api/v1/auth/refresh", &json!({ "refreshToken": token })).send().await
}

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
async fn a_stale_token_does_not_keep_anyone_from_signing_in() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    app.clock.advance(seconds(3_600));
    let login = app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": PASSWORD }));
    assert_eq!(login.bearer(token(&session, "accessToken")).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_of_another_tenant_is_refused_and_its_rows_are_not_seen() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("beta"));
    let ada = app.register("ada@acme.test").await;
    let access = token(&ada, "accessToken");
    let refused = app.get(ME).host("beta.test").bearer(access).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_TOKEN"));
    let body = json!({ "refreshToken": ada["refreshToken"] });
    assert_eq!(app.post("/api/v1/auth/refresh", &body).host("beta.test").send().await.status, StatusCode::UNAUTHORIZED);
    let body = json!({ "email": "ada@acme.test", "password": PASSWORD });
    assert_eq!(app.post("/api/v1/auth/login", &body).host("beta.test").send().await.status, StatusCode::UNAUTHORIZED);
    // The same address is somebody else there.
    app.register_at("beta.test", "ada@acme.test").await;
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    let good = token(&session, "accessToken");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let kid = app.app.tenants.by_name("acme").unwrap().keys.signing().unwrap().0.to_owned();
    // HS256 with the public key as its secret: the classic.
    let hs = jsonwebtoken::Header { kid: Some(kid), ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256) };
    let claims_json: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let jwks = app.get("/.well-known/jwks.json").send().await;
    let public = BASE64_URL_SAFE_NO_PAD.decode(jwks.json["keys"][0]["x"].as_str().unwrap()).unwrap();
    let confused = jsonwebtoken::encode(&hs, &claims_json, &jsonwebtoken::EncodingKey::from_secret(&public)).unwrap();
    let forged = [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"x"}"#)),
        confused,
        String::new(),
        "a.b.c".into(),
        "x".repeat(10_000),
    ];
    for token in forged {
        let answer = app.get(ME).bearer(&token).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token}");
    }
    assert_eq!(app.get(ME).send().await.json["error"]["message"], "Access token required");
    assert_eq!(app.get(ME).bearer(good).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_leaves_the_tenant_takes_its_tokens_along() {
    let app = TestApp::new().await;
    let session = app.register("ada@acme.test").await;
    let call = || app.get(ME).bearer(token(&session, "accessToken")).send();
    assert_eq!(call().await.status, StatusCode::OK);
    let mut rotated = app.tenant("acme");
    let other = app.tenant("other");
    let pem = contract::Secret::new(crate::testing::ed25519_pem(other.id.as_uuid().as_bytes()));
    rotated.auth.signing_keys[0].key = app.key.seal(rotated.id, "auth/signingKeys/key", &pem).unwrap();
    app.serve(&rotated);
    assert_eq!(call().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_tenant_may_sign_with_a_shared_secret() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    let secret = contract::Secret::new("a shared secret of more than 32 bytes");
    acme.auth.signing_keys[0].algorithm = contract::auth::SigningAlgorithm::HS256;
    acme.auth.signing_keys[0].key = app.key.seal(acme.id, "auth/signingKeys/key", &secret).unwrap();
    app.serve(&acme);
    let session = app.register("ada@acme.test").await;
    assert_eq!(app.get(ME).bearer(token(&session, "accessToken")).send().await.status, StatusCode::OK);
    assert_eq!(app.get("/.well-known/jwks.json").send().await.json, json!({ "keys": [] }));
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
async fn a_changed_password_ends_all_other_sessions() {
    let app = TestApp::new().await;
    let first = app.register("ada@acme.test").await;
    let login = async |password: &str| {
        app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": password })).send().await
    };
    let second = login(PASSWORD).await.json["data"].clone();
    let change = async |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        let call = app.request(http::Method::PUT, "/api/v1/auth/password").json(&body);
        call.bearer(token(&second, "accessToken")).send().await
    };
    let wrong = change("Wrong-Horse-7", "Better-Horse-8").await;
    assert_eq!(
        (wrong.status, &wrong.json["error"]["details"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("currentPassword"))
    );
    assert_eq!(change(PASSWORD, "weak").await.code(), "VALIDATION_ERROR");
    assert_eq!(change(PASSWORD, PASSWORD).await.json["error"]["details"][0]["code"], "UNCHANGED");
    let changed = change(PASSWORD, "Better-Horse-8").await;
    assert_eq!(
        (changed.status, &changed.json["data"]["sessionsEnded"]),
        (StatusCode::OK, &json!(1)),
        "{}",
        changed.text
    );
    assert_eq!(app.get(ME).bearer(token(&first, "accessToken")).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.get(ME).bearer(token(&second, "accessToken")).send().await.status, StatusCode::OK);
    assert_eq!(login(PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login("Better-Horse-8").await.status, StatusCode::OK);
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

#[tokio::test]
async fn a_password_is_tried_ever_more_slowly_on_every_replica() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    app.register("ada@acme.test").await;
    let login = async |app: &TestApp, email: &str, password: &str| {
        app.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).send().await
    };
    // Whether there is such an account makes no difference.
    for email in ["ada@acme.test", "nobody@acme.test"] {
        for n in 0..5 {
            let on = if n % 2 == 0 { &app } else { &other };
            assert_eq!(login(on, email, "Wrong-Horse-7").await.status, StatusCode::UNAUTHORIZED, "{email} {n}");
        }
        let refused = login(&other, email, PASSWORD).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS"));
        assert_eq!(refused.header("retry-after"), "30");
    }
    app.clock.advance(seconds(30));
    assert_eq!(login(&app, "ada@acme.test", "Wrong-Horse-7").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&app, "ada@acme.test", PASSWORD).await.header("retry-after"), "60");
    app.clock.advance(seconds(60));
    assert_eq!(login(&other, "ada@acme.test", PASSWORD).await.status, StatusCode::OK);
    // The failures are forgotten: there are free attempts again.
    assert_eq!(login(&app, "ada@acme.test", "Wrong-Horse-7").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&app, "ada@acme.test", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn many_attempts_at_once_get_no_further_than_one_after_the_other() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let wrong = json!({ "email": "ada@acme.test", "password": "Wrong-Horse-7" });
    let attempts = (0..12).map(|_| app.post("/api/v1/auth/login", &wrong).send());
    let answers = futures::future::join_all(attempts).await;
    let tried = answers.iter().filter(|answer| answer.status == StatusCode::UNAUTHORIZED).count();
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((tried, refused), (5, 7));
}

#[tokio::test]
async fn an_office_that_signs_in_all_day_and_all_at_once_is_never_slowed_down() {
    for redis in [true, false] {
        let app = TestApp::new().await;
        for n in 0..24 {
            app.register(&format!("user{n}@acme.test")).await;
        }
        let office = if redis { app.replica() } else { app.without_redis() };
        office.serve(&office.tenant("acme"));
        for _ in 0..2 {
            // More at once than accounts that may fail, and in all more than attempts that may.
            let logins = (0..24).map(|n| {
                let body = json!({ "email": format!("user{n}@acme.test"), "password": PASSWORD });
                office.post("/api/v1/auth/login", &body).send()
            });
            let statuses: Vec<_> = futures::future::join_all(logins).await.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [StatusCode::OK; 24]);
        }
        assert_eq!(office.app.metrics.stuffing.rung("many_accounts"), 0);
    }
}

#[tokio::test]
async fn behind_a_proxy_that_nobody_declared_a_thief_keeps_nobody_else_out() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let login = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        app.post("/api/v1/auth/login", &body)
            .peer([10, 0, 0, 7])
            .header("x-forwarded-for", "203.0.113.9")
            .send()
            .await
            .status
    };
    for n in 0..40 {
        assert_eq!(login(&format!("user{n}@acme.test"), "Wrong-Horse-7").await, StatusCode::UNAUTHORIZED, "{n}");
    }
    assert_eq!(login("ada@acme.test", PASSWORD).await, StatusCode::OK);
}

#[tokio::test]
async fn who_tries_many_accounts_from_one_address_is_taken_for_a_thief() {
    for redis in [true, false] {
        let app = TestApp::new().await;
        let admin = app.admin().await;
        app.register("ada@acme.test").await;
        let other = if redis { app.replica() } else { app.without_redis() };
        other.serve(&other.tenant("acme"));
        let login = async |email: &str, password: &str| {
            other.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).send().await
        };
        for n in 0..20 {
            if n % 4 == 0 {
                // Who succeeds is not counted: an office whose people sign in is no thief.
                assert_eq!(login("ada@acme.test", PASSWORD).await.status, StatusCode::OK, "{n}");
            }
            let wrong = login(&format!("user{n}@acme.test"), "Wrong-Horse-7").await;
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{n}");
        }
        let refused = login("user20@acme.test", "Wrong-Horse-7").await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "900"));
        assert_eq!(other.app.metrics.stuffing.rung("many_accounts"), 1);
        let logs = app.get("/api/v1/admin/audit-logs?action=credential_stuffing").bearer(&admin).send().await;
        let entries = logs.json["data"].as_array().unwrap();
        assert_eq!((entries.len(), &entries[0]["details"]["kind"]), (1, &json!("many_accounts")), "{}", logs.text);
    }
}

#[tokio::test]
async fn a_tenant_that_is_tried_from_many_addresses_gives_accounts_fewer_tries() {
    let app = TestApp::new().await;
    let proxied = app.with_flags(&["--trusted-proxies", "192.0.2.0/24"]);
    proxied.serve(&proxied.tenant("acme"));
    app.register("ada@acme.test").await;
    let login = async |ip: String, email: &str| {
        let body = json!({ "email": email, "password": "Wrong-Horse-7" });
        proxied.post("/api/v1/auth/login", &body).header("x-forwarded-for", &ip).send().await.status
    };
    for n in 0..100 {
        assert_eq!(login(format!("198.51.100.{n}"), &format!("user{n}@acme.test")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(proxied.app.metrics.stuffing.rung("many_addresses"), 1);
    let ada: Vec<_> =
        futures::stream::iter(0..3).then(|n| login(format!("203.0.113.{n}"), "ada@acme.test")).collect().await;
    assert_eq!(ada, [StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS]);
    assert_eq!(proxied.app.metrics.stuffing.rung("many_addresses"), 1, "one alarm for one attack");
}

#[tokio::test]
async fn a_password_that_was_changed_while_the_old_one_was_checked_opens_nothing() {
    let app = TestApp::new().await;
    let ada = app.register("ada@acme.test").await;
    let login = json!({ "email": "ada@acme.test", "password": PASSWORD });
    // The row is held until the new hash is in it, so that every sign-in has checked the old one by then.
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let change = "UPDATE auth.users SET password_hash = NULL WHERE email = 'ada@acme.test'";
    sqlx::query(change).execute(tx.conn()).await.unwrap();
    let (answer, ()) = tokio::join!(app.post("/api/v1/auth/login", &login).send(), async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        loop {
            // Anew each time: within one transaction PostgreSQL shows what it saw first.
            let mut look = app.app.db.begin(app.tenant("acme").id).await.unwrap();
            if sqlx::query_scalar::<_, i64>(waiting).fetch_one(look.conn()).await.unwrap() > 0 {
                break;
            }
        }
        tx.commit().await.unwrap();
    });
    assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS"));
    assert_eq!(app.get(ME).bearer(token(&ada, "accessToken")).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn attempts_are_counted_without_redis_and_an_admin_unlocks_the_account() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    let without = app.without_redis();
    without.serve(&without.tenant("acme"));
    let login = async |app: &TestApp, password: &str| {
        app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": password })).send().await.status
    };
    for on in [&without, &app] {
        for _ in 0..5 {
            assert_eq!(login(on, "Wrong-Horse-7").await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(login(on, PASSWORD).await, StatusCode::TOO_MANY_REQUESTS);
    }
    let path = format!("/api/v1/admin/users/{}/unlock", ada["user"]["id"].as_str().unwrap());
    assert_eq!(app.request(http::Method::POST, &path).bearer(&admin).send().await.status, StatusCode::OK);
    assert_eq!(login(&app, PASSWORD).await, StatusCode::OK);
}

#[tokio::test]
async fn a_hash_of_another_system_signs_in_and_becomes_argon2id() {
    let app = TestApp::new().await;
    let stored = async || {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let hash: String = sqlx::query_scalar("SELECT password_hash FROM auth.users WHERE email = 'ada@acme.test'")
            .fetch_one(tx.conn())
            .await
            .unwrap();
        hash
    };
    app.register("ada@acme.test").await;
    let scrypt = "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$jU+wVnnRO8xMJ6kk2pn2W1IFgOT9r8PK+dHZ+HH3bt4";
    for (hash, password) in [(bcrypt::hash(PASSWORD, 4).unwrap().as_str(), PASSWORD), (scrypt, "password")] {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        sqlx::query("UPDATE auth.users SET password_hash = $1").bind(hash).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        let login = async |password: &str| {
            let body = json!({ "email": "ada@acme.test", "password": password });
            app.post("/api/v1/auth/login", &body).send().await.status
        };
        assert_eq!(login("Wrong-Horse-7").await, StatusCode::UNAUTHORIZED);
        assert_eq!(stored().await, hash, "only who proves the password renews its hash");
        assert_eq!(login(password).await, StatusCode::OK);
        assert!(stored().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored().await);
        assert_eq!(login(password).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_unknown_account_costs_the_same_work_as_a_known_one() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    app.register("banned@acme.test").await;
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let ban = "UPDATE auth.users SET is_active = false WHERE email = 'banned@acme.test'";
    sqlx::query(ban).execute(tx.conn()).await.unwrap();
    let without = "INSERT INTO auth.users (tenant_id, id, email, name, created_at, updated_at)
                   SELECT tenant_id, gen_random_uuid(), 'invited@acme.test', 'I', created_at, created_at FROM auth.users LIMIT 1";
    sqlx::query(without).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let written = async || {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let entries: i64 =
            sqlx::query_scalar("SELECT count(*) FROM admin.audit_logs").fetch_one(tx.conn()).await.unwrap();
        (app.app.metrics.hashes.get(), entries)
    };
    let mut printed = vec![];
    for (who, email) in [
        ("known", "ada@acme.test"),
        ("unknown", "nobody@acme.test"),
        ("banned", "banned@acme.test"),
        ("without a password", "invited@acme.test"),
        ("no address", "nobody"),
    ] {
        let mut took = vec![];
        for _ in 0..12 {
            let (hashes, entries) = written().await;
            let body = json!({ "email": email, "password": "Wrong-Horse-7" });
            let began = std::time::Instant::now();
            let answer = app.post("/api/v1/auth/login", &body).send().await;
            took.push(began.elapsed());
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{who}");
            assert_eq!(written().await, (hashes + 1, entries + 1), "{who}: one hash and one entry");
            app.forget("tries").await;
        }
        took.sort();
        printed.push(format!("{who}: median {:?}, from {:?} to {:?}", took[6], took[0], took[11]));
    }
    println!("{}", printed.join("\n"));
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

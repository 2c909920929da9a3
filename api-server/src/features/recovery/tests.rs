use contract::auth::EmailVerification;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    features::mail::{
        Letter,
        tests::{kinds, letters, token},
    },
    testing::{Answer, PASSWORD, TestApp, mail_settings, seconds},
};

const ADA: &str = "ada@acme.test";
const NEW_PASSWORD: &str = "Better-Horse-8";

async fn auth(app: &TestApp, path: &str, body: Value) -> Answer {
    app.post(&format!("/api/v1/auth/{path}"), &body).send().await
}

async fn login(app: &TestApp, email: &str, password: &str) -> Answer {
    auth(app, "login", json!({ "email": email, "password": password })).await
}

async fn forgot(app: &TestApp, email: &str) -> Answer {
    auth(app, "forgot-password", json!({ "email": email })).await
}

async fn reset(app: &TestApp, token: &str) -> Answer {
    auth(app, "reset-password", json!({ "token": token, "password": NEW_PASSWORD })).await
}

/// A tenant that wants addresses verified.
async fn wants_verified() -> TestApp {
    let app = TestApp::empty().await;
    let mut acme = app.tenant("acme");
    acme.auth.email_verification = EmailVerification::Required;
    app.serve(&acme);
    app
}

async fn audited(app: &TestApp, action: &str) -> i64 {
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM admin.audit_logs WHERE action = $1")
        .bind(action)
        .fetch_one(tx.conn())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_a_link_and_all_sessions_end() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let asked = forgot(&app, " Ada@acme.test ").await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.json);
    let link = token(&app, ADA, "reset-password").await;

    // A password that the policy refuses leaves the link good.
    let weak = auth(&app, "reset-password", json!({ "token": link, "newPassword": "weak" })).await;
    assert_eq!((weak.status, weak.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"));
    let done = reset(&app, &link).await;
    assert_eq!((done.status, &done.json["data"]["sessionsEnded"]), (StatusCode::OK, &json!(1)), "{}", done.json);
    assert_eq!(login(&app, ADA, PASSWORD).await.code(), "INVALID_CREDENTIALS");
    let user = login(&app, ADA, NEW_PASSWORD).await;
    assert_eq!(user.json["data"]["user"]["emailVerified"], true, "{}", user.json);
    let me = app.get("/api/v1/auth/me").bearer(session["accessToken"].as_str().unwrap()).send().await;
    assert_eq!(me.status, StatusCode::UNAUTHORIZED);

    assert_eq!(reset(&app, &link).await.code(), "INVALID_LINK", "good once");
    assert_eq!(kinds(&app, ADA).await, ["welcome", "reset-password", "password-changed"]);
    assert_eq!((audited(&app, "FORGOT_PASSWORD").await, audited(&app, "RESET_PASSWORD").await), (1, 1));
}

#[tokio::test]
async fn a_link_ends_with_its_hour_with_the_next_one_and_with_what_it_is_for() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    forgot(&app, ADA).await;
    let first = token(&app, ADA, "reset-password").await;
    forgot(&app, ADA).await;
    let second = token(&app, ADA, "reset-password").await;
    assert_ne!(first, second);
    assert_eq!(reset(&app, &first).await.code(), "INVALID_LINK", "replaced");
    for other in ["verify-email", "email/confirm", "unlock"] {
        assert_eq!(auth(&app, other, json!({ "token": second })).await.code(), "INVALID_LINK", "{other}");
    }
    app.clock.advance(seconds(3600));
    assert_eq!(reset(&app, &second).await.code(), "INVALID_LINK", "expired");
    for forged in ["x", &"A".repeat(43), "' OR 1=1 --", "\u{0}"] {
        assert_eq!(reset(&app, forged).await.status, StatusCode::BAD_REQUEST, "{forged}");
    }
    assert_eq!(login(&app, ADA, PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_two_who_present_a_link_at_once_one_gets_in() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    forgot(&app, ADA).await;
    let link = token(&app, ADA, "reset-password").await;
    let answers = futures::future::join_all((0..4).map(|_| reset(&app, &link))).await;
    let good = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!(good, 1, "{answers:?}");
}

#[tokio::test]
async fn a_link_that_is_used_while_its_account_is_changed_waits_and_holds_nobody_up() {
    let app = wants_verified().await;
    for (purpose, path) in [("reset-password", "reset-password"), ("verify-email", "verify-email")] {
        let email = format!("{purpose}@acme.test");
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        assert_eq!(auth(&app, "register", body).await.status, StatusCode::CREATED);
        if purpose == "reset-password" {
            forgot(&app, &email).await;
        }
        let link = token(&app, &email, purpose).await;
        let body = json!({ "token": link, "password": NEW_PASSWORD });
        // As a change of address or a deletion does: the account first, then whatever was mailed.
        let mut held = app.hold(&format!("UPDATE auth.users SET name = 'Grace' WHERE email = '{email}'")).await;
        let answer = app
            .beside(auth(&app, path, body), async || {
                sqlx::query("DELETE FROM auth.mailed_tokens").execute(held.conn()).await.unwrap();
                held.commit().await.unwrap();
            })
            .await;
        assert!(answer.status.is_client_error(), "{path}: {} {}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn an_address_without_an_account_gets_the_same_answer_and_no_mail() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    let mut answers = vec![];
    for route in ["forgot-password", "resend-verification"] {
        for email in [ADA, "nobody@acme.test"] {
            let mut answer = auth(&app, route, json!({ "email": email })).await;
            assert_eq!(answer.status, StatusCode::OK);
            answer.json["meta"] = Value::Null;
            answers.push(answer.json);
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let queued: i64 = sqlx::query_scalar("SELECT count(*) FROM mail.outbox WHERE recipient = 'nobody@acme.test'")
        .fetch_one(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(queued, 2, "the same work for both");
    assert!(kinds(&app, "nobody@acme.test").await.is_empty(), "and then nothing is sent");
}

#[tokio::test]
async fn mails_to_an_address_are_asked_for_ever_more_slowly_and_sign_in_goes_on() {
    // Without Redis, which counts by its own clock.
    let app = TestApp::new().await.without_redis();
    app.serve(&app.tenant("acme"));
    app.register(ADA).await;
    for email in [ADA, "nobody@acme.test"] {
        for _ in 0..4 {
            assert_eq!(forgot(&app, email).await.status, StatusCode::OK);
        }
        let refused = forgot(&app, email).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS"), "{email}");
        assert_eq!(refused.header("retry-after"), "900", "one every quarter of an hour");
    }
    assert_eq!(login(&app, ADA, PASSWORD).await.status, StatusCode::OK, "passwords are counted apart");
    app.clock.advance(seconds(900));
    assert_eq!(forgot(&app, ADA).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_address_is_verified_before_the_first_sign_in_by_link_or_code() {
    let app = wants_verified().await;
    let registered = app.register(ADA).await;
    assert_eq!((&registered["verificationRequired"], registered["accessToken"].is_null()), (&json!(true), true));
    assert_eq!(login(&app, ADA, PASSWORD).await.code(), "EMAIL_NOT_VERIFIED");
    assert_eq!(kinds(&app, ADA).await, ["verify-email"]);

    let link = token(&app, ADA, "verify-email").await;
    let verified = auth(&app, "verify-email", json!({ "token": link })).await;
    assert_eq!(verified.json["data"]["emailVerified"], true, "{}", verified.json);
    assert_eq!(login(&app, ADA, PASSWORD).await.status, StatusCode::OK);
    assert_eq!(auth(&app, "verify-email", json!({ "token": link })).await.code(), "INVALID_LINK");
    assert_eq!(kinds(&app, ADA).await, ["verify-email", "welcome"]);

    app.register("bob@acme.test").await;
    let code = code(&app, "bob@acme.test").await;
    let verified = auth(&app, "verify-email", json!({ "email": "Bob@acme.test", "code": code })).await;
    assert_eq!(verified.status, StatusCode::OK, "{}", verified.json);
    assert_eq!(login(&app, "bob@acme.test", PASSWORD).await.status, StatusCode::OK);
}

async fn code(app: &TestApp, email: &str) -> String {
    let found = letters(app).await.into_iter().rev().find_map(|(to, letter)| match letter {
        Letter::VerifyEmail { code, .. } if to == email => Some(code.expose().to_owned()),
        _ => None,
    });
    found.unwrap()
}

#[tokio::test]
async fn a_code_is_tried_a_few_times_only_and_a_new_one_replaces_it() {
    let app = wants_verified().await;
    app.register(ADA).await;
    let first = code(&app, ADA).await;
    let wrong = if first == "000000" { "000001" } else { "000000" };
    let attempt =
        async |email: &str, code: &str| auth(&app, "verify-email", json!({ "email": email, "code": code })).await;
    let (known, unknown) = (attempt(ADA, wrong).await, attempt("nobody@acme.test", wrong).await);
    assert_eq!((known.code(), unknown.code()), ("INVALID_CODE", "INVALID_CODE"));
    for _ in 0..4 {
        app.clock.advance(seconds(4000));
        assert_eq!(attempt(ADA, wrong).await.code(), "INVALID_CODE");
    }
    app.clock.advance(seconds(4000));
    assert_eq!(attempt(ADA, &first).await.code(), "INVALID_CODE", "void after five wrong ones");

    auth(&app, "resend-verification", json!({ "email": ADA })).await;
    let second = code(&app, ADA).await;
    app.clock.advance(seconds(4000));
    assert_eq!(attempt(ADA, &second).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_address_changes_when_both_have_said_yes() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let bearer = session["accessToken"].as_str().unwrap();
    let change = async |password: &str, email: &str| {
        let body = json!({ "email": email, "currentPassword": password });
        app.request(http::Method::PUT, "/api/v1/auth/email").json(&body).bearer(bearer).send().await
    };
    assert_eq!(change("Wrong-Horse-7", "ada@new.test").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(change(PASSWORD, ADA).await.code(), "VALIDATION_ERROR");
    forgot(&app, ADA).await;
    let old_link = token(&app, ADA, "reset-password").await;
    let begun = change(PASSWORD, "Ada@New.test").await;
    assert_eq!(begun.json["data"]["pendingEmail"], "ada@new.test", "{}", begun.json);

    let (old, new) = (token(&app, ADA, "leave-address").await, token(&app, "ada@new.test", "take-address").await);
    for _ in 0..2 {
        let half = auth(&app, "email/confirm", json!({ "token": new })).await;
        assert_eq!(half.json["data"], json!({ "changed": false, "email": ADA }), "one yes, however often, is one");
    }
    assert_eq!(login(&app, "ada@new.test", PASSWORD).await.code(), "INVALID_CREDENTIALS");
    let whole = auth(&app, "email/confirm", json!({ "token": old })).await;
    assert_eq!(whole.json["data"], json!({ "changed": true, "email": "ada@new.test" }), "{}", whole.json);

    let me = app.get("/api/v1/auth/me").bearer(bearer).send().await;
    assert_eq!((&me.json["data"]["email"], &me.json["data"]["emailVerified"]), (&json!("ada@new.test"), &json!(true)));
    assert_eq!(login(&app, "ada@new.test", PASSWORD).await.status, StatusCode::OK);
    assert_eq!(login(&app, ADA, PASSWORD).await.code(), "INVALID_CREDENTIALS");
    assert_eq!(auth(&app, "email/confirm", json!({ "token": old })).await.code(), "INVALID_LINK");
    assert_eq!(reset(&app, &old_link).await.code(), "INVALID_LINK", "what was mailed to the old address is void");
    assert_eq!(kinds(&app, ADA).await.last(), Some(&"email-changed"));
    assert_eq!(kinds(&app, "ada@new.test").await, ["take-address", "email-changed"]);
}

#[tokio::test]
async fn two_who_say_yes_at_once_change_the_address_once() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let body = json!({ "email": "ada@new.test", "currentPassword": PASSWORD });
    let bearer = session["accessToken"].as_str().unwrap();
    app.request(http::Method::PUT, "/api/v1/auth/email").json(&body).bearer(bearer).send().await;
    let links = [token(&app, ADA, "leave-address").await, token(&app, "ada@new.test", "take-address").await];
    let answers =
        futures::future::join_all(links.iter().map(|link| auth(&app, "email/confirm", json!({ "token": link })))).await;
    let changed: Vec<_> = answers.iter().map(|answer| answer.json["data"]["changed"].clone()).collect();
    assert!(changed.contains(&json!(true)) && changed.contains(&json!(false)), "{answers:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_meanwhile_is_not_taken_over() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    // That there is such an account is not told to who asks, only to who has its mailbox.
    app.register("bob@acme.test").await;
    let body = json!({ "email": "bob@acme.test", "currentPassword": PASSWORD });
    let bearer = session["accessToken"].as_str().unwrap();
    let begun = app.request(http::Method::PUT, "/api/v1/auth/email").json(&body).bearer(bearer).send().await;
    assert_eq!(begun.status, StatusCode::OK);
    let (old, new) = (token(&app, ADA, "leave-address").await, token(&app, "bob@acme.test", "take-address").await);
    auth(&app, "email/confirm", json!({ "token": old })).await;
    let taken = auth(&app, "email/confirm", json!({ "token": new })).await;
    assert_eq!((taken.status, taken.code()), (StatusCode::CONFLICT, "EMAIL_TAKEN"), "{}", taken.json);
    assert_eq!(login(&app, ADA, PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_account_that_makes_everybody_wait_is_opened_by_its_owners_link() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    for email in [ADA, "nobody@acme.test"] {
        for _ in 0..5 {
            assert_eq!(login(&app, email, "Wrong-Horse-7").await.code(), "INVALID_CREDENTIALS");
        }
    }
    assert_eq!(login(&app, ADA, PASSWORD).await.code(), "TOO_MANY_ATTEMPTS");
    assert_eq!(kinds(&app, ADA).await, ["welcome", "account-locked"], "one mail, however often it is tried");
    assert!(kinds(&app, "nobody@acme.test").await.is_empty());
    let link = token(&app, ADA, "account-locked").await;
    assert_eq!(auth(&app, "unlock", json!({ "token": link })).await.status, StatusCode::OK);
    assert_eq!(login(&app, ADA, PASSWORD).await.status, StatusCode::OK);
    assert_eq!(auth(&app, "unlock", json!({ "token": link })).await.code(), "INVALID_LINK");
}

#[tokio::test]
async fn what_concerns_safety_is_told_to_the_owner() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let sign_in = async |agent: &str| {
        let body = json!({ "email": ADA, "password": PASSWORD });
        app.post("/api/v1/auth/login", &body).header("user-agent", agent).send().await
    };
    sign_in("Mozilla/5.0 (X11; Linux) Firefox/140.0").await;
    sign_in("Mozilla/5.0 (X11; Linux) Firefox/141.0").await;
    assert_eq!(kinds(&app, ADA).await, ["welcome", "new-sign-in"], "a new version is no new device");

    let refresh = json!({ "refreshToken": session["refreshToken"] });
    assert_eq!(auth(&app, "refresh", refresh.clone()).await.status, StatusCode::OK);
    app.clock.advance(seconds(11));
    for _ in 0..2 {
        assert_eq!(auth(&app, "refresh", refresh.clone()).await.status, StatusCode::UNAUTHORIZED);
    }
    let again = sign_in("Mozilla/5.0 (X11; Linux) Firefox/141.0").await;
    let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW_PASSWORD });
    let bearer = again.json["data"]["accessToken"].as_str().unwrap();
    let changed = app.request(http::Method::PUT, "/api/v1/auth/password").json(&body).bearer(bearer).send().await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(kinds(&app, ADA).await, ["welcome", "new-sign-in", "token-reused", "password-changed"]);
}

#[tokio::test]
async fn an_administrator_who_changes_an_address_tells_both_and_makes_old_links_void() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register(ADA).await;
    forgot(&app, ADA).await;
    let link = token(&app, ADA, "reset-password").await;
    let path = format!("/api/v1/admin/users/{}", ada["user"]["id"].as_str().unwrap());
    let body = json!({ "email": "ada@new.test" });
    let changed = app.request(http::Method::PUT, &path).json(&body).bearer(&admin).send().await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.json);
    assert_eq!(reset(&app, &link).await.code(), "INVALID_LINK");
    assert_eq!(kinds(&app, ADA).await.last(), Some(&"email-changed"));
    assert_eq!(kinds(&app, "ada@new.test").await, ["email-changed"]);
}

#[tokio::test]
async fn nothing_that_opens_an_account_can_be_read_in_the_database() {
    let app = wants_verified().await;
    app.register(ADA).await;
    let (link, code) = (token(&app, ADA, "verify-email").await, code(&app, ADA).await);
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let all: String = sqlx::query_scalar(
        "SELECT (SELECT string_agg(o::text, ' ') FROM mail.outbox o) || (SELECT string_agg(t::text, ' ') FROM auth.mailed_tokens t)
             || (SELECT string_agg(a::text, ' ') FROM admin.audit_logs a)",
    )
    .fetch_one(tx.conn())
    .await
    .unwrap();
    // A row as text has digits enough to hold any six by chance: the code is looked for as a field.
    assert!(!all.contains(&link) && !all.contains(&format!(",{code},")), "{all}");
    assert!(all.contains(ADA));
}

#[tokio::test]
async fn nothing_is_left_of_a_deleted_users_mails() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    forgot(&app, ADA).await;
    token(&app, ADA, "reset-password").await;
    let path = format!("/api/v1/users/{}", session["user"]["id"].as_str().unwrap());
    let bearer = session["accessToken"].as_str().unwrap();
    let deleted = app.request(http::Method::DELETE, &path).bearer(bearer).send().await;
    assert_eq!(deleted.status, StatusCode::OK);
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let left: i64 =
        sqlx::query_scalar("SELECT (SELECT count(*) FROM mail.outbox) + (SELECT count(*) FROM auth.mailed_tokens)")
            .fetch_one(tx.conn())
            .await
            .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn without_a_mail_server_what_needs_one_says_so_and_the_rest_goes_on() {
    let world = TestApp::new().await;
    assert!(mail_settings(&["--mail-from", ""]).smtp_host.is_none());
    let app = world.with_flags(&["--mail-from", ""]);
    app.serve(&app.tenant("acme"));
    let session = app.register(ADA).await;
    for route in ["forgot-password", "resend-verification"] {
        for email in [ADA, "nobody@acme.test"] {
            let answer = auth(&app, route, json!({ "email": email })).await;
            assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, "MAIL_NOT_CONFIGURED"), "{route}");
        }
    }
    let body = json!({ "email": "ada@new.test", "currentPassword": PASSWORD });
    let bearer = session["accessToken"].as_str().unwrap();
    let change = app.request(http::Method::PUT, "/api/v1/auth/email").json(&body).bearer(bearer).send().await;
    assert_eq!(change.code(), "MAIL_NOT_CONFIGURED");

    let mut acme = app.tenant("acme");
    acme.auth.email_verification = EmailVerification::Required;
    app.serve(&acme);
    let body = json!({ "email": "bob@acme.test", "password": PASSWORD, "name": "Bob" });
    let register = auth(&app, "register", body).await;
    assert_eq!((register.status, register.code()), (StatusCode::CONFLICT, "MAIL_NOT_CONFIGURED"));
    let mut tx = app.app.db.begin(acme.id).await.unwrap();
    let queued: i64 = sqlx::query_scalar("SELECT count(*) FROM mail.outbox").fetch_one(tx.conn()).await.unwrap();
    assert_eq!(queued, 0, "nothing piles up");
}

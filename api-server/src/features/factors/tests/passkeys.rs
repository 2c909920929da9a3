use contract::auth::Mfa;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ADA, authenticator::Authenticator, claims, code, enrolled, login, text, with_policy};
use crate::testing::{Answer, TestApp, seconds};

const ME: &str = "/api/v1/auth/me";

async fn options(app: &TestApp, path: &str, token: Option<&str>, body: &Value) -> Value {
    let mut call = app.post(path, body);
    if let Some(token) = token {
        call = call.bearer(token);
    }
    let answer = call.send().await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.json);
    answer.json["data"].clone()
}

/// Makes a passkey for who holds `token`.
async fn register(app: &TestApp, token: &str, authenticator: &mut Authenticator) -> Answer {
    let begun = options(app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await;
    let credential = authenticator.create(&begun["options"]);
    let body = json!({ "ceremony": begun["ceremony"], "credential": credential, "name": "Phone" });
    app.post("/api/v1/auth/passkeys", &body).bearer(token).send().await
}

async fn login_options(app: &TestApp) -> Value {
    options(app, "/api/v1/auth/passkeys/login/options", None, &json!({})).await
}

async fn sign_in(app: &TestApp, authenticator: &mut Authenticator) -> Answer {
    let begun = login_options(app).await;
    finish(app, &begun["ceremony"], &authenticator.get(&begun["options"])).await
}

async fn finish(app: &TestApp, ceremony: &Value, credential: &Value) -> Answer {
    app.post("/api/v1/auth/passkeys/login", &json!({ "ceremony": ceremony, "credential": credential })).send().await
}

/// Ada with a passkey.
async fn with_passkey(app: &TestApp) -> (String, Authenticator) {
    let session = app.register(ADA).await;
    let token = text(&session, "accessToken").to_owned();
    let mut authenticator = Authenticator { counter: 1, ..Authenticator::new() };
    let made = register(app, &token, &mut authenticator).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json);
    authenticator.counter += 1;
    (token, authenticator)
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
async fn a_passkey_is_made_listed_renamed_used_and_deleted() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let token = text(&session, "accessToken");
    let begun = options(&app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await;
    let wanted = &begun["options"]["publicKey"];
    assert_eq!((&wanted["rp"]["id"], &wanted["user"]["name"]), (&json!("acme.test"), &json!(ADA)));
    assert_eq!(wanted["authenticatorSelection"]["residentKey"], "preferred");
    assert_eq!(wanted["authenticatorSelection"]["userVerification"], "required");
    assert_eq!((&wanted["attestation"], &begun["expiresIn"]), (&json!("none"), &json!(300)));

    let mut phone = Authenticator::new();
    let made = register(&app, token, &mut phone).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json);
    assert_eq!(made.json["data"]["recoveryCodes"].as_array().unwrap().len(), 10);
    let passkey = &made.json["data"]["passkey"];
    assert_eq!((&passkey["name"], &passkey["rpId"]), (&json!("Phone"), &json!("acme.test")));
    let path = format!("/api/v1/auth/passkeys/{}", text(passkey, "id"));
    let renamed = app.request(Method::PUT, &path).json(&json!({ "name": " Ada's phone " })).bearer(token).send().await;
    assert_eq!(renamed.json["data"]["name"], "Ada's phone");
    let nameless = app.request(Method::PUT, &path).json(&json!({ "name": " " })).bearer(token).send().await;
    assert_eq!(nameless.json["error"]["details"][0]["field"], "name");

    // It signs in without an address, surely enough for everything, with a counter that stays at 0.
    for _ in 0..2 {
        let done = sign_in(&app, &mut phone).await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.json);
        let said = claims(text(&done.json["data"], "accessToken"));
        assert_eq!((&said["email"], &said["aal"], &said["amr"]), (&json!(ADA), &json!("aal2"), &json!(["hwk", "mfa"])));
    }
    let list = app.get("/api/v1/auth/passkeys").bearer(token).send().await;
    assert_eq!(list.json["data"].as_array().unwrap().len(), 1);
    assert!(list.json["data"][0]["lastUsedAt"].is_string() && !list.text.contains("credential"), "{}", list.text);

    let bob = app.register("bob@acme.test").await;
    let bob = text(&bob, "accessToken");
    assert_eq!(app.request(Method::DELETE, &path).bearer(bob).send().await.status, StatusCode::NOT_FOUND);
    let gone = app.request(Method::DELETE, &path).bearer(token).send().await;
    assert_eq!((gone.status, &gone.json["data"]["sessionsEnded"]), (StatusCode::OK, &json!(2)), "{}", gone.json);
    assert_eq!(sign_in(&app, &mut phone).await.code(), "INVALID_PASSKEY");
    assert!(login(&app).await.json["data"]["accessToken"].is_string());
}

#[tokio::test]
async fn a_passkey_is_a_second_factor_too() {
    let app = TestApp::new().await;
    let (_, mut phone) = with_passkey(&app).await;
    let begun = login(&app).await.json["data"].clone();
    assert_eq!((&begun["mfaRequired"], &begun["methods"]), (&json!(true), &json!(["passkey", "recoveryCode"])));
    let waiting = json!({ "mfaToken": begun["mfaToken"] });
    let asked = options(&app, "/api/v1/auth/2fa/passkey/options", None, &waiting).await;
    assert_eq!(asked["options"]["publicKey"]["allowCredentials"].as_array().unwrap().len(), 1);
    let answer = json!({ "ceremony": asked["ceremony"], "credential": phone.get(&asked["options"]) });
    let body = json!({ "mfaToken": begun["mfaToken"], "passkey": answer });
    let done = app.post("/api/v1/auth/2fa/verify", &body).send().await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.json);
    assert_eq!(claims(text(&done.json["data"], "accessToken"))["amr"], json!(["pwd", "hwk", "mfa"]));

    // The ceremony is used up, and so is the login.
    let second = login(&app).await.json["data"]["mfaToken"].clone();
    let body = json!({ "mfaToken": second, "passkey": answer });
    assert_eq!(app.post("/api/v1/auth/2fa/verify", &body).send().await.code(), "INVALID_MFA_CODE");
    let nobody = app.post("/api/v1/auth/2fa/passkey/options", &waiting).send().await;
    assert_eq!((nobody.status, nobody.code()), (StatusCode::UNAUTHORIZED, "INVALID_MFA_TOKEN"));
}

#[tokio::test]
async fn another_users_passkey_is_no_second_factor_of_ones_own() {
    let app = TestApp::new().await;
    let (_, phone) = with_passkey(&app).await;
    let bob = app.register("bob@acme.test").await;
    let mut bobs = Authenticator { counter: 1, ..Authenticator::new() };
    assert_eq!(register(&app, text(&bob, "accessToken"), &mut bobs).await.status, StatusCode::CREATED);
    bobs.counter += 1;
    let begun = login(&app).await.json["data"]["mfaToken"].clone();
    let asked = options(&app, "/api/v1/auth/2fa/passkey/options", None, &json!({ "mfaToken": begun })).await;
    let answer = json!({ "ceremony": asked["ceremony"], "credential": bobs.get(&asked["options"]) });
    let refused = app.post("/api/v1/auth/2fa/verify", &json!({ "mfaToken": begun, "passkey": answer })).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_MFA_CODE"));
    // Nor does it sign in as Ada when it names her.
    let (ada, bob) = (phone.user_handle.clone(), bobs.user_handle.clone());
    bobs.user_handle = ada;
    assert_eq!(sign_in(&app, &mut bobs).await.code(), "INVALID_PASSKEY");
    bobs.user_handle = bob;
    assert_eq!(sign_in(&app, &mut bobs).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_passkey_proves_again_who_one_is() {
    let app = TestApp::new().await;
    let (_, mut phone) = with_passkey(&app).await;
    let session = sign_in(&app, &mut phone).await.json["data"].clone();
    app.clock.advance(seconds(700));
    phone.counter += 1;
    let renew = || app.post("/api/v1/auth/2fa/recovery-codes", &json!({})).bearer(text(&session, "accessToken")).send();
    assert_eq!(renew().await.code(), "STEP_UP_REQUIRED");
    let token = text(&session, "accessToken");
    let asked = options(&app, "/api/v1/auth/step-up/options", Some(token), &json!({})).await;
    let answer = json!({ "passkey": { "ceremony": asked["ceremony"], "credential": phone.get(&asked["options"]) } });
    let step_up = || app.post("/api/v1/auth/step-up", &answer).bearer(token).send();
    assert_eq!(step_up().await.status, StatusCode::OK);
    assert_eq!(renew().await.status, StatusCode::OK);
    assert_eq!(step_up().await.status, StatusCode::BAD_REQUEST, "the ceremony is used up");
}

#[tokio::test]
async fn what_is_not_right_about_a_new_passkey_is_refused() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let token = text(&session, "accessToken");
    let good = Authenticator::new();
    for (what, mut bad) in [
        ("another origin", Authenticator { origin: "https://acme.test.evil.example".into(), ..good.clone() }),
        ("plain http", Authenticator { origin: "http://acme.test".into(), ..good.clone() }),
        ("a sub-domain", Authenticator { origin: "https://sub.acme.test".into(), ..good.clone() }),
        ("another host", Authenticator { rp_id: Some("evil.example".into()), ..good.clone() }),
        ("no finger, no PIN", Authenticator { verified: false, ..good.clone() }),
    ] {
        let refused = register(&app, token, &mut bad).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"), "{what}");
        assert_eq!(refused.json["error"]["details"][0]["field"], "credential", "{what}");
    }
    // The challenge of another ceremony.
    let (one, two) = (
        options(&app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await,
        options(&app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await,
    );
    let keep = async |ceremony: &Value, credential: &Value| {
        let body = json!({ "ceremony": ceremony, "credential": credential });
        app.post("/api/v1/auth/passkeys", &body).bearer(token).send().await
    };
    let credential = good.clone().create(&one["options"]);
    assert_eq!(keep(&two["ceremony"], &credential).await.status, StatusCode::BAD_REQUEST);
    // A ceremony is used up by a wrong answer as well, and by a right one.
    assert_eq!(keep(&two["ceremony"], &good.clone().create(&two["options"])).await.code(), "INVALID_CEREMONY");
    assert_eq!(keep(&one["ceremony"], &credential).await.status, StatusCode::CREATED);
    assert_eq!(keep(&one["ceremony"], &credential).await.code(), "INVALID_CEREMONY");
    // The same authenticator's key again.
    let again = options(&app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await;
    assert_eq!(again["options"]["publicKey"]["excludeCredentials"].as_array().unwrap().len(), 1);
    assert_ne!(keep(&again["ceremony"], &good.clone().create(&again["options"])).await.status, StatusCode::CREATED);
    // Somebody else's ceremony, and one whose time is over.
    let bob = app.register("bob@acme.test").await;
    let bobs = options(&app, "/api/v1/auth/passkeys/options", Some(text(&bob, "accessToken")), &json!({})).await;
    let stolen = keep(&bobs["ceremony"], &Authenticator::new().create(&bobs["options"])).await;
    assert_eq!((stolen.status, stolen.code()), (StatusCode::UNAUTHORIZED, "INVALID_CEREMONY"));
    let late = options(&app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await;
    app.clock.advance(seconds(300));
    let late = keep(&late["ceremony"], &Authenticator::new().create(&late["options"])).await;
    assert_eq!(late.code(), "INVALID_CEREMONY");
    for malformed in
        [json!(null), json!({}), json!({ "id": 1 }), json!({ "id": "x", "rawId": "%%", "response": {}, "type": "x" })]
    {
        let begun = options(&app, "/api/v1/auth/passkeys/options", Some(token), &json!({})).await;
        let refused = keep(&begun["ceremony"], &malformed).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"), "{malformed}");
    }
}

#[tokio::test]
async fn what_is_not_right_about_a_login_is_refused() {
    let app = TestApp::new().await;
    let (_, phone) = with_passkey(&app).await;
    let stranger = Authenticator {
        id: phone.id.clone(),
        user_handle: phone.user_handle.clone(),
        counter: 9,
        ..Authenticator::new()
    };
    for (what, mut bad) in [
        ("another origin", Authenticator { origin: "https://evil.example".into(), ..phone.clone() }),
        ("another host", Authenticator { rp_id: Some("evil.example".into()), ..phone.clone() }),
        ("no finger, no PIN", Authenticator { verified: false, ..phone.clone() }),
        ("another key", stranger),
        ("unknown", Authenticator { user_handle: phone.user_handle.clone(), ..Authenticator::new() }),
        ("of nobody", Authenticator { user_handle: vec![7; 16], ..phone.clone() }),
        ("no user at all", Authenticator { user_handle: vec![], ..phone.clone() }),
        ("suddenly synchronised", Authenticator { synchronised: true, ..phone.clone() }),
    ] {
        let refused = sign_in(&app, &mut bad).await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::UNAUTHORIZED, "INVALID_PASSKEY"),
            "{what}: {}",
            refused.json
        );
    }
    let mut phone = phone;
    let (one, two) = (login_options(&app).await, login_options(&app).await);
    let answer = phone.get(&one["options"]);
    assert_eq!(finish(&app, &two["ceremony"], &answer).await.code(), "INVALID_PASSKEY", "another challenge");
    let mut turned = answer.clone();
    turned["response"]["signature"] = json!(super::authenticator::pack(&[0x30, 6, 2, 1, 1, 2, 1, 1]));
    let spoiled = login_options(&app).await;
    assert_eq!(finish(&app, &spoiled["ceremony"], &turned).await.code(), "INVALID_PASSKEY", "another signature");
    assert_eq!(finish(&app, &one["ceremony"], &answer).await.status, StatusCode::OK);
    assert_eq!(finish(&app, &one["ceremony"], &answer).await.code(), "INVALID_CEREMONY", "replayed");
    let late = login_options(&app).await;
    app.clock.advance(seconds(300));
    phone.counter += 1;
    assert_eq!(finish(&app, &late["ceremony"], &phone.get(&late["options"])).await.code(), "INVALID_CEREMONY", "late");
    assert_eq!(audited(&app, "PASSKEY_CLONED").await, 0);
}

#[tokio::test]
async fn a_replayed_answer_lets_one_of_two_replicas_in() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    let (_, mut phone) = with_passkey(&app).await;
    let begun = login_options(&app).await;
    let answer = phone.get(&begun["options"]);
    let (here, there) =
        tokio::join!(finish(&app, &begun["ceremony"], &answer), finish(&other, &begun["ceremony"], &answer));
    assert_eq!(here.status.as_u16() + there.status.as_u16(), 200 + 401, "{} {}", here.json, there.json);
}

#[tokio::test]
async fn a_copy_of_an_authenticator_is_refused_and_told() {
    let app = TestApp::new().await;
    let (_, mut phone) = with_passkey(&app).await;
    let mut copy = phone.clone();
    phone.counter = 20;
    assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::OK);
    for counter in [19, 20, 0] {
        copy.counter = counter;
        let refused = sign_in(&app, &mut copy).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_PASSKEY"), "{counter}");
    }
    assert_eq!(audited(&app, "PASSKEY_CLONED").await, 3);
    // As a second factor too, where the counter went on after the ceremony had begun.
    let begun = login(&app).await.json["data"]["mfaToken"].clone();
    let asked = options(&app, "/api/v1/auth/2fa/passkey/options", None, &json!({ "mfaToken": begun })).await;
    phone.counter = 30;
    assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::OK);
    copy.counter = 25;
    let answer = json!({ "ceremony": asked["ceremony"], "credential": copy.get(&asked["options"]) });
    let refused = app.post("/api/v1/auth/2fa/verify", &json!({ "mfaToken": begun, "passkey": answer })).send().await;
    assert_eq!(refused.code(), "INVALID_MFA_CODE");
    assert_eq!(audited(&app, "PASSKEY_CLONED").await, 4);
    phone.counter = 31;
    assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::OK, "the owner goes on");
}

#[tokio::test]
async fn a_passkey_of_one_tenant_opens_nothing_at_another() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("other"));
    let (_, mut phone) = with_passkey(&app).await;
    app.register_at("other.test", ADA).await;
    let path = "/api/v1/auth/passkeys/login/options";
    let theirs = app.post(path, &json!({})).host("other.test").send().await.json["data"].clone();
    phone.origin = "https://other.test".into();
    let body = json!({ "ceremony": theirs["ceremony"], "credential": phone.get(&theirs["options"]) });
    let refused = app.post("/api/v1/auth/passkeys/login", &body).host("other.test").send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "INVALID_PASSKEY"));
    // Nor is a ceremony of one finished at the other.
    phone.origin = "https://acme.test".into();
    let ours = login_options(&app).await;
    let body = json!({ "ceremony": ours["ceremony"], "credential": phone.get(&ours["options"]) });
    let elsewhere = app.post("/api/v1/auth/passkeys/login", &body).host("other.test").send().await;
    assert_eq!(elsewhere.code(), "INVALID_CEREMONY");
    assert_eq!(app.post("/api/v1/auth/passkeys/login", &body).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_frontend_on_another_host_is_named_and_may_use_the_passkeys() {
    let app = TestApp::new().await;
    let mut acme = app.tenant("acme");
    acme.cors.allowed_origins = vec!["https://app.acme.example".into(), "http://localhost:3000".into()];
    acme.branding.frontend_url = Some("https://www.acme.example/start?x=1".into());
    app.serve(&acme);
    let named = app.get("/.well-known/webauthn").send().await;
    assert_eq!(
        named.json,
        json!({ "origins": ["https://acme.test", "https://www.acme.example", "http://localhost:3000", "https://app.acme.example"] })
    );
    let (_, mut phone) = with_passkey(&app).await;
    for origin in ["https://app.acme.example", "https://www.acme.example", "http://localhost:3000"] {
        phone.origin = origin.into();
        assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::OK, "{origin}");
        phone.counter += 1;
    }
    for origin in ["https://app.acme.example:8443", "http://app.acme.example", "https://acme.example"] {
        phone.origin = origin.into();
        assert_eq!(sign_in(&app, &mut phone).await.code(), "INVALID_PASSKEY", "{origin}");
    }
}

#[tokio::test]
async fn a_passkey_is_of_the_host_that_was_asked_and_stays_so_when_others_come() {
    let app = TestApp::new().await;
    let (_, mut phone) = with_passkey(&app).await;
    let mut acme = app.tenant("acme");
    acme.hostnames.insert(0, contract::Hostname::new("a.acme.test").unwrap());
    app.serve(&acme);
    assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::OK);
    let path = "/api/v1/auth/passkeys/login/options";
    let there = app.post(path, &json!({})).host("a.acme.test").send().await.json["data"].clone();
    assert_eq!(there["options"]["publicKey"]["rpId"], "a.acme.test");
}

#[tokio::test]
async fn who_must_set_a_factor_up_can_take_a_passkey() {
    let app = TestApp::new().await;
    app.register(ADA).await;
    with_policy(&app, Mfa::Required);
    let limited = login(&app).await.json["data"].clone();
    let mut phone = Authenticator { synchronised: true, ..Authenticator::new() };
    let made = register(&app, text(&limited, "accessToken"), &mut phone).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json);
    let token = text(&made.json["data"]["session"], "accessToken");
    assert_eq!(claims(token)["amr"], json!(["pwd", "swk", "mfa"]));
    assert_eq!(app.get(ME).bearer(token).send().await.status, StatusCode::OK);
    let path = format!("/api/v1/auth/passkeys/{}", text(&made.json["data"]["passkey"], "id"));
    let refused = app.request(Method::DELETE, &path).bearer(token).send().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "MFA_DEMANDED"));
    assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::OK, "it is still there");
}

#[tokio::test]
async fn a_second_factor_more_ends_no_session_and_brings_no_new_recovery_codes() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let mut phone = Authenticator::new();
    let made = register(&app, &ada.token, &mut phone).await;
    assert_eq!((made.status, &made.json["data"]["sessionsEnded"]), (StatusCode::CREATED, &json!(0)), "{}", made.json);
    assert_eq!(made.json["data"].get("recoveryCodes"), None);
    let methods = login(&app).await.json["data"]["methods"].clone();
    assert_eq!(methods, json!(["totp", "passkey", "recoveryCode"]));
    let body = json!({ "password": crate::testing::PASSWORD, "code": code(&app, &ada.secret, 0) });
    let gone = app.post("/api/v1/auth/2fa/disable", &body).bearer(&ada.token).send().await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.json);
    assert_eq!(login(&app).await.json["data"]["methods"], json!(["passkey", "recoveryCode"]));
}

#[tokio::test]
async fn a_banned_owner_is_not_let_in_by_a_passkey() {
    let app = TestApp::new().await;
    let (token, mut phone) = with_passkey(&app).await;
    let me = app.get(ME).bearer(&token).send().await.json["data"]["id"].as_str().unwrap().to_owned();
    let admin = app.admin().await;
    let path = format!("/api/v1/admin/users/{me}");
    app.request(Method::PUT, &path).json(&json!({ "isActive": false })).bearer(&admin).send().await;
    assert_eq!(sign_in(&app, &mut phone).await.status, StatusCode::UNAUTHORIZED);
}

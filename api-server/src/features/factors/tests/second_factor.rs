use http::{Method, StatusCode};
use serde_json::json;

use super::{ADA, begin, claims, code, enrol, enrolled, login, text, verify, wrong_code};
use crate::testing::{PASSWORD, TestApp, seconds};

const ME: &str = "/api/v1/auth/me";

#[tokio::test]
async fn an_app_is_set_up_activated_and_then_asked_for() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let token = text(&session, "accessToken");
    assert_eq!((&claims(token)["aal"], &claims(token)["amr"]), (&json!("aal1"), &json!(["pwd"])));
    let setup = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await;
    let data = &setup.json["data"];
    assert!(text(data, "otpauthUrl").starts_with("otpauth://totp/acme:ada%40acme.test?secret="), "{data}");
    assert!(text(data, "qrCode").starts_with("data:image/png;base64,"));
    assert_eq!(setup.header("cache-control"), "no-store");

    // What is being set up is no factor yet.
    assert_eq!(login(&app).await.json["data"]["mfaRequired"], json!(null));
    let status = app.get("/api/v1/auth/2fa").bearer(token).send().await;
    assert_eq!((&status.json["data"]["enabled"], &status.json["data"]["policy"]), (&json!(false), &json!("Optional")));

    let secret = text(data, "secret");
    let activate =
        async |code: String| app.post("/api/v1/auth/2fa/activate", &json!({ "code": code })).bearer(token).send().await;
    let wrong = activate(wrong_code(&app, secret)).await;
    assert_eq!(
        (wrong.status, wrong.json["error"]["details"][0]["field"].as_str()),
        (StatusCode::BAD_REQUEST, Some("code"))
    );
    let active = activate(code(&app, secret, 0)).await;
    assert_eq!(active.status, StatusCode::OK, "{}", active.json);
    let codes = active.json["data"]["recoveryCodes"].as_array().unwrap();
    assert_eq!(codes.len(), 10);
    assert_eq!(active.json["data"]["sessionsEnded"], 1, "the login that was made without the factor");
    assert_eq!(activate(code(&app, secret, 1)).await.code(), "MFA_NOT_SET_UP");

    app.clock.advance(seconds(30));
    let begun = login(&app).await;
    assert_eq!(begun.status, StatusCode::OK);
    let data = &begun.json["data"];
    assert_eq!((&data["mfaRequired"], &data["methods"]), (&json!(true), &json!(["totp", "recoveryCode"])));
    assert_eq!(data["expiresIn"], 300);
    for absent in ["accessToken", "refreshToken", "token", "user"] {
        assert!(data.get(absent).is_none(), "{absent}: {data}");
    }
    let done = verify(&app, text(data, "mfaToken"), ("code", &code(&app, secret, 0))).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.json);
    let token = text(&done.json["data"], "accessToken");
    assert_eq!(app.get(ME).bearer(token).send().await.status, StatusCode::OK);
    let said = claims(token);
    assert_eq!(
        (&said["aal"], &said["acr"], &said["amr"]),
        (&json!("aal2"), &json!("aal2"), &json!(["pwd", "otp", "mfa"]))
    );
    assert_eq!(said["auth_time"], app.clock.now().as_second());

    // A session remembers it.
    let body = json!({ "refreshToken": done.json["data"]["refreshToken"] });
    let again = app.post("/api/v1/auth/refresh", &body).send().await;
    assert_eq!(claims(text(&again.json["data"], "accessToken"))["amr"], json!(["pwd", "otp", "mfa"]));
    let status = app.get("/api/v1/auth/2fa").bearer(token).send().await;
    assert_eq!(
        (&status.json["data"]["enabled"], &status.json["data"]["recoveryCodesLeft"]),
        (&json!(true), &json!(10))
    );
}

#[tokio::test]
async fn a_secret_that_was_not_activated_in_time_is_void() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let token = text(&session, "accessToken");
    let setup = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await;
    let secret = text(&setup.json["data"], "secret");
    app.clock.advance(seconds(9 * 60));
    let body = json!({ "password": PASSWORD });
    assert_eq!(app.post("/api/v1/auth/step-up", &body).bearer(token).send().await.status, StatusCode::OK);
    app.clock.advance(seconds(6 * 60));
    let late =
        app.post("/api/v1/auth/2fa/activate", &json!({ "code": code(&app, secret, 0) })).bearer(token).send().await;
    assert_eq!((late.status, late.code()), (StatusCode::CONFLICT, "MFA_NOT_SET_UP"));
}

#[tokio::test]
async fn a_new_app_being_set_up_opens_nothing_and_the_old_one_stays_until_then() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let setup = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(&ada.token).send().await;
    let new = text(&setup.json["data"], "secret").to_owned();
    let token = begin(&app).await;
    assert_eq!(verify(&app, &token, ("code", &code(&app, &new, 0))).await.code(), "INVALID_MFA_CODE");
    assert_eq!(verify(&app, &token, ("code", &code(&app, &ada.secret, 0))).await.status, StatusCode::OK);
    let body = json!({ "code": code(&app, &new, 0) });
    let active = app.post("/api/v1/auth/2fa/activate", &body).bearer(&ada.token).send().await;
    assert_eq!(active.status, StatusCode::OK, "{}", active.json);
    assert_eq!(active.json["data"].get("recoveryCodes"), None, "those of the first factor stay");
    app.clock.advance(seconds(60));
    let token = begin(&app).await;
    assert_eq!(verify(&app, &token, ("code", &code(&app, &ada.secret, 0))).await.code(), "INVALID_MFA_CODE");
    assert_eq!(verify(&app, &token, ("code", &code(&app, &new, 0))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_code_counts_once_also_on_two_replicas_at_the_same_time() {
    let app = TestApp::new().await;
    let other = app.replica();
    other.serve(&other.tenant("acme"));
    let ada = enrolled(&app).await;
    for round in 0..5 {
        app.clock.advance(seconds(30));
        let (one, two) = (begin(&app).await, begin(&app).await);
        let now = code(&app, &ada.secret, 0);
        let (here, there) = tokio::join!(verify(&app, &one, ("code", &now)), verify(&other, &two, ("code", &now)));
        let mut statuses = [here.status.as_u16(), there.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "round {round}: {} {}", here.json, there.json);
        let loser = if here.status == 401 { one } else { two };
        assert_eq!(verify(&app, &loser, ("code", &now)).await.code(), "INVALID_MFA_CODE");
        // Nor does an earlier one count any more, though its time is not over.
        let earlier = code(&app, &ada.secret, -1);
        assert_eq!(verify(&app, &loser, ("code", &earlier)).await.code(), "INVALID_MFA_CODE");
        app.forget("tries").await;
    }
}

#[tokio::test]
async fn the_activating_code_does_not_sign_in_as_well() {
    let app = TestApp::new().await;
    let session = app.register(ADA).await;
    let (secret, _) = enrol(&app, text(&session, "accessToken")).await;
    let token = begin(&app).await;
    assert_eq!(verify(&app, &token, ("code", &code(&app, &secret, 0))).await.code(), "INVALID_MFA_CODE");
    assert_eq!(verify(&app, &token, ("code", &code(&app, &secret, 1))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_recovery_code_counts_once_and_new_ones_void_the_old() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let (one, two) = (begin(&app).await, begin(&app).await);
    let first = &ada.recovery_codes[0];
    let (here, there) =
        tokio::join!(verify(&app, &one, ("recoveryCode", first)), verify(&app, &two, ("recoveryCode", first)));
    assert_eq!(here.status.as_u16() + there.status.as_u16(), 200 + 401, "{} {}", here.json, there.json);
    let winner = if here.status == 200 { here } else { there };
    let token = text(&winner.json["data"], "accessToken");
    assert_eq!(claims(token)["amr"], json!(["pwd", "recovery", "mfa"]));
    let status = app.get("/api/v1/auth/2fa").bearer(token).send().await;
    assert_eq!(status.json["data"]["recoveryCodesLeft"], 9);

    let renewed = app.post("/api/v1/auth/2fa/recovery-codes", &json!({})).bearer(token).send().await;
    let codes = renewed.json["data"]["recoveryCodes"].as_array().unwrap();
    assert_eq!(codes.len(), 10);
    let third = begin(&app).await;
    assert_eq!(verify(&app, &third, ("recoveryCode", &ada.recovery_codes[1])).await.code(), "INVALID_MFA_CODE");
    let typed = codes[0].as_str().unwrap().to_uppercase().replace('-', " ");
    assert_eq!(verify(&app, &third, ("recoveryCode", &typed)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_app_is_taken_away_with_password_and_code_and_other_sessions_end() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let disable = async |password: &str, code: &str| {
        let body = json!({ "password": password, "code": code });
        app.post("/api/v1/auth/2fa/disable", &body).bearer(&ada.token).send().await
    };
    let token = begin(&app).await;
    let elsewhere = verify(&app, &token, ("code", &code(&app, &ada.secret, 0))).await;
    app.clock.advance(seconds(30));
    let now = code(&app, &ada.secret, 0);
    for (password, code, field) in
        [("Wrong-Horse-7", now.as_str(), "currentPassword"), (PASSWORD, &wrong_code(&app, &ada.secret), "code")]
    {
        let wrong = disable(password, code).await;
        assert_eq!(
            (wrong.status, wrong.json["error"]["details"][0]["field"].as_str()),
            (StatusCode::BAD_REQUEST, Some(field))
        );
    }
    let gone = disable(PASSWORD, &now).await;
    assert_eq!((gone.status, &gone.json["data"]["sessionsEnded"]), (StatusCode::OK, &json!(1)), "{}", gone.json);
    assert_eq!(disable(PASSWORD, &now).await.code(), "NO_FACTOR");
    let ended = app.get(ME).bearer(text(&elsewhere.json["data"], "accessToken")).send().await;
    assert_eq!(ended.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.get(ME).bearer(&ada.token).send().await.status, StatusCode::OK);
    assert!(login(&app).await.json["data"]["accessToken"].is_string());
    let status = app.get("/api/v1/auth/2fa").bearer(&ada.token).send().await;
    assert_eq!((&status.json["data"]["methods"], &status.json["data"]["recoveryCodesLeft"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn an_admin_takes_the_factors_of_who_lost_them_and_not_of_who_may_more() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let admin = app.admin().await;
    let me = app.get(ME).bearer(&ada.token).send().await.json["data"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/admin/users/{me}/factors");
    let remove = async |token: &str, path: &str| app.request(Method::DELETE, path).bearer(token).send().await;
    assert_eq!(remove(&ada.token, &path).await.status, StatusCode::FORBIDDEN);
    let removed = remove(&admin, &path).await;
    assert_eq!((removed.status, &removed.json["data"]["removed"]), (StatusCode::OK, &json!(["totp", "recoveryCode"])));
    assert_eq!(app.get(ME).bearer(&ada.token).send().await.status, StatusCode::UNAUTHORIZED);
    let signed_in = login(&app).await;
    let token = text(&signed_in.json["data"], "accessToken");

    // Ada holds users:update and nothing else: an ADMIN reaches further.
    let mut acme = app.tenant("acme");
    acme.bindings.push(crate::testing::binding("admins", "ADMIN", "admin@acme.test"));
    let mut helper = crate::testing::binding("helpers", "SUPPORT", ADA);
    helper.permissions = vec!["users:update".parse().unwrap()];
    acme.bindings.push(helper);
    app.serve(&acme);
    let admins_id = app.get(ME).bearer(&admin).send().await.json["data"]["id"].as_str().unwrap().to_owned();
    let refused = remove(token, &format!("/api/v1/admin/users/{admins_id}/factors")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.json);
    let nobody = remove(&admin, "/api/v1/admin/users/0192f0c1-7a00-7000-8000-000000000009/factors").await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_was_done_is_in_the_audit_and_no_secret_is() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    let token = begin(&app).await;
    assert_eq!(verify(&app, &token, ("code", &wrong_code(&app, &ada.secret))).await.code(), "INVALID_MFA_CODE");
    assert_eq!(verify(&app, &token, ("recoveryCode", &ada.recovery_codes[0])).await.status, StatusCode::OK);
    let admin = app.admin().await;
    let audit = app.get("/api/v1/admin/audit-logs?limit=100").bearer(&admin).send().await;
    let entries = audit.json["data"].as_array().unwrap();
    let of = |action: &str, outcome: &str| {
        entries.iter().filter(|entry| entry["action"] == action && entry["outcome"] == outcome).count()
    };
    assert_eq!(
        (
            of("ENABLE_FACTOR", "success"),
            of("LOGIN_CHALLENGED", "success"),
            of("LOGIN", "failure"),
            of("LOGIN", "success")
        ),
        (1, 1, 1, 1),
        "{entries:#?}"
    );
    let all = audit.text.to_lowercase();
    assert!(!all.contains(&ada.secret.to_lowercase()) && !all.contains(&token.to_lowercase()));
    assert!(!all.contains(&ada.recovery_codes[0]));
    // At rest neither.
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT to_jsonb(t)::text FROM auth.totp t UNION ALL SELECT to_jsonb(c)::text FROM auth.recovery_codes c
         UNION ALL SELECT to_jsonb(h)::text FROM auth.challenges h",
    )
    .fetch_all(tx.conn())
    .await
    .unwrap();
    assert_eq!(rows.len(), 11, "the app, ten codes, and no login that waits");
    let rest = rows.join("\n").to_lowercase();
    assert!(!rest.contains(&ada.secret.to_lowercase()) && !rest.contains(&ada.recovery_codes[1].replace('-', "")));
}

#[tokio::test]
async fn a_deleted_account_leaves_no_factor_behind() {
    let app = TestApp::new().await;
    let ada = enrolled(&app).await;
    begin(&app).await;
    let me = app.get(ME).bearer(&ada.token).send().await.json["data"]["id"].as_str().unwrap().to_owned();
    let gone = app.request(Method::DELETE, &format!("/api/v1/users/{me}")).bearer(&ada.token).send().await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.json);
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM auth.totp) + (SELECT count(*) FROM auth.recovery_codes)
              + (SELECT count(*) FROM auth.challenges)",
    )
    .fetch_one(tx.conn())
    .await
    .unwrap();
    assert_eq!(left, 0);
}

mod authenticator;
mod browser;
mod login;
mod passkeys;
mod policy;
mod second_factor;
mod step_up;

use contract::{TenantConfig, auth::Mfa};
use serde_json::{Value, json};

use crate::testing::{Answer, PASSWORD, TestApp, seconds};

pub const ADA: &str = "ada@acme.test";

/// What an authenticator app shows at the test's time, `offset` steps from now.
pub fn code(app: &TestApp, secret: &str, offset: i64) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    let at = app.clock.now().as_second() + 30 * offset;
    totp.generate(u64::try_from(at).unwrap()).to_string()
}

/// Another code than that of this moment and its neighbours.
pub fn wrong_code(app: &TestApp, secret: &str) -> String {
    let near: Vec<_> = (-1..=1).map(|offset| code(app, secret, offset)).collect();
    (0..9).map(|n| format!("{n:06}")).find(|code| !near.contains(code)).unwrap()
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

pub async fn login(app: &TestApp) -> Answer {
    app.post("/api/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).send().await
}

pub async fn verify(app: &TestApp, token: &str, proof: (&str, &str)) -> Answer {
    app.post("/api/v1/auth/2fa/verify", &json!({ "mfaToken": token, proof.0: proof.1 })).send().await
}

/// The claims of an access token.
pub fn claims(token: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

pub fn with_policy(app: &TestApp, mfa: Mfa) -> TenantConfig {
    let mut acme = app.tenant("acme");
    acme.auth.mfa = mfa;
    app.serve(&acme);
    acme
}

/// Somebody with an authenticator app.
pub struct Ada {
    pub token: String,
    pub refresh: String,
    pub secret: String,
    pub recovery_codes: Vec<String>,
}

/// Registers Ada and sets up her authenticator app. The clock then stands in the step after that of the activating code.
pub async fn enrolled(app: &TestApp) -> Ada {
    let session = app.register(ADA).await;
    let token = text(&session, "accessToken").to_owned();
    let (secret, recovery_codes) = enrol(app, &token).await;
    app.clock.advance(seconds(30));
    Ada { token, refresh: text(&session, "refreshToken").to_owned(), secret, recovery_codes }
}

pub async fn enrol(app: &TestApp, token: &str) -> (String, Vec<String>) {
    let setup = app.post("/api/v1/auth/2fa/setup", &json!({})).bearer(token).send().await;
    assert_eq!(setup.status, 200, "{}", setup.json);
    let secret = text(&setup.json["data"], "secret").to_owned();
    let body = json!({ "code": code(app, &secret, 0) });
    let active = app.post("/api/v1/auth/2fa/activate", &body).bearer(token).send().await;
    assert_eq!(active.status, 200, "{}", active.json);
    let codes = active.json["data"]["recoveryCodes"].as_array().cloned().unwrap_or_default();
    (secret, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

/// Begins a login and gives its `mfaToken`.
pub async fn begin(app: &TestApp) -> String {
    let begun = login(app).await;
    assert_eq!((begun.status.as_u16(), &begun.json["data"]["mfaRequired"]), (200, &json!(true)), "{}", begun.json);
    text(&begun.json["data"], "mfaToken").to_owned()
}

//! Access tokens and the keys that sign them.

use http::StatusCode;
use serde_json::{Value, json};

use super::{ME, token};
use crate::testing::{PASSWORD, TestApp};

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

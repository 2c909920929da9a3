//! Providers that lie, err, or are away.

use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::JwkSet};
use serde_json::{Value, json};

use super::{
    World,
    provider::{CLIENT, signed_by},
};
use crate::testing::seconds;

#[tokio::test]
async fn no_claim_that_does_not_hold_is_believed() {
    let world = World::new().await;
    let lies = [
        json!({ "iss": "https://other.test" }),
        json!({ "aud": "other-client" }),
        json!({ "aud": [CLIENT, "other"] }),
        json!({ "aud": [CLIENT, "other"], "azp": "other" }),
        json!({ "azp": "other" }),
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "exp": 1 }),
        json!({ "exp": null }),
        json!({ "iat": 9_999_999_999_i64 }),
        json!({ "sub": "" }),
        json!({ "sub": "x".repeat(256) }),
        json!({ "sub": 7 }),
    ];
    for lie in lies {
        world.says(lie.clone());
        let answer = world.sign_in().await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "SIGN_IN_REFUSED"), "{lie}");
    }
    world.says(json!({ "aud": [CLIENT, "other"], "azp": CLIENT }));
    assert_eq!(world.sign_in().await.status, StatusCode::OK);
}

#[tokio::test]
async fn no_signature_but_the_providers_is_believed() {
    let world = World::new().await;
    let forgeries: [fn(&Value, &JwkSet) -> String; 7] = [
        |claims, _| signed_by(claims, "key-1", "another"),
        |claims, _| signed_by(claims, "key-9", "first"),
        |claims, _| {
            let good = signed_by(claims, "key-1", "first");
            let (body, _) = good.rsplit_once('.').unwrap();
            format!("{body}.")
        },
        |claims, _| {
            use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B};
            format!("{}.{}.", B.encode(r#"{"alg":"none"}"#), B.encode(claims.to_string()))
        },
        // The public key as a shared secret.
        |claims, keys| {
            let secret = EncodingKey::from_secret(serde_json::to_string(&keys.keys[0]).unwrap().as_bytes());
            let header = Header { kid: Some("key-1".into()), ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, claims, &secret).unwrap()
        },
        |claims, _| {
            let good = signed_by(claims, "key-1", "first");
            let other = signed_by(&json!({ "sub": "admin" }), "key-1", "first");
            let (parts, others): (Vec<_>, Vec<_>) = (good.split('.').collect(), other.split('.').collect());
            format!("{}.{}.{}", parts[0], others[1], parts[2])
        },
        |_, _| "no token".into(),
    ];
    for (number, forge) in forgeries.into_iter().enumerate() {
        world.provider.does.lock().forge = Some(forge);
        let answer = world.sign_in().await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "SIGN_IN_REFUSED"), "forgery {number}");
        // So that a look for new keys is due again.
        world.app.clock.advance(seconds(31));
    }
}

#[tokio::test]
async fn details_come_from_userinfo_of_the_same_subject_only() {
    let world = World::new().await;
    world.says(json!({ "email": null }));
    let details = json!({ "sub": "ada-1", "email": "ada@example.com", "email_verified": true });
    world.provider.does.lock().userinfo = details.clone();
    assert_eq!(world.sign_in().await.json["data"]["user"]["email"], "ada@example.com");
    world.provider.does.lock().userinfo["sub"] = "mallory".into();
    assert_eq!(world.sign_in().await.code(), "SIGN_IN_REFUSED");
}

#[tokio::test]
async fn a_provider_may_change_its_keys_and_is_not_asked_for_them_at_every_forgery() {
    let world = World::new().await;
    assert_eq!(world.sign_in().await.status, StatusCode::OK);
    world.provider.does.lock().key = ("second", "key-2");
    world.app.clock.advance(seconds(31));
    let answer = world.sign_in().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    world.provider.does.lock().forge = Some(|claims, _| signed_by(claims, "key-9", "another"));
    let before = world.provider.does.lock().key_requests;
    for _ in 0..5 {
        assert_eq!(world.sign_in().await.code(), "SIGN_IN_REFUSED");
    }
    assert_eq!(world.provider.does.lock().key_requests, before);
}

#[tokio::test]
async fn an_outage_a_refusal_and_wrong_settings_are_told_apart() {
    let world = World::new().await;
    let cases = [
        (StatusCode::BAD_REQUEST, json!({ "error": "invalid_grant" }), StatusCode::UNAUTHORIZED, "SIGN_IN_REFUSED"),
        (StatusCode::UNAUTHORIZED, json!({ "error": "invalid_client" }), StatusCode::BAD_GATEWAY, "PROVIDER_SETTINGS"),
        (StatusCode::NOT_FOUND, json!("nothing"), StatusCode::BAD_GATEWAY, "PROVIDER_SETTINGS"),
        (StatusCode::BAD_GATEWAY, json!({}), StatusCode::SERVICE_UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
        (StatusCode::OK, json!({ "access_token": "at" }), StatusCode::SERVICE_UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
        (StatusCode::FOUND, json!({}), StatusCode::SERVICE_UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
    ];
    for (status, body, answered, code) in cases {
        world.provider.does.lock().refuses = Some((status, body.clone()));
        let answer = world.sign_in().await;
        assert_eq!((answer.status, answer.code()), (answered, code), "{status} {body}");
        assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_provider_is_who_the_tenant_says_and_speaks_https() {
    let faults = [
        json!({ "issuer": "https://other.test" }),
        json!({ "token_endpoint": "http://10.0.0.1/token" }),
        json!({ "jwks_uri": "file:///etc/passwd" }),
        json!({ "userinfo_endpoint": "http://metadata.internal/" }),
    ];
    for fault in faults {
        let world = World::new().await;
        world.provider.does.lock().metadata = fault.clone();
        let begun = world.app.post("/api/v1/auth/providers/corp", &json!({ "redirectUri": super::BACK })).send().await;
        assert_eq!((begun.status, begun.code()), (StatusCode::BAD_GATEWAY, "PROVIDER_SETTINGS"), "{fault}");
    }
    let world = World::with(|provider| provider.issuer = "http://127.0.0.1:1".into()).await;
    let begun = world.app.post("/api/v1/auth/providers/corp", &json!({ "redirectUri": super::BACK })).send().await;
    assert_eq!((begun.status, begun.code()), (StatusCode::SERVICE_UNAVAILABLE, "PROVIDER_UNAVAILABLE"));
}

#[tokio::test]
async fn an_issuer_in_the_answer_must_be_the_one_that_was_asked() {
    let world = World::new().await;
    world.provider.does.lock().metadata = json!({ "authorization_response_iss_parameter_supported": true });
    assert_eq!(world.sign_in().await.code(), "SIGN_IN_REFUSED", "this provider always says its issuer");
    let callback = "/api/v1/auth/callback";
    for (issuer, status) in
        [("https://other.test", StatusCode::UNAUTHORIZED), (&*world.provider.issuer, StatusCode::OK)]
    {
        let flow = world.begin().await;
        let mut body = flow.body();
        body["iss"] = issuer.into();
        assert_eq!(world.app.post(callback, &body).send().await.status, status, "{issuer}");
    }
}

#[tokio::test]
async fn a_provider_that_takes_the_secret_in_the_body_gets_it_there() {
    let world = World::new().await;
    world.provider.does.lock().metadata = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    assert_eq!(world.sign_in().await.status, StatusCode::OK);
}

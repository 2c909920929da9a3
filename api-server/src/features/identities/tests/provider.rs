//! A provider on a real socket, honest until told otherwise.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Form, Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::*};
use contract::{
    Secret, TenantConfig,
    auth::{ExistingAccounts, IdentityProvider, NewAccounts},
};
use http::{HeaderMap, StatusCode};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use url::Url;

use crate::{
    infra::clock::FakeClock,
    testing::{TestApp, ed25519_pem},
};

pub const CLIENT: &str = "acme-client";
const SECRET: &str = "a secret: with + signs";

pub struct Provider {
    pub issuer: String,
    pub does: Arc<Mutex<Conduct>>,
}

/// How the provider behaves.
pub struct Conduct {
    /// Over the claims that are right.
    pub claims: Value,
    pub userinfo: Value,
    /// What the key is made of, and its id.
    pub key: (&'static str, &'static str),
    /// Makes the ID token in place of the honest way.
    pub forge: Option<fn(&Value, &JwkSet) -> String>,
    /// Over what it says of itself.
    pub metadata: Value,
    /// What the token endpoint answers in place of tokens.
    pub refuses: Option<(StatusCode, Value)>,
    pub key_requests: usize,
    codes: HashMap<String, Asked>,
    clock: FakeClock,
    issuer: String,
}

struct Asked {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

type Shared = State<Arc<Mutex<Conduct>>>;

impl Provider {
    pub async fn start(clock: &FakeClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let does = Arc::new(Mutex::new(Conduct {
            claims: json!({}),
            userinfo: Value::Null,
            key: ("first", "key-1"),
            forge: None,
            metadata: json!({}),
            refuses: None,
            key_requests: 0,
            codes: HashMap::new(),
            clock: clock.clone(),
            issuer: issuer.clone(),
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/me", get(me))
            .with_state(Arc::clone(&does));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { issuer, does }
    }

    /// As a Tenant names it.
    pub fn declared(&self, app: &TestApp, tenant: &TenantConfig) -> IdentityProvider {
        let field = IdentityProvider::seal_field("corp");
        IdentityProvider {
            name: "corp".into(),
            display_name: "Corp".into(),
            issuer: self.issuer.clone(),
            client_id: CLIENT.into(),
            client_secret: Some(app.key.seal(tenant.id, &field, &Secret::new(SECRET.to_owned())).unwrap()),
            scopes: vec!["email".into()],
            new_accounts: NewAccounts::Allow,
            existing_accounts: ExistingAccounts::Refuse,
        }
    }

    /// The user consents at the provider: what comes back with the browser.
    pub fn consent(&self, authorization_url: &str) -> (String, String) {
        let url = Url::parse(authorization_url).unwrap();
        let asked: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!((asked["response_type"].as_str(), asked["client_id"].as_str()), ("code", CLIENT));
        assert_eq!((asked["scope"].as_str(), asked["code_challenge_method"].as_str()), ("openid email", "S256"));
        let code = format!("code-{}", uuid::Uuid::new_v4());
        let [nonce, challenge, redirect_uri] =
            ["nonce", "code_challenge", "redirect_uri"].map(|name| asked[name].clone());
        self.does.lock().codes.insert(code.clone(), Asked { nonce, challenge, redirect_uri });
        (code, asked["state"].clone())
    }
}

fn over(mut right: Value, given: &Value) -> Value {
    for (name, value) in given.as_object().unwrap() {
        right[name] = value.clone();
    }
    right
}

fn key_of(seed: &str) -> EncodingKey {
    EncodingKey::from_ed_pem(ed25519_pem(seed.as_bytes()).as_bytes()).unwrap()
}

fn jwks(conduct: &Conduct) -> JwkSet {
    let (seed, kid) = conduct.key;
    let mut jwk = Jwk::from_encoding_key(&key_of(seed), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some(kid.into());
    JwkSet { keys: vec![jwk] }
}

async fn metadata(State(does): Shared) -> Json<Value> {
    let does = does.lock();
    let issuer = &does.issuer;
    let right = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize?tenant=x"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "userinfo_endpoint": format!("{issuer}/me"),
    });
    Json(over(right, &does.metadata))
}

async fn keys(State(does): Shared) -> Json<JwkSet> {
    let mut does = does.lock();
    does.key_requests += 1;
    Json(jwks(&does))
}

async fn me(State(does): Shared, headers: HeaderMap) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer at");
    Json(does.lock().userinfo.clone())
}

async fn token(State(does): Shared, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    let mut does = does.lock();
    if let Some((status, body)) = &does.refuses {
        return (*status, Json(body.clone())).into_response();
    }
    assert_eq!(form["grant_type"], "authorization_code");
    let secret = match headers.get("authorization") {
        Some(basic) => {
            let basic = basic.to_str().unwrap().strip_prefix("Basic ").unwrap();
            let pair = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
            let (id, secret) = pair.split_once(':').unwrap();
            assert_eq!(id, CLIENT);
            url::form_urlencoded::parse(format!("s={secret}").as_bytes()).next().unwrap().1.into_owned()
        }
        None => form["client_secret"].clone(),
    };
    assert_eq!(secret, SECRET);
    let Some(asked) = does.codes.remove(&form["code"]) else {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    };
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    assert_eq!((challenge, &form["redirect_uri"]), (asked.challenge, &asked.redirect_uri));
    let now = does.clock.clock().now().as_second();
    let right = json!({
        "iss": does.issuer, "sub": "ada-1", "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked.nonce,
        "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
    });
    let claims = over(right, &does.claims);
    let id_token = match does.forge {
        Some(forge) => forge(&claims, &jwks(&does)),
        None => signed(&claims, does.key.1, &key_of(does.key.0)),
    };
    Json(json!({ "id_token": id_token, "access_token": "at", "token_type": "Bearer" })).into_response()
}

pub fn signed(claims: &Value, kid: &str, key: &EncodingKey) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

pub fn signed_by(claims: &Value, kid: &str, seed: &str) -> String {
    signed(claims, kid, &key_of(seed))
}

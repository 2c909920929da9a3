use std::collections::HashSet;

use http::{Method, StatusCode};
use serde_json::Value;

use super::text;
use crate::{router, testing::TestApp};

/// Operations that anybody may call.
const PUBLIC: [&str; 20] = [
    "register",
    "login",
    "verify_second_factor",
    "begin_passkey_second_factor",
    "begin_passkey_login",
    "finish_passkey_login",
    "get_passkey_origins",
    "list_identity_providers",
    "begin_provider_sign_in",
    "finish_provider_sign_in",
    "refresh",
    "forgot_password",
    "reset_password",
    "verify_email",
    "resend_verification",
    "confirm_email",
    "unlock_account",
    "get_jwks",
    "get_health",
    "get_metrics",
];
/// Public operations whose credential is in the request: a signature.
const SIGNED: [&str; 2] = ["receive_webhook", "receive_stripe_webhook"];

pub fn operations(document: &Value) -> Vec<(String, Method, Value)> {
    let mut all = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            all.push((path.clone(), method, operation.clone()));
        }
    }
    all
}

pub fn document() -> Value {
    serde_json::to_value(super::document::document()).unwrap()
}

#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let current = text().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == current, "{path} is not what the routes say: run the test again with UPDATE=1");
}

#[tokio::test]
async fn every_route_is_public_by_list_or_refuses_strangers_and_guests() {
    let app = TestApp::new().await;
    let user = app.register("ada@acme.test").await;
    let user = user["accessToken"].as_str().unwrap();
    // USER holds the payments' permissions; a guest holds none.
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    sqlx::query("UPDATE auth.users SET role = 'GUEST'").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();

    for (path, method, operation) in operations(&document()) {
        let id = operation["operationId"].as_str().unwrap();
        let security = operation["security"].as_array();
        if PUBLIC.contains(&id) || SIGNED.contains(&id) {
            assert!(security.is_none(), "{id} is public and says it needs a token");
            continue;
        }
        let scopes =
            security.and_then(|all| all[0]["bearer"].as_array()).unwrap_or_else(|| panic!("{id} names no security"));
        let path = path.replace("{id}", "0192f0c1-7a00-7000-8000-000000000001");
        let call = || app.request(method.clone(), &path).header("content-type", "application/json").body("{}");
        let stranger = call().send().await;
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{id}: {}", stranger.text);
        // Where the permission depends on the body, several are named, and the room's own tests tell them apart.
        let alternatives = security.map_or(0, |all| all.iter().filter(|one| one["bearer"].is_array()).count());
        if !scopes.is_empty() && alternatives == 1 {
            let guest = call().bearer(user).send().await;
            assert_eq!(guest.status, StatusCode::FORBIDDEN, "{id}: {}", guest.text);
        }
    }
}

#[test]
fn every_operation_is_fit_for_a_generator_of_clients() {
    let (document, mut ids) = (document(), HashSet::new());
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}: operation id twice");
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{name}: one tag");
        assert!(operation["summary"].is_string(), "{name}: summary");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}: a success");
        if operation["security"].is_array() {
            assert!(responses.contains_key("401"), "{name}: 401");
        }
    }
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"][reference].is_object(), "{reference} is referred to and not there");
    }
}

#[tokio::test]
async fn both_prefixes_lead_to_the_same_routes() {
    let app = TestApp::new().await;
    for (path, method, operation) in operations(&document()) {
        if let Some(rest) = path.strip_prefix(router::PREFIX) {
            let path = format!("{}{}", router::ALIAS, rest.replace("{id}", "0192f0c1-7a00-7000-8000-000000000001"));
            let answer = app.request(method, &path).send().await;
            assert_ne!(answer.code(), "NOT_FOUND", "{path} {}", operation["operationId"]);
        }
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let app = TestApp::new().await;
    let page = app.get("/docs/").host("anything").send().await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.text.contains("swagger-ui") && !page.text.contains("https://") && !page.text.contains("//unpkg"),
        "{}",
        page.text
    );
    assert!(page.header("content-security-policy").contains("'self'"), "{:?}", page.headers);
    let script = app.get("/docs/swagger-ui-bundle.js").send().await;
    assert!(script.status == StatusCode::OK && script.text.len() > 100_000);
    // The binary holds the page's files compressed, and hands them out as they are to whoever can read that.
    assert_eq!(script.header("content-encoding"), "");
    let packed = app.get("/docs/swagger-ui-bundle.js").header("accept-encoding", "br, gzip").send().await;
    assert_eq!((packed.status, packed.header("content-encoding")), (StatusCode::OK, "gzip"));
    let served = app.get("/openapi.json").send().await;
    assert!(served.json == document(), "what is served is not what the routes say");
    assert_eq!(served.header("content-type"), "application/json");
}

//! Replicas are real servers on loopback addresses here; what they say is written in each test.

use axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const WAIT: Duration = Duration::from_secs(1);

fn revision() -> Revision {
    Revision::new("00112233445566ff").unwrap()
}

fn pod(port: u16, ready: &str) -> Arc<Pod> {
    let pod = serde_json::from_value(json!({
        "metadata": { "name": format!("api-{port}"), "labels": { LABEL_NAME: API_NAME } },
        "spec": { "containers": [{ "name": "api", "ports": [
            { "name": "http", "containerPort": 1 },
            { "name": "management", "containerPort": port },
        ] }] },
        "status": { "podIP": "127.0.0.1", "conditions": [{ "type": "Ready", "status": ready }] },
    }));
    Arc::new(pod.unwrap())
}

/// A replica that gives this answer about `acme`.
async fn replica(answer: Value) -> Arc<Pod> {
    let route = get(async move |Path(tenant): Path<String>| match tenant.as_str() {
        "acme" => Json(answer).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/internal/config/{tenant}", route)).await });
    pod(port, "True")
}

fn serves(revision: &str) -> Value {
    json!({ "tenant": "acme", "revision": revision, "loadedAt": "2026-01-01T00:00:00Z", "rejected": null })
}

async fn ask(pods: &[Arc<Pod>], tenant: &str) -> Loaded {
    Replicas::new().unwrap().ask(pods, tenant, &revision(), WAIT).await
}

#[tokio::test]
async fn it_is_everywhere_when_every_ready_replica_serves_it() {
    let pods =
        [replica(serves(revision().as_str())).await, replica(serves(revision().as_str())).await, pod(9, "False")];
    let loaded = ask(&pods, "acme").await;
    assert_eq!((loaded.loaded, loaded.ready), (2, 2));
    assert!(loaded.everywhere());
}

#[tokio::test]
async fn an_older_revision_an_unknown_tenant_and_silence_do_not_count() {
    let pods = [replica(serves("ffffffffffffffff")).await, pod(1, "True")];
    assert_eq!(ask(&pods, "acme").await, Loaded { loaded: 0, ready: 2, rejected: None });
    assert_eq!(ask(&pods, "other").await.loaded, 0);
}

#[tokio::test]
async fn a_refusal_is_told_with_the_pod_and_the_reason() {
    let refusal = json!({ "revision": revision(), "error": "currency \"usd\"" });
    let answer = json!({ "tenant": "acme", "revision": "ffffffffffffffff", "loadedAt": null, "rejected": refusal });
    let pods = [replica(answer).await];
    let rejected = ask(&pods, "acme").await.rejected.unwrap();
    assert_eq!((rejected.pod, rejected.error), (pods[0].name_any(), "currency \"usd\"".to_owned()));
}

#[tokio::test]
async fn no_ready_replica_is_nowhere() {
    assert!(!ask(&[pod(9, "False")], "acme").await.everywhere());
}

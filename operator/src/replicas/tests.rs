//! Replicas are real servers on loopback addresses here; what they say is written in each test.

use axum::{Json, Router, extract::Query, routing::get};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const WAIT: Duration = Duration::from_secs(5);
const SERVED: &str = "00112233445566ff";

fn revision() -> Revision {
    Revision::new(SERVED).unwrap()
}

fn platform() -> PlatformKey {
    ("shop".into(), "main".into())
}

fn pod(port: u16, ready: &str) -> Arc<Pod> {
    let labels = json!({ LABEL_NAME: API_NAME, LABEL_PLATFORM: "main" });
    let pod = serde_json::from_value(json!({
        "metadata": { "name": format!("api-{port}"), "namespace": "shop", "labels": labels },
        "spec": { "containers": [{ "name": "api", "ports": [
            { "name": "http", "containerPort": 1 },
            { "name": "management", "containerPort": port },
        ] }] },
        "status": { "podIP": "127.0.0.1", "conditions": [{ "type": "Ready", "status": ready }] },
    }));
    Arc::new(pod.unwrap())
}

/// A replica that tells this at first, and `then` as the next change. Nothing changes after that.
async fn replica(first: Value, then: Option<Value>) -> Arc<Pod> {
    let route =
        get(async move |Query(asked): Query<HashMap<String, String>>| match asked.get("since").map(String::as_str) {
            None => Json(first),
            Some("1") if then.is_some() => Json(then.clone().unwrap()),
            _ => std::future::pending().await,
        });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/internal/config", route)).await });
    pod(port, "True")
}

fn serves(revision: &str) -> Value {
    json!({ "cursor": "1", "whole": true, "tenants": { "acme": { "revision": revision, "loadedAt": null } } })
}

/// What these pods say in the end.
async fn asked(pods: &[Arc<Pod>], tenant: &str) -> Loaded {
    let replicas = Replicas::new(Http::new().unwrap());
    replicas.open(|| pods.to_vec());
    replicas.settled(&platform(), tenant, &revision(), WAIT).await
}

#[tokio::test]
async fn it_is_everywhere_when_every_ready_replica_serves_it() {
    let pods = [replica(serves(SERVED), None).await, replica(serves(SERVED), None).await, pod(9, "False")];
    let loaded = asked(&pods, "acme").await;
    assert_eq!((loaded.loaded, loaded.ready), (2, 2));
    assert!(loaded.everywhere());
    assert!(!asked(&[pod(9, "False")], "acme").await.everywhere(), "no ready replica is nowhere");
}

#[tokio::test]
async fn a_change_is_told_when_it_happens() {
    let then = json!({ "cursor": "2", "whole": false, "tenants": { "acme": { "revision": SERVED } } });
    let loaded = asked(&[replica(serves("ffffffffffffffff"), Some(then)).await], "acme").await;
    assert!(loaded.everywhere(), "{loaded:?}");
}

#[tokio::test]
async fn a_replica_that_does_not_answer_counts_as_one_that_has_nothing_and_is_named() {
    let pods = [replica(serves(SERVED), None).await, pod(1, "True")];
    let loaded = asked(&pods, "acme").await;
    assert_eq!((loaded.loaded, loaded.ready, loaded.silent.as_deref()), (1, 2, Some("api-1")));
}

#[tokio::test]
async fn a_refusal_is_told_with_the_pod_and_the_reason() {
    let refusal = json!({ "revision": SERVED, "error": "currency \"usd\"" });
    let mut answer = serves("ffffffffffffffff");
    answer["rejected"] = json!({ "acme": refusal });
    let pods = [replica(answer, None).await];
    let rejected = asked(&pods, "acme").await.rejected.unwrap();
    assert_eq!((rejected.pod, rejected.error), (pods[0].name_any(), "currency \"usd\"".to_owned()));
}

#[tokio::test]
async fn a_replica_of_the_version_before_is_understood() {
    let answer = json!({ "tenants": { "acme": { "revision": SERVED, "loadedAt": null } }, "rejected": {} });
    assert!(asked(&[replica(answer, None).await], "acme").await.everywhere());
}

#[tokio::test]
async fn news_are_about_those_whose_verdict_may_be_another() {
    let then =
        json!({ "cursor": "2", "whole": false, "tenants": { "acme": { "revision": SERVED } }, "gone": ["beta"] });
    let pod = replica(serves("ffffffffffffffff"), Some(then)).await;
    let replicas = Replicas::new(Http::new().unwrap());
    let mut news = replicas.listen();
    replicas.open(|| {
        assert!(replicas.0.following.try_lock().is_none(), "a pod that goes in this moment is told of afterwards");
        vec![pod.clone()]
    });
    assert_eq!(news.recv().await, Some(News::Everybody { platform: platform() }));
    let names = vec!["acme".to_owned(), "beta".to_owned()];
    assert_eq!(news.recv().await, Some(News::Tenants { platform: platform(), names }));
    replicas.see(None, &pod);
    assert_eq!(news.recv().await, Some(News::Everybody { platform: platform() }));
    assert_eq!(replicas.loaded(&platform(), "acme", &revision()), Loaded::default());
}

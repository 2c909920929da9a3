//! Logs and evictions. <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use apiserver::Options;
use serde_json::json;

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn with_pod(options: Options) -> World {
    let world = World::with(options).await;
    let pod = json!({
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "nodeName": "here", "containers": [{ "name": "main", "image": "nginx:1" }] },
    });
    let (code, answer) = world.post(PODS, pod).await;
    assert_eq!(code, 201, "{answer}");
    let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    world.merge(&format!("{PODS}/web/status"), ready).await;
    world
}

#[tokio::test]
async fn a_containers_output_is_told_whole_in_part_and_as_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let world = with_pod(Options { logs: Some(folder.path().into()), ..Default::default() }).await;
    let log = format!("{PODS}/web/log");
    let (code, status) = world.get(&log).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (400, Some("container \"main\" in pod \"web\" is waiting to start: ContainerCreating"))
    );
    let file = folder.path().join("default/web/main.log");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{\"timestamp\":\"2020-01-01T00:00:00Z\"}\ntwo\n").unwrap();
    assert_eq!(world.get(&log).await.1.as_str().unwrap().lines().count(), 2);
    assert_eq!(world.get(&format!("{log}?tailLines=1")).await.1, "two\n");
    assert_eq!(world.get(&format!("{log}?sinceSeconds=60")).await.1, "");
    assert_eq!(
        world.get(&format!("{log}?container=other")).await.1["message"],
        "container other is not valid for pod web"
    );
    assert_eq!(world.get(&format!("{log}?previous=true")).await.0, 400);
    let mut follower = world.lines(&format!("{log}?follow=true&tailLines=0")).await;
    std::fs::write(&file, "{\"timestamp\":\"2020-01-01T00:00:00Z\"}\ntwo\nthree\n").unwrap();
    assert_eq!(follower.line().await.as_deref(), Some("three"));
    world.delete(&format!("{PODS}/web?gracePeriodSeconds=0")).await;
    assert_eq!(follower.line().await, None, "a follower leaves with the pod");
}

#[tokio::test]
async fn an_eviction_spends_the_budget_or_is_refused() {
    let world = with_pod(Options::default()).await;
    let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } } });
    assert_eq!(world.post(BUDGETS, budget).await.0, 201);
    let eviction =
        json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web", "namespace": "default" } });
    let path = format!("{PODS}/web/eviction");
    let (code, status) = world.post(&path, eviction.clone()).await;
    assert_eq!((code, status["reason"].as_str()), (429, Some("TooManyRequests")), "the controller has not spoken yet");
    let status = |allowed: i64| json!({ "status": { "observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 } });
    world.merge(&format!("{BUDGETS}/web/status"), status(0)).await;
    let (code, refused) = world.post(&path, eviction.clone()).await;
    assert_eq!(code, 429);
    assert_eq!(refused["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget web needs 1 healthy pods and has 1 currently"
    );
    world.merge(&format!("{BUDGETS}/web/status"), status(1)).await;
    assert_eq!(world.post(&path, eviction).await.0, 201);
    assert_eq!(world.get(&format!("{BUDGETS}/web")).await.1["status"]["disruptionsAllowed"], 0);
    assert!(world.get(&format!("{PODS}/web")).await.1["metadata"]["deletionTimestamp"].is_string());
}

//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>, bookmarks, streaming lists
//! and `410 Gone`.

use std::time::Duration;

use apiserver::Options;
use serde_json::json;

use crate::world::{CONFIG_MAPS, WIDGETS, World, config_map, widget};

#[tokio::test]
async fn a_watch_from_a_version_tells_what_came_after_it() {
    let world = World::start().await;
    world.post(CONFIG_MAPS, config_map("before", "1")).await;
    let (_, list) = world.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    world.merge(&format!("{CONFIG_MAPS}/a"), json!({ "data": { "key": "2" } })).await;
    let mut events = world.watch(&format!("{CONFIG_MAPS}?resourceVersion={version}")).await;
    assert_eq!(events.told().await, "ADDED a");
    assert_eq!(events.told().await, "MODIFIED a");
    let (_, gone) = world.delete(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!(gone["status"], "Success");
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["data"]["key"], "2", "the last state");
    let (_, list) = world.get(CONFIG_MAPS).await;
    assert_eq!(
        event["object"]["metadata"]["resourceVersion"], list["metadata"]["resourceVersion"],
        "numbered by the deletion"
    );
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_everything() {
    let world = World::start().await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    for query in ["", "?resourceVersion=0"] {
        let mut events = world.watch(&format!("{CONFIG_MAPS}{query}")).await;
        assert_eq!(events.told().await, "ADDED a");
    }
}

#[tokio::test]
async fn a_version_older_than_history_is_gone() {
    let world = World::with(Options { history: 2, ..Options::default() }).await;
    let (_, list) = world.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for name in ["a", "b", "c"] {
        world.post(CONFIG_MAPS, config_map(name, "1")).await;
    }
    let mut events = world.watch(&format!("{CONFIG_MAPS}?resourceVersion={version}")).await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(events.next().await.is_none(), "the watch ends");
}

#[tokio::test]
async fn a_running_watch_survives_a_compaction() {
    let world = World::start().await;
    let (_, list) = world.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events = world.watch(&format!("{CONFIG_MAPS}?resourceVersion={version}")).await;
    world.post("/api/v1/namespaces/default/secrets", json!({ "metadata": { "name": "s" } })).await;
    world.server.compact();
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    assert_eq!(events.told().await, "ADDED a");
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks>
#[tokio::test]
async fn an_idle_watch_gets_bookmarks_of_what_happened_elsewhere() {
    let world = World::with(Options { bookmark_interval: Duration::from_millis(20), ..Options::default() }).await;
    let (_, list) = world.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events = world.watch(&format!("{CONFIG_MAPS}?resourceVersion={version}&allowWatchBookmarks=true")).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(event["object"]["metadata"]["resourceVersion"], json!(version));
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>
#[tokio::test]
async fn a_streaming_list_ends_with_an_annotated_bookmark() {
    let world = World::start().await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = world.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(events.told().await, "ADDED a");
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    world.post(CONFIG_MAPS, config_map("b", "1")).await;
    assert_eq!(events.told().await, "ADDED b");
    let (code, status) = world.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(code, 422, "{status}");
}

#[tokio::test]
async fn a_selector_turns_changes_into_additions_and_deletions() {
    let world = World::start().await;
    let mut events = world.watch(&format!("{CONFIG_MAPS}?labelSelector=wanted%3Dyes")).await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let label = |value: &str| json!({ "metadata": { "labels": { "wanted": value } } });
    world.merge(&format!("{CONFIG_MAPS}/a"), label("yes")).await;
    assert_eq!(events.told().await, "ADDED a");
    world.merge(&format!("{CONFIG_MAPS}/a"), label("no")).await;
    assert_eq!(events.told().await, "DELETED a");
}

#[tokio::test]
async fn a_watch_ends_at_its_time_out() {
    let world = World::start().await;
    let mut events = world.watch(&format!("{CONFIG_MAPS}?timeoutSeconds=1")).await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_version_of_the_future_is_too_large() {
    let world = World::start().await;
    let (code, status) = world.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await;
    assert_eq!((code, status["reason"].as_str()), (504, Some("Timeout")));
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn a_watch_ends_when_its_definition_changes() {
    let world = World::with_widgets().await;
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.shop.example.com";
    let mut watch = world.watch(WIDGETS).await;
    world.merge(definition, json!({ "metadata": { "labels": { "a": "b" } } })).await;
    world.post(WIDGETS, widget("a", json!({ "color": "red" }))).await;
    assert_eq!(watch.told().await, "ADDED a", "a label changes no kind");
    world.merge(definition, json!({ "spec": { "names": { "shortNames": ["wdg"] } } })).await;
    assert_eq!(watch.next().await, None);
}

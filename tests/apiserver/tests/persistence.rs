//! A second start with the same directory finds its objects, and what was not there stays not there.

use apiserver::Options;
use serde_json::json;

use crate::world::{CONFIG_MAPS, WIDGETS, World, config_map, widget, widgets};

#[tokio::test]
async fn a_second_start_finds_objects_kinds_and_the_version_counter() {
    let directory = tempfile::tempdir().unwrap();
    let options = || Options { data_dir: Some(directory.path().to_owned()), ..Options::default() };
    let first = World::with(options()).await;
    first.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widgets()).await;
    let (_, before) = first.post(WIDGETS, widget("a", json!({ "color": "red" }))).await;
    first.post(CONFIG_MAPS, config_map("gone", "1")).await;
    first.delete(&format!("{CONFIG_MAPS}/gone")).await;
    let (_, list) = first.get(CONFIG_MAPS).await;
    let version: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    first.stop().await;

    let second = World::with(options()).await;
    let (_, after) = second.get(&format!("{WIDGETS}/a")).await;
    assert_eq!(before, after);
    assert_eq!(second.get(&format!("{CONFIG_MAPS}/gone")).await.0, 404);
    let (_, list) = second.get(CONFIG_MAPS).await;
    assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() >= version);
    let mut events = second.watch(&format!("{CONFIG_MAPS}?resourceVersion={}", version - 1)).await;
    assert_eq!(events.next().await.unwrap()["object"]["code"], 410, "history does not survive a restart");
    let mut events = second.watch(&format!("/api/v1/secrets?resourceVersion={}", version - 1)).await;
    assert_eq!(events.next().await.unwrap()["object"]["code"], 410, "nor does that of kinds without objects");
}

#[tokio::test]
async fn a_stopped_server_answers_nobody_and_its_port_is_free() {
    let world = World::start().await;
    let addr = world.server.url().trim_start_matches("http://").parse().unwrap();
    let mut events = world.watch(CONFIG_MAPS).await;
    world.stop().await;
    assert!(events.ends().await, "an open watch is cut");
    let again = World::with(Options { addr, ..Options::default() }).await;
    assert_eq!(again.get("/readyz").await.0, 200);
}

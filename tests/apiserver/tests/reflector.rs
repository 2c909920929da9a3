//! kube-rs against the server: typed reads and writes, and a reflector that recovers from `410 Gone`.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses>

use std::{collections::BTreeMap, time::Duration};

use apiserver::Options;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, reflector, watcher},
};

use crate::world::World;

fn client(world: &World) -> Client {
    let mut config = Config::new(world.server.url().parse().unwrap());
    config.auth_info.token = Some(world.server.token().to_owned().into());
    config.default_namespace = "default".into();
    Client::try_from(config).expect("a client")
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("key".into(), value.into())])),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn typed_objects_go_there_and_back() {
    let world = World::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&world));
    let made = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert_eq!(made.uid().as_deref().map(str::len), Some(36));
    let applied = api.patch("a", &PatchParams::apply("me").force(), &Patch::Apply(config_map("a", "2"))).await.unwrap();
    assert_eq!(applied.data.unwrap()["key"], "2");
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let error = api.create(&PostParams::default(), &config_map("a", "3")).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.is_already_exists()));
    assert!(api.delete("a", &kube::api::DeleteParams::default()).await.unwrap().is_right());
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>
#[tokio::test]
async fn an_event_of_one_group_is_read_in_the_other() {
    use k8s_openapi::{
        api::{core::v1::ObjectReference, events::v1 as events},
        apimachinery::pkg::apis::meta::v1::MicroTime,
    };
    let world = World::start().await;
    let new: Api<events::Event> = Api::default_namespaced(client(&world));
    let event = events::Event {
        metadata: ObjectMeta { generate_name: Some("a.".into()), ..ObjectMeta::default() },
        regarding: Some(ObjectReference {
            kind: Some("ConfigMap".into()),
            name: Some("a".into()),
            namespace: Some("default".into()),
            ..ObjectReference::default()
        }),
        event_time: Some(MicroTime(jiff::Timestamp::UNIX_EPOCH)),
        type_: Some("Normal".into()),
        action: Some("Finish".into()),
        reporting_controller: Some("example.com/tester".into()),
        reporting_instance: Some("tester-0".into()),
        note: Some("well done".into()),
        reason: Some("Done".into()),
        ..events::Event::default()
    };
    let made = new.create(&PostParams::default(), &event).await.unwrap();
    assert_eq!(made.note.as_deref(), Some("well done"));
    let core: Api<Event> = Api::default_namespaced(client(&world));
    let found = core.list(&ListParams::default().fields("involvedObject.name=a")).await.unwrap();
    assert_eq!(found.items[0].message.as_deref(), Some("well done"));
}

async fn recovers(config: watcher::Config) {
    let world = World::with(Options { history: 4, ..Options::default() }).await;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&world));
    api.create(&PostParams::default(), &config_map("early", "1")).await.unwrap();
    let (store, writer) = reflector::store();
    // A watch of one second: the next one begins at a version that is no longer in history.
    let stream = reflector(writer, watcher(api.clone(), config.timeout(1))).default_backoff();
    let mut stream = Box::pin(stream);
    let seen =
        async |stream: &mut (dyn futures::Stream<Item = Result<watcher::Event<ConfigMap>, watcher::Error>> + Unpin),
               name: &str| {
            let reading = async {
                while !store.state().iter().any(|object| object.name_any() == name) {
                    // Errors on the way (the 410 is one) are what the reflector recovers from.
                    let _recovered = stream.next().await.expect("the stream goes on");
                }
            };
            tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it is never seen");
        };
    seen(&mut stream, "early").await;
    for index in 0..10 {
        api.create(&PostParams::default(), &config_map(&format!("filler-{index}"), "1")).await.unwrap();
    }
    world.server.compact();
    api.create(&PostParams::default(), &config_map("late", "1")).await.unwrap();
    seen(&mut stream, "late").await;
    assert_eq!(store.state().len(), 12);
}

#[tokio::test]
async fn a_reflector_relists_after_410() {
    recovers(watcher::Config::default()).await;
}

#[tokio::test]
async fn a_streaming_reflector_restarts_after_410() {
    recovers(watcher::Config::default().streaming_lists()).await;
}

//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/>,
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>,
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>,
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/>

use serde_json::{Value, json};

use crate::world::{CONFIG_MAPS, JSON, WIDGETS, World, config_map, widget};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn owned_by(name: &str, owner: &Value, blocking: bool) -> Value {
    let mut body = config_map(name, "1");
    body["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": blocking,
    }]);
    body
}

fn gone(answer: &(u16, Value)) -> bool {
    answer.0 == 404
}

#[tokio::test]
async fn a_finalizer_holds_the_object_until_it_is_removed() {
    let world = World::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let mut body = config_map("a", "1");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.post(CONFIG_MAPS, body).await;
    let (code, waiting) = world.delete(&path).await;
    assert_eq!(code, 200);
    assert!(waiting["metadata"]["deletionTimestamp"].is_string(), "the object is answered, not a success");
    let (code, status) =
        world.merge(&path, json!({ "metadata": { "finalizers": ["example.com/hold", "example.com/more"] } })).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().unwrap().contains("no new finalizers can be added if the object is being deleted")
    );
    let (_, edited) = world.merge(&path, json!({ "data": { "key": "2" } })).await;
    assert_eq!(edited["data"]["key"], "2", "it can still be changed");
    assert_eq!(world.merge(&path, json!({ "metadata": { "finalizers": null } })).await.0, 200);
    assert_eq!(world.get(&path).await.0, 404);
}

#[tokio::test]
async fn dependents_follow_their_owner_unless_somebody_else_owns_them_too() {
    let world = World::start().await;
    let (_, one) = world.post(CONFIG_MAPS, config_map("one", "1")).await;
    let (_, two) = world.post(CONFIG_MAPS, config_map("two", "1")).await;
    world.post(CONFIG_MAPS, owned_by("child", &one, false)).await;
    let mut shared = owned_by("shared", &one, false);
    let mut reference = owned_by("x", &two, false)["metadata"]["ownerReferences"][0].clone();
    reference["controller"] = json!(false);
    shared["metadata"]["ownerReferences"].as_array_mut().unwrap().push(reference);
    world.post(CONFIG_MAPS, shared).await;
    world.delete(&format!("{CONFIG_MAPS}/one")).await;
    world.until(&format!("{CONFIG_MAPS}/child"), gone).await;
    let left = |answer: &(u16, Value)| {
        answer.1["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)
    };
    world.until(&format!("{CONFIG_MAPS}/shared"), left).await;
}

#[tokio::test]
async fn an_owner_that_never_was_takes_its_dependents_with_it() {
    let world = World::start().await;
    let nobody = json!({ "metadata": { "name": "nobody", "uid": "00000000-0000-0000-0000-000000000000" } });
    world.post(CONFIG_MAPS, owned_by("child", &nobody, false)).await;
    world.until(&format!("{CONFIG_MAPS}/child"), gone).await;
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let world = World::start().await;
    let (_, owner) = world.post(CONFIG_MAPS, config_map("owner", "1")).await;
    world.post(CONFIG_MAPS, owned_by("child", &owner, false)).await;
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan" });
    world.send("DELETE", &format!("{CONFIG_MAPS}/owner"), JSON, Some(&options)).await;
    world.until(&format!("{CONFIG_MAPS}/owner"), gone).await;
    let (code, child) = world.get(&format!("{CONFIG_MAPS}/child")).await;
    assert_eq!(code, 200);
    assert!(child["metadata"].get("ownerReferences").is_none());
}

#[tokio::test]
async fn foreground_deletion_waits_for_blocking_dependents() {
    let world = World::start().await;
    let (_, owner) = world.post(CONFIG_MAPS, config_map("owner", "1")).await;
    let mut child = owned_by("child", &owner, true);
    child["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.post(CONFIG_MAPS, child).await;
    world.delete(&format!("{CONFIG_MAPS}/owner?propagationPolicy=Foreground")).await;
    let deleting = |answer: &(u16, Value)| answer.1["metadata"]["deletionTimestamp"].is_string();
    world.until(&format!("{CONFIG_MAPS}/child"), deleting).await;
    let (code, owner) = world.get(&format!("{CONFIG_MAPS}/owner")).await;
    assert_eq!((code, &owner["metadata"]["finalizers"]), (200, &json!(["foregroundDeletion"])));
    world.merge(&format!("{CONFIG_MAPS}/child"), json!({ "metadata": { "finalizers": null } })).await;
    world.until(&format!("{CONFIG_MAPS}/owner"), gone).await;
}

#[tokio::test]
async fn a_deletion_may_name_the_object_it_means() {
    let world = World::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let (_, made) = world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let other = json!({ "preconditions": { "uid": "another" } });
    let (code, status) = world.send("DELETE", &path, JSON, Some(&other)).await;
    assert_eq!(code, 409);
    let why = format!("the UID in the precondition (another) does not match the UID in record ({uid})");
    let stated = format!("Precondition failed: UID in precondition: another, UID in object meta: {uid}");
    assert!(status["message"].as_str().unwrap().contains(&stated), "{status} ({why})");
    assert_eq!(world.send("DELETE", &path, JSON, Some(&json!({ "preconditions": { "uid": uid } }))).await.0, 200);
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let world = World::with_widgets().await;
    world.post("/api/v1/namespaces", json!({ "metadata": { "name": "team" } })).await;
    let inside = "/apis/shop.example.com/v1/namespaces/team/widgets";
    let mut held = widget("held", json!({ "color": "red" }));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(world.post(inside, held).await.0, 201);
    let (_, namespace) = world.delete("/api/v1/namespaces/team").await;
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let (code, status) = world.post("/api/v1/namespaces/team/configmaps", config_map("late", "1")).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().contains("because it is being terminated"));
    let deleting = |answer: &(u16, Value)| answer.1["metadata"]["deletionTimestamp"].is_string();
    world.until(&format!("{inside}/held"), deleting).await;
    world.merge(&format!("{inside}/held"), json!({ "metadata": { "finalizers": null } })).await;
    world.until("/api/v1/namespaces/team", gone).await;
}

#[tokio::test]
async fn a_definition_goes_with_its_objects_and_its_kind_with_it() {
    let world = World::with_widgets().await;
    world.post(WIDGETS, widget("a", json!({ "color": "red" }))).await;
    world.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.shop.example.com").await;
    world.until(WIDGETS, gone).await;
    let (_, again) =
        world.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crate::world::widgets()).await;
    assert_eq!(again["status"]["conditions"][1]["type"], "Established");
    assert_eq!(world.get(WIDGETS).await.1["items"], json!([]));
}

#[tokio::test]
async fn a_pod_on_a_node_keeps_its_grace_until_the_node_ends_it() {
    let world = World::start().await;
    let pod = |name: &str, node: Option<&str>| {
        let mut body =
            json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "main", "image": "x" }] } });
        if let Some(node) = node {
            body["spec"]["nodeName"] = json!(node);
        }
        body
    };
    world.post(PODS, pod("waiting", None)).await;
    assert_eq!(world.delete(&format!("{PODS}/waiting")).await.0, 200);
    assert_eq!(world.get(&format!("{PODS}/waiting")).await.0, 404, "nobody runs it");
    world.post(PODS, pod("running", Some("here"))).await;
    let (code, status) = world.merge(&format!("{PODS}/running"), json!({ "spec": { "hostname": "other" } })).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().unwrap().contains("spec: Forbidden: pod updates may not change fields other than")
    );
    let (_, ending) = world.delete(&format!("{PODS}/running")).await;
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(world.get(&format!("{PODS}/running")).await.0, 200);
    world.delete(&format!("{PODS}/running?gracePeriodSeconds=0")).await;
    assert_eq!(world.get(&format!("{PODS}/running")).await.0, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let world = World::start().await;
    for (name, tier) in [("a", "x"), ("b", "y")] {
        let mut body = config_map(name, "1");
        body["metadata"]["labels"] = json!({ "tier": tier });
        world.post(CONFIG_MAPS, body).await;
    }
    let (code, _) = world.delete(&format!("{CONFIG_MAPS}?labelSelector=tier%3Dx")).await;
    assert_eq!(code, 200);
    let (_, list) = world.get(CONFIG_MAPS).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

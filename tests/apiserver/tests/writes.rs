//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>: create, update, patch, concurrency, dry run, pagination;
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>.

use crate::world::{
    CONFIG_MAPS, DEPLOYMENTS, JSON, JSON_PATCH, STRATEGIC, WIDGETS, World, config_map, deployment, widget,
};
use serde_json::json;

#[tokio::test]
async fn a_second_create_of_the_same_name_already_exists() {
    let world = World::start().await;
    assert_eq!(world.post(CONFIG_MAPS, config_map("a", "1")).await.0, 201);
    let (code, status) = world.post(CONFIG_MAPS, config_map("a", "2")).await;
    assert_eq!((code, &status["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(status["message"], "configmaps \"a\" already exists");
    assert_eq!(status["details"], json!({ "name": "a", "group": "", "kind": "configmaps" }));
}

#[tokio::test]
async fn an_update_of_an_old_version_conflicts_and_changes_nothing() {
    let world = World::start().await;
    let (_, old) = world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let mut new = old.clone();
    new["data"]["key"] = json!("2");
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(world.put(&path, new).await.0, 200);
    let (code, status) = world.put(&path, old).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    let message = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
                   please apply your changes to the latest version and try again";
    assert_eq!(status["message"], message);
    assert_eq!(world.get(&path).await.1["data"]["key"], "2");
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let world = World::start().await;
    let (_, before) = world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let (_, after) = world.merge(&path, json!({ "data": { "key": "1" } })).await;
    assert_eq!(before["metadata"], after["metadata"]);
    let (_, after) = world.put(&path, before.clone()).await;
    assert_eq!(before["metadata"], after["metadata"]);
}

#[tokio::test]
async fn a_custom_object_is_updated_only_with_its_version() {
    let world = World::with_widgets().await;
    world.post(WIDGETS, widget("a", json!({ "color": "red" }))).await;
    let (code, status) = world.put(&format!("{WIDGETS}/a"), widget("a", json!({ "color": "blue" }))).await;
    assert_eq!(code, 422, "{status}");
    assert_eq!(status["details"]["causes"][0]["field"], "metadata.resourceVersion");
}

#[tokio::test]
async fn the_generation_counts_wishes_only() {
    let world = World::with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let (_, created) = world.post(WIDGETS, widget("a", json!({ "color": "red" }))).await;
    assert_eq!(created["metadata"]["generation"], 1);
    let (_, labelled) = world.merge(&path, json!({ "metadata": { "labels": { "a": "b" } } })).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let (_, reported) = world.merge(&format!("{path}/status"), json!({ "status": { "phase": "Fine" } })).await;
    assert_eq!((&reported["metadata"]["generation"], &reported["status"]["phase"]), (&json!(1), &json!("Fine")));
    let (_, wished) = world.merge(&path, json!({ "spec": { "color": "blue" } })).await;
    assert_eq!(wished["metadata"]["generation"], 2);
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#status-subresource>
#[tokio::test]
async fn the_status_door_writes_status_only_and_the_main_door_never() {
    let world = World::with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let mut body = widget("a", json!({ "color": "red" }));
    body["status"] = json!({ "phase": "Forged" });
    let (_, created) = world.post(WIDGETS, body).await;
    assert!(created.get("status").is_none());
    let change =
        json!({ "spec": { "color": "blue" }, "status": { "phase": "Fine" }, "metadata": { "labels": { "x": "y" } } });
    let (_, reported) = world.merge(&format!("{path}/status"), change.clone()).await;
    assert_eq!((&reported["spec"]["color"], &reported["status"]["phase"]), (&json!("red"), &json!("Fine")));
    assert!(reported["metadata"].get("labels").is_none());
    let (_, wished) = world.merge(&path, json!({ "spec": { "color": "blue" }, "status": { "phase": "Forged" } })).await;
    assert_eq!((&wished["spec"]["color"], &wished["status"]["phase"]), (&json!("blue"), &json!("Fine")));
}

#[tokio::test]
async fn the_scale_door_reads_and_writes_the_stated_fields() {
    let world = World::with_widgets().await;
    let path = format!("{WIDGETS}/a");
    world.post(WIDGETS, widget("a", json!({ "color": "red", "replicas": 2 }))).await;
    world.merge(&format!("{path}/status"), json!({ "status": { "replicas": 2, "selector": "app=a" } })).await;
    let (_, mut scale) = world.get(&format!("{path}/scale")).await;
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({ "replicas": 2 }), &json!({ "replicas": 2, "selector": "app=a" }))
    );
    scale["spec"]["replicas"] = json!(4);
    assert_eq!(world.put(&format!("{path}/scale"), scale.clone()).await.0, 200);
    assert_eq!(world.get(&path).await.1["spec"]["replicas"], 4);
    assert_eq!(world.put(&format!("{path}/scale"), scale).await.0, 409, "the version is old now");
}

#[tokio::test]
async fn a_dry_run_answers_and_keeps_nothing() {
    let world = World::start().await;
    let (code, answer) = world.post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("a", "1")).await;
    assert_eq!((code, answer["data"]["key"].as_str()), (201, Some("1")));
    assert_eq!(world.get(&format!("{CONFIG_MAPS}/a")).await.0, 404);
}

#[tokio::test]
async fn names_are_generated_from_a_prefix_and_checked() {
    let world = World::start().await;
    let (_, made) = world.post(CONFIG_MAPS, json!({ "metadata": { "generateName": "job-" } })).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("job-") && name.len() == 9, "{name}");
    let (code, status) = world.post(CONFIG_MAPS, config_map("Not_A_Name", "1")).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("ConfigMap \"Not_A_Name\" is invalid: metadata.name: Invalid value: \"Not_A_Name\": a lowercase RFC 1123 subdomain"), "{message}");
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_is_not_there() {
    let world = World::start().await;
    let (code, status) = world.post("/api/v1/namespaces/nowhere/configmaps", config_map("a", "1")).await;
    assert_eq!((code, status["message"].as_str()), (404, Some("namespaces \"nowhere\" not found")));
}

#[tokio::test]
async fn a_failing_test_of_a_json_patch_changes_nothing() {
    let world = World::start().await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let operations = json!([{ "op": "test", "path": "/data/key", "value": "9" }, { "op": "remove", "path": "/data" }]);
    assert_eq!(world.send("PATCH", &path, JSON_PATCH, Some(&operations)).await.0, 422);
    assert_eq!(world.get(&path).await.1["data"]["key"], "1");
}

/// <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>
#[tokio::test]
async fn a_strategic_merge_patch_joins_containers_by_name_and_is_not_for_custom_kinds() {
    let world = World::with_widgets().await;
    world.post(DEPLOYMENTS, deployment("web")).await;
    let containers =
        json!([{ "name": "sidecar", "image": "envoy:1" }, { "name": "main", "env": [{ "name": "A", "value": "1" }] }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    let (code, patched) = world.send("PATCH", &format!("{DEPLOYMENTS}/web"), STRATEGIC, Some(&patch)).await;
    assert_eq!(code, 200, "{patched}");
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert_eq!((&containers[0]["image"], &containers[0]["env"][0]["value"]), (&json!("nginx:1"), &json!("1")));
    let gone =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "sidecar", "$patch": "delete" }] } } } });
    let (_, patched) = world.send("PATCH", &format!("{DEPLOYMENTS}/web"), STRATEGIC, Some(&gone)).await;
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    world.post(WIDGETS, widget("a", json!({ "color": "red" }))).await;
    assert_eq!(world.send("PATCH", &format!("{WIDGETS}/a"), STRATEGIC, Some(&json!({}))).await.0, 415);
}

#[tokio::test]
async fn a_list_is_read_in_pages_of_one_moment() {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.post(CONFIG_MAPS, config_map(name, "1")).await;
    }
    let (_, first) = world.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    world.delete(&format!("{CONFIG_MAPS}/c")).await;
    world.post(CONFIG_MAPS, config_map("d", "1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    let names: Vec<_> =
        second["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["c"], "deleted since, but there when the list began");
    world.server.compact();
    let (code, status) = world.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, status["reason"].as_str()), (410, Some("Expired")));
}

#[tokio::test]
async fn selectors_narrow_lists_and_unknown_fields_are_refused() {
    let world = World::with_widgets().await;
    for (name, color, tier) in [("a", "red", "x"), ("b", "blue", "y"), ("c", "red", "z")] {
        let mut body = widget(name, json!({ "color": color }));
        body["metadata"]["labels"] = json!({ "tier": tier });
        world.post(WIDGETS, body).await;
    }
    for (query, expected) in [
        ("labelSelector=tier%3Dx", "a"),
        ("labelSelector=tier%20in%20(x,y)", "ab"),
        ("labelSelector=tier%20notin%20(x),tier", "bc"),
        ("labelSelector=!tier", ""),
        ("labelSelector=tier!%3Dx", "bc"),
        ("fieldSelector=spec.color%3Dred", "ac"),
        ("fieldSelector=metadata.name%3Db", "b"),
        ("fieldSelector=spec.color%3Dred,metadata.name!%3Da", "c"),
    ] {
        let (_, list) = world.get(&format!("{WIDGETS}?{query}")).await;
        let names: String =
            list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{query}");
    }
    let (code, status) = world.get(&format!("{WIDGETS}?fieldSelector=spec.note%3Dx")).await;
    assert_eq!((code, status["message"].as_str()), (400, Some("field label not supported: spec.note")));
}

/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data>,
/// <https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable>
#[tokio::test]
async fn config_and_secrets_keep_their_own_rules() {
    let world = World::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let (_, secret) = world.post(secrets, json!({ "metadata": { "name": "s" }, "stringData": { "a": "b" } })).await;
    assert_eq!((&secret["data"]["a"], &secret["type"]), (&json!("Yg=="), &json!("Opaque")));
    assert!(secret.get("stringData").is_none());
    let big = json!({ "metadata": { "name": "big" }, "data": { "key": "x".repeat(1024 * 1024 + 1) } });
    let (code, status) = world.post(CONFIG_MAPS, big).await;
    assert_eq!(code, 422, "{status}");
    assert!(status["message"].as_str().unwrap().contains("Too long: may not be more than 1048576 bytes"));
    let mut fixed = config_map("fixed", "1");
    fixed["immutable"] = json!(true);
    world.post(CONFIG_MAPS, fixed).await;
    let (code, status) = world.merge(&format!("{CONFIG_MAPS}/fixed"), json!({ "data": { "key": "2" } })).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().unwrap().contains("data: Forbidden: field is immutable when `immutable` is set")
    );
}

#[tokio::test]
async fn a_deployment_gets_the_documented_defaults_and_keeps_its_selector() {
    let world = World::start().await;
    let (_, made) = world.post(DEPLOYMENTS, deployment("web")).await;
    let spec = &made["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]["rollingUpdate"]["maxSurge"]), (&json!(1), &json!("25%")));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    let change = json!({ "spec": { "selector": { "matchLabels": { "app": "other" } } } });
    let (code, status) = world.merge(&format!("{DEPLOYMENTS}/web"), change).await;
    assert_eq!(code, 422, "{status}");
    let mut wrong = deployment("wrong");
    wrong["spec"]["template"]["metadata"]["labels"] = json!({ "app": "else" });
    let (code, status) = world.post(DEPLOYMENTS, wrong).await;
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().contains("`selector` does not match template `labels`"));
}

#[tokio::test]
async fn what_is_not_the_kind_is_a_bad_request() {
    let world = World::start().await;
    for body in [
        json!("text"),
        json!({ "apiVersion": "v2", "kind": "ConfigMap" }),
        json!({ "kind": "Secret" }),
        json!({ "metadata": "x" }),
    ] {
        let (code, status) = world.post(CONFIG_MAPS, body.clone()).await;
        assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")), "{body}");
    }
    let mut wrong = deployment("web");
    wrong["spec"]["replicas"] = json!("three");
    let (code, status) = world.post(DEPLOYMENTS, wrong).await;
    assert_eq!(code, 400);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal"),
        "{message}"
    );
    assert_eq!(world.send("POST", CONFIG_MAPS, "text/csv", Some(&json!("a,b"))).await.0, 415);
    assert_eq!(world.send("PUT", CONFIG_MAPS, JSON, Some(&json!({}))).await.0, 405);
    assert_eq!(world.get("/apis/none.example.com/v1/things").await.0, 404);
}

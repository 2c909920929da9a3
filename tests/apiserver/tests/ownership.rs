//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use serde_json::{Value, json};

use crate::world::{DEPLOYMENTS, WIDGETS, World, deployment, widget};

fn a() -> String {
    format!("{WIDGETS}/a")
}

fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| format!("{} {}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn apply_creates_then_changes_and_records_what_was_said() {
    let world = World::with_widgets().await;
    let (code, made) = world.apply(&a(), "me", widget("a", json!({ "color": "red", "limits": { "cpu": 1 } }))).await;
    assert_eq!(code, 201, "{made}");
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["operation"], &entry["fieldsType"]),
        (&json!("me"), &json!("Apply"), &json!("FieldsV1"))
    );
    assert_eq!(
        entry["fieldsV1"],
        json!({ "f:spec": { "f:color": {}, "f:limits": { "f:cpu": {} } } }),
        "not what was defaulted"
    );
    let (code, again) = world.apply(&a(), "me", widget("a", json!({ "color": "red", "limits": { "cpu": 1 } }))).await;
    assert_eq!((code, &again["metadata"]), (200, &made["metadata"]), "the same again changes nothing");
}

#[tokio::test]
async fn what_defaults_put_into_a_struct_goes_with_it() {
    let world = World::with_widgets().await;
    let (_, made) = world.apply(&a(), "me", widget("a", json!({ "color": "red", "box": { "size": 1 } }))).await;
    assert_eq!(made["spec"]["box"], json!({ "size": 1, "paper": "plain" }));
    let (_, after) = world.apply(&a(), "me", widget("a", json!({ "color": "red" }))).await;
    assert!(after["spec"].get("box").is_none(), "{after}");
    // What somebody else says of it stays.
    world.apply(&a(), "me", widget("a", json!({ "color": "red", "box": { "size": 1 } }))).await;
    world.apply(&a(), "other&force=true", widget("a", json!({ "color": "red", "box": { "paper": "gold" } }))).await;
    let (_, after) = world.apply(&a(), "me", widget("a", json!({ "color": "red" }))).await;
    assert_eq!(after["spec"]["box"], json!({ "paper": "gold" }));
}

#[tokio::test]
async fn what_another_manager_holds_conflicts_until_it_is_forced() {
    let world = World::with_widgets().await;
    world.apply(&a(), "one", widget("a", json!({ "color": "red", "note": "x" }))).await;
    let (code, status) = world.apply(&a(), "two", widget("a", json!({ "color": "blue" }))).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(status["message"], "Apply failed with 1 conflict: conflict with \"one\": .spec.color");
    let cause = json!({ "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.color" });
    assert_eq!(status["details"]["causes"], json!([cause]));
    let (code, taken) = world.apply(&a(), "two&force=true", widget("a", json!({ "color": "blue" }))).await;
    assert_eq!((code, &taken["spec"]["color"]), (200, &json!("blue")));
    // Saying the same as another is no conflict: both own it then.
    let (code, _) = world.apply(&a(), "three", widget("a", json!({ "color": "blue" }))).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn several_conflicts_are_told_by_manager() {
    let world = World::with_widgets().await;
    world.apply(&a(), "one", widget("a", json!({ "color": "red", "note": "x" }))).await;
    let (_, status) = world.apply(&a(), "two", widget("a", json!({ "color": "blue", "note": "y" }))).await;
    let message = "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.color\n- .spec.note";
    assert_eq!(status["message"], message);
}

#[tokio::test]
async fn what_is_no_longer_said_goes_unless_somebody_else_says_it() {
    let world = World::with_widgets().await;
    world
        .apply(&a(), "one", widget("a", json!({ "color": "red", "note": "x", "weight": 3, "limits": { "cpu": 1 } })))
        .await;
    world.apply(&a(), "two", widget("a", json!({ "color": "red", "weight": 3 }))).await;
    let (_, left) = world.apply(&a(), "one", widget("a", json!({ "color": "red" }))).await;
    assert!(left["spec"].get("note").is_none() && left["spec"].get("limits").is_none(), "{left}");
    assert_eq!(left["spec"]["weight"], 3, "two still says so");
    assert_eq!(left["spec"]["replicas"], 1, "a default stays");
}

#[tokio::test]
async fn items_of_a_list_map_have_owners_of_their_own() {
    let world = World::with_widgets().await;
    world
        .apply(
            &a(),
            "one",
            widget("a", json!({ "color": "red", "ports": [{ "name": "http", "port": 80 }], "tags": ["x"] })),
        )
        .await;
    let (code, both) = world
        .apply(
            &a(),
            "two",
            widget("a", json!({ "color": "red", "ports": [{ "name": "grpc", "port": 90 }], "tags": ["y"] })),
        )
        .await;
    assert_eq!(code, 200, "{both}");
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2);
    assert_eq!(both["spec"]["tags"], json!(["x", "y"]));
    let two = both["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["manager"] == "two")
        .unwrap_or_else(|| panic!("{both}"));
    let expected = json!({ ".": {}, "f:name": {}, "f:port": {} });
    assert_eq!(two["fieldsV1"]["f:spec"]["f:ports"]["k:{\"name\":\"grpc\"}"], expected);
    assert_eq!(two["fieldsV1"]["f:spec"]["f:tags"], json!({ "v:\"y\"": {} }));
    let (_, left) = world.apply(&a(), "one", widget("a", json!({ "color": "red" }))).await;
    assert_eq!(
        (&left["spec"]["ports"][0]["name"], left["spec"]["ports"].as_array().unwrap().len()),
        (&json!("grpc"), 1)
    );
    assert_eq!(left["spec"]["tags"], json!(["y"]));
}

#[tokio::test]
async fn an_atomic_list_is_owned_whole() {
    let world = World::with_widgets().await;
    world.apply(&a(), "one", widget("a", json!({ "color": "red", "plain": ["x"] }))).await;
    let (code, status) = world.apply(&a(), "two", widget("a", json!({ "color": "red", "plain": ["y"] }))).await;
    assert_eq!((code, status["details"]["causes"][0]["field"].as_str()), (409, Some(".spec.plain")));
}

#[tokio::test]
async fn an_update_takes_what_it_changes_and_then_conflicts_with_apply() {
    let world = World::with_widgets().await;
    world.apply(&a(), "one", widget("a", json!({ "color": "red" }))).await;
    let (_, changed) =
        world.merge(&format!("{}?fieldManager=editor", a()), json!({ "spec": { "color": "blue" } })).await;
    assert_eq!(owners(&changed), ["editor Update"], "nothing is left of what one said");
    let (code, status) = world.apply(&a(), "one", widget("a", json!({ "color": "red" }))).await;
    assert_eq!(code, 409);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Apply failed with 1 conflict: conflict with \"editor\" using shop.example.com/v1 at "),
        "{message}"
    );
}

#[tokio::test]
async fn status_has_its_own_owners() {
    let world = World::with_widgets().await;
    let spec_and_status = |phase: &str| {
        let mut body = widget("a", json!({ "color": "red" }));
        body["status"] = json!({ "phase": phase, "conditions": [{ "type": "Ready", "status": "True" }] });
        body
    };
    world.apply(&a(), "me", spec_and_status("Ignored")).await;
    let (code, reported) = world.apply(&format!("{}/status", a()), "reporter", spec_and_status("Fine")).await;
    assert_eq!(code, 200, "{reported}");
    assert_eq!(reported["status"]["phase"], "Fine");
    let entries = reported["metadata"]["managedFields"].as_array().unwrap();
    let status_owner = entries.iter().find(|entry| entry["manager"] == "reporter").unwrap();
    assert_eq!(status_owner["subresource"], "status");
    assert!(
        status_owner["fieldsV1"].get("f:spec").is_none() && status_owner["fieldsV1"].get("f:status").is_some(),
        "{status_owner}"
    );
    let mine = entries.iter().find(|entry| entry["manager"] == "me").unwrap();
    assert!(mine["fieldsV1"].get("f:status").is_none(), "{mine}");
    let (code, _) =
        world.apply(&format!("{WIDGETS}/nobody/status"), "reporter", widget("nobody", json!({ "color": "red" }))).await;
    assert_eq!(code, 404, "a status alone creates nothing");
}

#[tokio::test]
async fn an_apply_patch_needs_a_manager_a_type_and_no_owners() {
    let world = World::with_widgets().await;
    let (code, status) =
        world.send("PATCH", &a(), crate::world::APPLY, Some(&widget("a", json!({ "color": "red" })))).await;
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().contains("fieldManager: Required value: is required for apply patch"));
    assert_eq!(world.apply(&a(), "me", json!({ "spec": { "color": "red" } })).await.0, 400);
    let mut owned = widget("a", json!({ "color": "red" }));
    owned["metadata"]["managedFields"] = json!([]);
    let (code, status) = world.apply(&a(), "me", owned).await;
    assert_eq!((code, status["message"].as_str()), (400, Some("metadata.managedFields must be nil")));
    let (code, status) = world.apply(&a(), "me", widget("a", json!({ "color": "red", "strange": 1 }))).await;
    assert_eq!(code, 500);
    let message = "failed to create typed patch object (default/a; shop.example.com/v1, Kind=Widget): .spec.strange: field not declared in schema";
    assert_eq!(status["message"], message);
}

#[tokio::test]
async fn built_in_lists_are_joined_by_their_keys() {
    let world = World::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut body = deployment("web");
    body["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80 }]);
    world.apply(&path, "one", body.clone()).await;
    let sidecar = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "template": { "spec": { "containers": [{ "name": "main", "env": [{ "name": "A", "value": "1" }] }] } } },
    });
    let (code, both) = world.apply(&path, "two", sidecar).await;
    assert_eq!(code, 200, "{both}");
    let container = &both["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["env"][0]["value"], &container["ports"][0]["protocol"]),
        (&json!("nginx:1"), &json!("1"), &json!("TCP"))
    );
    let (code, again) = world.apply(&path, "one", body).await;
    assert_eq!(
        (code, &again["metadata"]["resourceVersion"]),
        (200, &both["metadata"]["resourceVersion"]),
        "nothing changed"
    );
    let (code, status) = world
        .apply(
            &path,
            "three",
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
                "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": "nginx:2" }] } } },
            }),
        )
        .await;
    assert_eq!(
        (code, status["details"]["causes"][0]["field"].as_str()),
        (409, Some(".spec.template.spec.containers[name=\"main\"].image"))
    );
}

#[tokio::test]
async fn an_empty_entry_forgets_all_owners() {
    let world = World::with_widgets().await;
    world.apply(&a(), "one", widget("a", json!({ "color": "red" }))).await;
    let (_, freed) = world.merge(&a(), json!({ "metadata": { "managedFields": [{}] } })).await;
    assert!(freed["metadata"].get("managedFields").is_none(), "{freed}");
    assert_eq!(world.apply(&a(), "two", widget("a", json!({ "color": "blue" }))).await.0, 200);
}

//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>: structural schemas,
//! pruning, defaulting, validation rules, ratcheting, and which definitions are refused.

use serde_json::{Value, json};

use crate::world::{JSON, MERGE, WIDGETS, World, widget, widgets};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The message with which a spec is refused.
async fn refused(world: &World, spec: Value) -> String {
    let (code, status) = world.post(WIDGETS, widget("a", spec)).await;
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{status}");
    status["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn missing_fields_get_their_defaults_deep_in_lists_too() {
    let world = World::with_widgets().await;
    let (_, made) = world.post(WIDGETS, widget("a", json!({ "color": "red", "ports": [{ "name": "http" }] }))).await;
    assert_eq!((&made["spec"]["replicas"], &made["spec"]["ports"][0]["protocol"]), (&json!(1), &json!("TCP")));
    let (_, unset) = world.merge(&format!("{WIDGETS}/a"), json!({ "spec": { "replicas": null } })).await;
    assert_eq!(unset["spec"]["replicas"], 1);
}

#[tokio::test]
async fn unknown_fields_are_pruned_warned_of_or_refused() {
    let world = World::with_widgets().await;
    let body = |name: &str| {
        widget(
            name,
            json!({ "color": "red", "colour": "red", "free": { "any": [1] }, "ports": [{ "name": "x", "y": 1 }] }),
        )
    };
    let (_, made) = world.post(WIDGETS, body("a")).await;
    assert!(made["spec"].get("colour").is_none() && made["spec"]["ports"][0].get("y").is_none(), "{made}");
    assert_eq!(made["spec"]["free"], json!({ "any": [1] }));
    let warnings = world.warnings("POST", WIDGETS, JSON, body("b")).await;
    assert_eq!(
        warnings,
        ["299 - \"unknown field \\\"spec.colour\\\"\"", "299 - \"unknown field \\\"spec.ports[0].y\\\"\""]
    );
    assert!(world.warnings("POST", &format!("{WIDGETS}?fieldValidation=Ignore"), JSON, body("c")).await.is_empty());
    let (code, status) = world.post(&format!("{WIDGETS}?fieldValidation=Strict"), body("d")).await;
    assert_eq!(code, 400);
    let message = "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.colour\", unknown field \"spec.ports[0].y\"";
    assert_eq!(status["message"], message);
    let (code, _) = world
        .send("PATCH", &format!("{WIDGETS}/a?fieldValidation=Strict"), MERGE, Some(&json!({ "spec": { "colour": 1 } })))
        .await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn each_keyword_refuses_in_the_api_servers_words() {
    let world = World::with_widgets().await;
    let prefix = "Widget.shop.example.com \"a\" is invalid: ";
    for (spec, message) in [
        (
            json!({ "color": "red", "replicas": -1 }),
            "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
        ),
        (
            json!({ "color": "red", "serial": "ABC" }),
            "spec.serial: Invalid value: \"ABC\": spec.serial in body should match '^[a-z]+$'",
        ),
        (
            json!({ "color": "red", "since": "today" }),
            "spec.since: Invalid value: \"today\": spec.since in body must be of type date-time: \"today\"",
        ),
    ] {
        assert_eq!(refused(&world, spec).await, format!("{prefix}{message}"));
    }
    for (spec, message) in [
        (json!({}), "spec.color: Required value"),
        (
            json!({ "color": "pink" }),
            "spec.color: Unsupported value: \"pink\": supported values: \"red\", \"green\", \"blue\"",
        ),
        // Neither a string nor one of these.
        (json!({ "color": 3 }), "spec.color: Unsupported value: 3: supported values: \"red\", \"green\", \"blue\""),
        (
            json!({ "color": 3 }),
            "spec.color: Invalid value: \"integer\": spec.color in body must be of type string: \"integer\"",
        ),
        (
            json!({ "color": "red", "weight": true }),
            "spec.weight: Invalid value: \"boolean\": spec.weight in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({ "color": "red", "plain": ["a", "b", "c", "d"] }),
            "spec.plain: Too many: 4: must have at most 3 items",
        ),
        (json!({ "color": "red", "serial": "abcdefghi" }), "spec.serial: Too long: may not be more than 8 bytes"),
        (json!({ "color": "red", "tags": ["x", "x"] }), "spec.tags[1]: Duplicate value: \"x\""),
        (
            json!({ "color": "red", "ports": [{ "name": "x" }, { "name": "x" }] }),
            "spec.ports[1]: Duplicate value: {\"name\":\"x\"}",
        ),
        (
            json!({ "color": "red", "limits": { "cpu": "one" } }),
            "spec.limits.cpu: Invalid value: \"string\": spec.limits.cpu in body must be of type integer: \"string\"",
        ),
        (json!({ "color": "red", "replicas": 3_000_000_000_i64 }), "spec.replicas: Invalid value: 3000000000"),
    ] {
        let text = refused(&world, spec).await;
        assert!(text.contains(message), "{text}");
    }
    assert_eq!(
        world.post(WIDGETS, widget("null", json!({ "color": "red", "maybe": null }))).await.1["spec"]["maybe"],
        Value::Null
    );
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>
#[tokio::test]
async fn rules_refuse_with_their_own_sentence() {
    let world = World::with_widgets().await;
    let message = refused(&world, json!({ "color": "blue", "replicas": 9 })).await;
    assert_eq!(
        message,
        "Widget.shop.example.com \"a\" is invalid: spec: Invalid value: only red widgets may have more than five"
    );
    let (_, status) = world.post(WIDGETS, widget("a", json!({ "color": "blue", "note": "secret" }))).await;
    let cause =
        json!({ "reason": "FieldValueForbidden", "message": "Forbidden: not in a note of blue", "field": "spec.note" });
    assert_eq!(status["details"]["causes"], json!([cause]));
    assert_eq!(world.post(WIDGETS, widget("a", json!({ "color": "red", "replicas": 9 }))).await.0, 201);
}

#[tokio::test]
async fn a_transition_rule_is_asked_on_updates_only() {
    let world = World::with_widgets().await;
    assert_eq!(world.post(WIDGETS, widget("a", json!({ "color": "red", "serial": "abc" }))).await.0, 201);
    let (code, status) = world.merge(&format!("{WIDGETS}/a"), json!({ "spec": { "serial": "xyz" } })).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "Widget.shop.example.com \"a\" is invalid: spec.serial: Invalid value: \"xyz\": is immutable"
    );
    assert_eq!(world.merge(&format!("{WIDGETS}/a"), json!({ "spec": { "serial": "abc", "note": "x" } })).await.0, 200);
}

#[tokio::test]
async fn rules_wait_until_the_values_are_sound() {
    let world = World::with_widgets().await;
    let note = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    for spec in [json!({ "color": "blue", "replicas": "nine" }), json!({ "color": "pink", "replicas": 9 })] {
        let message = refused(&world, spec).await;
        assert!(message.contains(note), "{message}");
        assert!(!message.contains("only red widgets"), "{message}");
    }
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting>
#[tokio::test]
async fn what_an_update_leaves_alone_is_not_judged_again() {
    let world = World::with_widgets().await;
    world.post(WIDGETS, widget("a", json!({ "color": "green" }))).await;
    let narrower = json!([{ "op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color/enum/1" }]);
    let path = format!("{DEFINITIONS}/widgets.shop.example.com");
    assert_eq!(world.send("PATCH", &path, crate::world::JSON_PATCH, Some(&narrower)).await.0, 200);
    assert_eq!(world.post(WIDGETS, widget("b", json!({ "color": "green" }))).await.0, 422);
    let (code, status) = world.merge(&format!("{WIDGETS}/a"), json!({ "spec": { "note": "x" } })).await;
    assert_eq!(code, 200, "{status}");
}

#[tokio::test]
async fn a_definition_that_is_not_structural_is_refused() {
    let world = World::start().await;
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut body = widgets();
        edit(&mut body);
        body
    };
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let at = |body: &mut Value, path: &str, value: Value| *body.pointer_mut(path).unwrap() = value;
    let rule = |body: &mut Value, rule: &str| {
        at(body, &format!("{schema}/properties/spec/x-kubernetes-validations/0/rule"), json!(rule));
    };
    let cases: [(Value, &str); 11] = [
        (with(&|body| at(body, "/metadata/name", json!("other.example.com"))), "metadata.name: Invalid value"),
        (with(&|body| at(body, &format!("{schema}/type"), json!("string"))), "must be object at the root"),
        (
            with(&|body| at(body, &format!("{schema}/properties/spec/properties/color"), json!({}))),
            "properties[color].type: Required value",
        ),
        (
            with(&|body| at(body, &format!("{schema}/properties/spec/properties/plain"), json!({ "type": "array" }))),
            "properties[plain].items: Required value",
        ),
        (
            with(&|body| at(body, &format!("{schema}/properties/spec/properties/serial/pattern"), json!("("))),
            "must be a valid regular expression",
        ),
        (
            with(&|body| at(body, &format!("{schema}/properties/spec/properties/replicas/default"), json!("one"))),
            "must be of type integer",
        ),
        (
            with(&|body| {
                at(body, &format!("{schema}/properties/spec/x-kubernetes-validations/0/rule"), json!("self.("));
            }),
            "compilation failed",
        ),
        (
            with(&|body| at(body, &format!("{schema}/properties/spec/properties/ports/items/required"), json!([]))),
            "it must have a default or be a required property",
        ),
        (with(&|body| rule(body, "self.colour == 'red'")), "undefined field 'colour'"),
        (with(&|body| rule(body, "self.ports.all(port, port.number > 0)")), "undefined field 'number'"),
        (with(&|body| rule(body, "object.color == 'red'")), "undeclared reference to 'object'"),
    ];
    for (body, expected) in cases {
        let (code, status) = world.post(DEFINITIONS, body).await;
        assert_eq!(code, 422, "{status}");
        assert!(status["message"].as_str().unwrap().contains(expected), "{expected}: {status}");
    }
}

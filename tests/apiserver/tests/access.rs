//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>,
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>,
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use serde_json::{Value, json};

use crate::world::{CONFIG_MAPS, World, config_map};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const ROBOT: &str = "system:serviceaccount:default:robot";

fn role(name: &str, rules: Value) -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name }, "rules": rules })
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

fn binding(name: &str, kind: &str, role: &str, account: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": "default" }],
    })
}

async fn made(world: &World, path: &str, body: Value) {
    let (code, answer) = world.post(path, body).await;
    assert_eq!(code, 201, "{answer}");
}

/// A world with a ServiceAccount that may do what `rules` say; and its token.
async fn with_robot(rules: Value) -> (World, String) {
    let world = World::start().await;
    made(&world, "/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "robot" } })).await;
    made(&world, ROLES, role("robot", rules)).await;
    made(&world, BINDINGS, binding("robot", "Role", "robot", "robot")).await;
    let (code, issued) =
        world.post("/api/v1/namespaces/default/serviceaccounts/robot/token", json!({ "spec": {} })).await;
    assert_eq!(code, 201, "{issued}");
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    (world, token)
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_no_more() {
    let (world, token) = with_robot(json!([rule("", &["configmaps"], &["get", "list"])])).await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let robot = world.user(&token);
    assert_eq!(robot.get(&format!("{CONFIG_MAPS}/a")).await.0, 200);
    let (code, status) = robot.delete(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")));
    let message = format!(
        "configmaps \"a\" is forbidden: User \"{ROBOT}\" cannot delete resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(status["message"], message.as_str());
    let (_, status) = robot.get("/api/v1/configmaps").await;
    let message = format!(
        "configmaps is forbidden: User \"{ROBOT}\" cannot list resource \"configmaps\" in API group \"\" at the cluster scope"
    );
    assert_eq!(status["message"], message.as_str());
    // What is not there is not told to who may not ask for it.
    assert_eq!(robot.get("/apis/none.example.com/v1/namespaces/default/things").await.0, 403);
    assert_eq!(robot.get("/apis/apps/v1").await.0, 200, "discovery is for everybody who has a name");
    let (code, status) = robot.get("/standin/audit").await;
    assert_eq!(
        (code, status["message"].as_str()),
        (403, Some(format!("forbidden: User \"{ROBOT}\" cannot get path \"/standin/audit\"").as_str()))
    );
}

#[tokio::test]
async fn without_a_token_one_is_anonymous_and_with_a_wrong_one_nobody() {
    let world = World::start().await;
    let (code, status) = world.user("").get(CONFIG_MAPS).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().contains("User \"system:anonymous\" cannot list"), "{status}");
    assert_eq!(world.user("").get("/readyz").await.0, 200);
    let (code, status) = world.user("wrong").get(CONFIG_MAPS).await;
    assert_eq!((code, status["reason"].as_str()), (401, Some("Unauthorized")));
}

#[tokio::test]
async fn a_token_dies_with_its_service_account() {
    let (world, token) = with_robot(json!([rule("", &["configmaps"], &["list"])])).await;
    assert_eq!(world.user(&token).get(CONFIG_MAPS).await.0, 200);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    world.delete(&format!("{accounts}/robot")).await;
    made(&world, accounts, json!({ "metadata": { "name": "robot" } })).await;
    assert_eq!(world.user(&token).get(CONFIG_MAPS).await.0, 401, "another of the same name is another");
    let (code, status) =
        world.post(&format!("{accounts}/robot/token"), json!({ "spec": { "expirationSeconds": 60 } })).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().unwrap().ends_with("may not specify a duration less than 10 minutes"),
        "{status}"
    );
}

#[tokio::test]
async fn names_subresources_and_stars_are_rules_too() {
    let named = json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list", "watch"] });
    let (world, token) = with_robot(json!([named, rule("*", &["deployments/status"], &["*"])])).await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let robot = world.user(&token);
    assert_eq!(robot.get(&format!("{CONFIG_MAPS}/a")).await.0, 200);
    assert_eq!(robot.get(&format!("{CONFIG_MAPS}/b")).await.0, 403);
    assert_eq!(robot.get(CONFIG_MAPS).await.0, 403);
    assert_eq!(robot.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Da")).await.0, 200);
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(robot.get(&format!("{deployments}/none/status")).await.0, 404);
    assert_eq!(robot.get(&format!("{deployments}/none")).await.0, 403);
}

#[tokio::test]
async fn an_apply_that_creates_needs_the_right_to_create() {
    let (world, token) = with_robot(json!([rule("", &["configmaps"], &["patch"])])).await;
    world.post(CONFIG_MAPS, config_map("a", "1")).await;
    let robot = world.user(&token);
    assert_eq!(robot.apply(&format!("{CONFIG_MAPS}/a"), "me&force=true", config_map("a", "2")).await.0, 200);
    let (code, status) = robot.apply(&format!("{CONFIG_MAPS}/b"), "me", config_map("b", "2")).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().contains("cannot create resource \"configmaps\""), "{status}");
}

#[tokio::test]
async fn nobody_hands_out_rights_that_they_do_not_have() {
    let rules = json!([
        rule("", &["configmaps"], &["get", "list"]),
        rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &["create", "patch", "update"]),
    ]);
    let (world, token) = with_robot(rules).await;
    let robot = world.user(&token);
    made(&robot, ROLES, role("lesser", json!([rule("", &["configmaps"], &["get"])]))).await;
    let greater =
        role("greater", json!([rule("", &["configmaps"], &["get", "watch"]), rule("", &["secrets"], &["get"])]));
    let (code, status) = robot.post(ROLES, greater.clone()).await;
    assert_eq!(code, 403);
    let message = format!(
        "roles.rbac.authorization.k8s.io \"greater\" is forbidden: user \"{ROBOT}\" (groups=[\"system:serviceaccounts\" \
         \"system:serviceaccounts:default\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"watch\"]}}\n{{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}}"
    );
    assert_eq!(status["message"], message.as_str());
    // A binding hands out as much as a role does.
    made(&world, ROLES, greater).await;
    assert_eq!(robot.post(BINDINGS, binding("b", "Role", "greater", "robot")).await.0, 403);
    made(&robot, BINDINGS, binding("b", "Role", "lesser", "robot")).await;
    assert_eq!(
        robot.post(BINDINGS, binding("c", "Role", "absent", "robot")).await.0,
        404,
        "what is absent cannot be measured"
    );
    // Labels of a role that is greater than oneself are no rights.
    let (code, _) = robot.merge(&format!("{ROLES}/greater"), json!({ "metadata": { "labels": { "a": "b" } } })).await;
    assert_eq!(code, 200);
    // `escalate` and `bind` are the ways around it.
    let rules = json!([rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &["create", "escalate", "bind"])]);
    world.merge(&format!("{ROLES}/robot"), json!({ "rules": rules })).await;
    made(&robot, ROLES, role("any", json!([rule("*", &["*"], &["*"])]))).await;
    made(&robot, BINDINGS, binding("any", "Role", "any", "robot")).await;
    assert_eq!(robot.get("/api/v1/namespaces/default/secrets").await.0, 200);
}

#[tokio::test]
async fn whoever_may_impersonate_has_the_rights_of_the_other() {
    let world = World::start().await;
    let view = json!({
        "metadata": { "name": "viewers" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "people" }],
    });
    made(&world, BINDINGS, view).await;
    world
        .until(&format!("{CLUSTER_ROLES}/view"), |(_, role)| {
            role["rules"].as_array().is_some_and(|rules| !rules.is_empty())
        })
        .await;
    let alice = [("impersonate-user", "alice"), ("impersonate-group", "people")];
    let (code, _) = world.send_with("GET", CONFIG_MAPS, &alice).await;
    assert_eq!(code, 200);
    let (code, status) = world.send_with("GET", "/api/v1/namespaces/default/secrets", &alice).await;
    assert_eq!(code, 403);
    assert!(
        status["message"].as_str().unwrap().contains("User \"alice\" cannot list resource \"secrets\""),
        "{status}"
    );
    let (world, token) = with_robot(json!([])).await;
    let (code, status) = world.user(&token).send_with("GET", CONFIG_MAPS, &alice).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().contains("cannot impersonate resource \"users\""), "{status}");
}

#[tokio::test]
async fn a_role_with_the_right_label_joins_the_aggregated_ones() {
    let world = World::start().await;
    let mut fresh = role("gadget-view", json!([rule("shop.example.com", &["gadgets"], &["get"])]));
    fresh["kind"] = json!("ClusterRole");
    fresh["metadata"]["labels"] = json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" });
    made(&world, CLUSTER_ROLES, fresh).await;
    for name in ["view", "edit", "admin"] {
        let path = format!("{CLUSTER_ROLES}/{name}");
        world.until(&path, |(_, role)| role["rules"].to_string().contains("gadgets")).await;
    }
}

#[tokio::test]
async fn every_kind_of_request_is_noted_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit/one.jsonl");
    let world = World::with(apiserver::Options { audit: Some(path.clone()), ..Default::default() }).await;
    for _ in 0..2 {
        world.get(&format!("{CONFIG_MAPS}/none")).await;
    }
    let found =
        world.server.audit().into_iter().find(|(record, _)| record.verb == "get" && record.resource == "configmaps");
    let (record, count) = found.unwrap();
    assert_eq!(
        (record.user.as_str(), record.namespace.as_str(), record.code, count),
        ("tenantry:admin", "default", 404, 2)
    );
    let (_, told) = world.get("/standin/audit").await;
    assert!(
        told.as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["request"]["resource"] == "configmaps" && entry["count"] == 2)
    );
    let file = std::fs::read_to_string(path).unwrap();
    assert_eq!(file.lines().filter(|line| line.contains("\"configmaps\"")).count(), 1);
}

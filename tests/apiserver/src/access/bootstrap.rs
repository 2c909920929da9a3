//! The roles that every cluster has, and the aggregation of those that are made of others.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

use serde_json::{Value, json};

use super::{
    AUTHENTICATED, MASTERS,
    rbac::{CLUSTER_ROLES, GROUP, selects},
};
use crate::{
    api::{Api, Context, Target},
    object,
};

const READ: [&str; 3] = ["get", "list", "watch"];
const CHANGE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
/// Group and resources of what people work with in a namespace.
const WORK: [(&str, &[&str]); 6] = [
    ("", &["configmaps", "endpoints", "persistentvolumeclaims", "pods", "serviceaccounts", "services"]),
    ("apps", &["daemonsets", "deployments", "deployments/scale", "replicasets", "statefulsets", "statefulsets/scale"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

fn role(name: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name, "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" } },
        "rules": rules,
    })
}

fn aggregated(name: &str) -> Value {
    let mut aggregated = role(name, &json!([]));
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}");
    aggregated["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { label: "true" } }] });
    aggregated
}

/// What goes into an aggregated role.
fn part(name: &str, rules: Vec<Value>) -> Value {
    let mut part = role(&format!("system:aggregate-to-{name}"), &Value::Array(rules));
    part["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{name}")] = json!("true");
    part
}

fn binding(name: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> =
        groups.iter().map(|group| json!({ "apiGroup": GROUP, "kind": "Group", "name": group })).collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": name, "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" } },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": name },
        "subjects": subjects,
    })
}

/// Plural and object of everything, in the order in which a fresh cluster gets it.
pub fn objects() -> Vec<(&'static str, Value)> {
    let paths = |paths: &[&str]| json!([{ "nonResourceURLs": paths, "verbs": ["get"] }]);
    let everything = json!([
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
        { "nonResourceURLs": ["*"], "verbs": ["*"] },
    ]);
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let myself = json!([
        rule("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
        rule("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
    ]);
    let mut view: Vec<Value> = WORK.iter().map(|(group, resources)| rule(group, resources, &READ)).collect();
    view.push(rule(
        "",
        &["pods/log", "pods/status", "services/status", "namespaces", "events", "limitranges", "resourcequotas"],
        &READ,
    ));
    view.push(rule("discovery.k8s.io", &["endpointslices"], &READ));
    view.push(rule("apps", &["controllerrevisions", "deployments/status", "statefulsets/status"], &READ));
    let mut edit: Vec<Value> = WORK.iter().map(|(group, resources)| rule(group, resources, &CHANGE)).collect();
    edit.push(rule("", &["secrets"], &[&READ[..], &CHANGE[..]].concat()));
    edit.push(rule(
        "",
        &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"],
        &[&READ[..], &CHANGE[..]].concat(),
    ));
    edit.push(rule("", &["pods/eviction", "serviceaccounts/token"], &["create"]));
    edit.push(rule("", &["serviceaccounts"], &["impersonate"]));
    edit.push(rule("coordination.k8s.io", &["leases"], &[&READ[..], &CHANGE[..]].concat()));
    let admin = vec![
        rule(GROUP, &["rolebindings", "roles"], &[&READ[..], &CHANGE[..]].concat()),
        rule("authorization.k8s.io", &["localsubjectaccessreviews"], &["create"]),
    ];
    let mut roles = vec![
        role("cluster-admin", &everything),
        role("system:discovery", &paths(&discovery)),
        role("system:public-info-viewer", &paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"])),
        role("system:basic-user", &myself),
        aggregated("admin"),
        aggregated("edit"),
        aggregated("view"),
        part("admin", admin),
        part("edit", edit),
        part("view", view),
    ];
    // The greater ones are made of the lesser ones.
    for (name, into) in [("edit", "admin"), ("view", "edit")] {
        if let Some(role) = roles.iter_mut().find(|role| object::name(role) == name) {
            role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] = json!("true");
        }
    }
    let bindings = [
        binding("cluster-admin", &[MASTERS]),
        binding("system:discovery", &[AUTHENTICATED]),
        binding("system:public-info-viewer", &[AUTHENTICATED, "system:unauthenticated"]),
        binding("system:basic-user", &[AUTHENTICATED]),
    ];
    let roles = roles.into_iter().map(|role| ("clusterroles", role));
    roles.chain(bindings.into_iter().map(|binding| ("clusterrolebindings", binding))).collect()
}

/// Gives every aggregated role the rules of those that its selectors take. A change calls for the next round by itself.
pub fn aggregate(api: &Api) {
    let Some(kind) = api.registry.kinds().by_storage(CLUSTER_ROLES) else { return };
    let roles = api.store.collection(CLUSTER_ROLES).list(&api.store, "").items;
    for (key, role) in &roles {
        let aggregation = &role.value["aggregationRule"];
        if aggregation.is_null() || object::deleting(&role.value) {
            continue;
        }
        let mut joined: Vec<&Value> = Vec::new();
        for (_, other) in roles.iter().filter(|(other, entry)| other.1 != key.1 && selects(aggregation, &entry.value)) {
            for rule in other.value["rules"].as_array().into_iter().flatten() {
                if !joined.contains(&rule) {
                    joined.push(rule);
                }
            }
        }
        if role.value["rules"] == json!(joined) {
            continue;
        }
        let target = Target { kind: &kind, namespace: "", name: &key.1, subresource: "" };
        let patch = crate::patch::Patch::Merge(json!({ "rules": joined }));
        if let Err(error) = api.patch(target, &patch, &mut Context::internal()) {
            tracing::warn!(%error, "a role could not be aggregated");
        }
    }
}

//! Discovery: which groups, versions and kinds there are, in the legacy form and in the aggregated one.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use axum::response::Response;
use serde_json::{Value, json};

use super::{request::Accept, response};
use crate::registry::{Kind, Kinds};

pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0+tenantry.standin", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// The answer to a discovery path, if it is one.
pub fn answer(kinds: &Kinds, path: &[&str], accept: Accept) -> Option<Response> {
    let body = match path {
        ["api" | "apis"] if accept.aggregated_discovery => return Some(aggregated(kinds, path == ["api"])),
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "" }],
        }),
        ["apis"] => {
            let names = groups(kinds).into_iter().filter(|name| !name.is_empty());
            let groups: Vec<Value> = names.map(|name| group(kinds, name)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        ["api", "v1"] => resources(kinds, "", "v1")?,
        ["apis", name] if groups(kinds).contains(name) => {
            let mut group = group(kinds, name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }
        ["apis", group, version] => resources(kinds, group, version)?,
        _ => return None,
    };
    Some(response::json(&body))
}

fn groups(kinds: &Kinds) -> Vec<&str> {
    let mut groups = Vec::new();
    for kind in &kinds.all {
        if !groups.contains(&kind.group.as_str()) {
            groups.push(&kind.group);
        }
    }
    groups
}

/// The versions of a group, the most mature first: `v2`, `v1`, `v1beta1`, `v1alpha1`.
fn versions<'a>(kinds: &'a Kinds, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> =
        kinds.all.iter().filter(|kind| kind.group == group).map(|kind| kind.version.as_str()).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(maturity(version)));
    versions.dedup();
    versions
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority>
fn maturity(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse().unwrap_or(0);
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    if let Some((major, minor)) = rest.split_once("beta") {
        (2, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (1, number(major), number(minor))
    } else {
        (3, number(rest), 0)
    }
}

fn group(kinds: &Kinds, name: &str) -> Value {
    let versions: Vec<Value> = versions(kinds, name)
        .into_iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for kind in kinds.all.iter().filter(|kind| kind.group == group && kind.version == version) {
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs(),
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        list.push(resource);
        let verbs = json!(["get", "patch", "update"]);
        if kind.status {
            list.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs,
            }));
        }
        if kind.scale.is_some() {
            list.push(json!({
                "name": format!("{}/scale", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": verbs,
            }));
        }
        for action in kind.actions {
            let (group, version, shown) = action.kind;
            list.push(json!({
                "name": format!("{}/{}", kind.plural, action.name), "singularName": "", "namespaced": kind.namespaced,
                "group": group, "version": version, "kind": shown, "verbs": [action.verb],
            }));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!list.is_empty()).then(
        || json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list }),
    )
}

/// Everything in one answer, which saves clients a request per group and version.
fn aggregated(kinds: &Kinds, core: bool) -> Response {
    let items: Vec<Value> = groups(kinds)
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = versions(kinds, group)
                .into_iter()
                .map(|version| {
                    let kinds = kinds.all.iter().filter(|kind| kind.group == group && kind.version == version);
                    let resources: Vec<Value> = kinds.map(|kind| aggregated_resource(kind)).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    let body = json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items });
    response::bytes(200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", body.to_string())
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response_kind = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    let mut resource = json!({
        "resource": kind.plural, "responseKind": response_kind, "singularResource": kind.singular,
        "scope": scope, "verbs": kind.verbs(),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let mut subresources = Vec::new();
    let verbs = json!(["get", "patch", "update"]);
    if kind.status {
        subresources.push(json!({ "subresource": "status", "responseKind": response_kind, "verbs": verbs }));
    }
    if kind.scale.is_some() {
        let scale = json!({ "group": "autoscaling", "version": "v1", "kind": "Scale" });
        subresources.push(json!({ "subresource": "scale", "responseKind": scale, "verbs": verbs }));
    }
    for action in kind.actions {
        let (group, version, shown) = action.kind;
        let shown = json!({ "group": group, "version": version, "kind": shown });
        subresources.push(json!({ "subresource": action.name, "responseKind": shown, "verbs": [action.verb] }));
    }
    if !subresources.is_empty() {
        resource["subresources"] = json!(subresources);
    }
    resource
}

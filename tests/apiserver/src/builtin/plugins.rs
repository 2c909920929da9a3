//! Admission that every server has switched on: pods need their ServiceAccount and their PriorityClass, and keep to the security
//! level of their namespace. <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

use serde_json::{Value, json};

use super::security;
use crate::{
    api::{Api, Context, Target},
    object,
    status::{Result, Status},
};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const WARN: &str = "pod-security.kubernetes.io/warn";
const PRIORITIES: &str = "scheduling.k8s.io/priorityclasses";

fn forbidden(target: Target<'_>, why: &str) -> Status {
    Status::forbidden(&target.kind.group, &target.kind.plural, target.name, why)
}

/// Completes and checks a pod that is about to be created.
pub fn complete(api: &Api, target: Target<'_>, old: Option<&Value>, new: &mut Value) -> Result<()> {
    if target.kind.storage != "/pods" || old.is_some() || !new["spec"].is_object() {
        return Ok(());
    }
    let namespace = target.namespace;
    let spec = object::child(new, "spec");
    let account = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or("default").to_owned();
    let known = |name: &str| api.store.get("/serviceaccounts", &(namespace.to_owned(), name.to_owned())).is_some();
    if account == "default" && !known("default") {
        api.furnish(namespace);
    }
    if !known(&account) {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        return Err(forbidden(target, &why));
    }
    spec.insert("serviceAccountName".into(), json!(account));
    spec.insert("serviceAccount".into(), json!(account));
    let class = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let priority = match class.as_str() {
        "" => json!(0),
        "system-cluster-critical" => json!(2_000_000_000),
        "system-node-critical" => json!(2_000_001_000),
        class => {
            let missing = || forbidden(target, &format!("no PriorityClass with name {class} was found"));
            api.store.get(PRIORITIES, &(String::new(), class.to_owned())).ok_or_else(missing)?.value["value"].clone()
        }
    };
    spec.insert("priority".into(), priority);
    spec.entry("preemptionPolicy").or_insert_with(|| json!("PreemptLowerPriority"));
    spec.entry("enableServiceLinks").or_insert_with(|| json!(true));
    Ok(())
}

/// Pod Security: pods are refused, templates of pods are warned about.
pub fn admit(api: &Api, target: Target<'_>, old: Option<&Value>, new: &Value, context: &mut Context) -> Result<()> {
    let kind = target.kind;
    if kind.custom || !target.subresource.is_empty() || !matches!(kind.group.as_str(), "" | "apps" | "batch") {
        return Ok(());
    }
    let Some(spec) = security::pod_spec(&kind.kind, new) else { return Ok(()) };
    if old.is_some_and(|old| security::pod_spec(&kind.kind, old) == Some(spec)) {
        return Ok(());
    }
    let Some(home) = api.store.get("/namespaces", &(String::new(), target.namespace.to_owned())) else { return Ok(()) };
    let level = |label: &str| home.value["metadata"]["labels"][label].as_str().unwrap_or_default();
    if kind.kind == "Pod" {
        let found = security::violations(level(ENFORCE), spec);
        if !found.is_empty() {
            let why = format!("violates PodSecurity \"{}:latest\": {}", level(ENFORCE), found.join(", "));
            return Err(forbidden(target, &why));
        }
    }
    let found = security::violations(level(WARN), spec);
    if !found.is_empty() {
        context.warnings.push(format!("would violate PodSecurity \"{}:latest\": {}", level(WARN), found.join(", ")));
    }
    Ok(())
}

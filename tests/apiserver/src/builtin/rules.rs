//! What the built-in kinds forbid beyond their schemas: what people and controllers run into.

use serde_json::{Map, Value};

use super::defaults::each;
use crate::{object, registry::Kind, status::Cause};

/// What built-in kinds forbid that a schema cannot say.
pub fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut immutable = |field: &str| {
        if let Some(old) = old
            && !object::at(old, field).is_null()
            && object::at(old, field) != object::at(object, field)
        {
            causes.push(Cause::invalid(field, &object::at(object, field).to_string(), "field is immutable"));
        }
    };
    match kind.storage.as_str() {
        "apps/deployments" | "apps/replicasets" | "apps/daemonsets" => immutable("spec.selector"),
        "apps/statefulsets" => {
            ["spec.selector", "spec.serviceName", "spec.volumeClaimTemplates"].into_iter().for_each(&mut immutable);
        }
        "batch/jobs" => ["spec.selector", "spec.template", "spec.completions"].into_iter().for_each(&mut immutable),
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings"
            if old.is_some_and(|old| old["roleRef"] != object["roleRef"]) =>
        {
            causes.push(Cause::invalid("roleRef", &object["roleRef"].to_string(), "cannot change roleRef"));
        }
        "/secrets" => {
            immutable("type");
            causes.extend(data(object, old));
        }
        "/configmaps" => causes.extend(data(object, old)),
        "/services" => immutable("spec.clusterIP"),
        "/pods" if old.is_some_and(|old| fixed_of_pod(old) != fixed_of_pod(object)) => {
            let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                       `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
            causes.push(Cause::forbidden("spec", why));
        }
        _ => {}
    }
    if matches!(kind.group.as_str(), "apps" | "batch") {
        template(kind, object, &mut causes);
    }
    causes
}

/// What of a pod's spec nobody may change: nearly everything.
fn fixed_of_pod(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
        object::remove(&mut spec, field);
    }
    for list in ["containers", "initContainers"] {
        for container in each(&mut spec, list) {
            object::remove(container, "image");
            object::remove(container, "imagePullPolicy");
        }
    }
    spec
}

/// Labels that the selector asks for and restart policies that the kind allows.
fn template(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let template = if kind.kind == "CronJob" { &spec["jobTemplate"]["spec"]["template"] } else { &spec["template"] };
    let labels = &template["metadata"]["labels"];
    let wanted = spec["selector"]["matchLabels"].as_object();
    if kind.group == "apps"
        && spec["selector"].is_object()
        && wanted.is_none_or(Map::is_empty)
        && spec["selector"]["matchExpressions"].is_null()
    {
        causes.push(Cause::invalid(
            "spec.selector",
            &spec["selector"].to_string(),
            "empty selector is invalid for deployment",
        ));
    }
    if wanted.into_iter().flatten().any(|(key, value)| labels[key] != *value) {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", &labels.to_string(), why));
    }
    let policy = template["spec"]["restartPolicy"].as_str().unwrap_or_default();
    let supported: &[&str] = if kind.group == "batch" { &["OnFailure", "Never"] } else { &["Always"] };
    if template["spec"].is_object() && !supported.contains(&policy) {
        let supported: Vec<String> = supported.iter().map(|policy| format!("{policy:?}")).collect();
        causes.push(Cause {
            field: "spec.template.spec.restartPolicy".into(),
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {policy:?}: supported values: {}", supported.join(", ")),
        });
    }
}

/// ConfigMaps and Secrets: how much they hold, under which keys, and whether they may still change.
fn data(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    const MOST: usize = 1024 * 1024;
    let mut causes = Vec::new();
    let entries = ["data", "binaryData"].map(|field| object[field].as_object().into_iter().flatten());
    let mut size = 0;
    for (key, value) in entries.into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        // A Secret's values are limited as bytes, not as the base64 they travel in.
        size += if object["kind"] == "Secret" { text.len() / 4 * 3 } else { text.len() };
        if key.is_empty()
            || key.len() > 253
            || !key.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
        {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            causes.push(Cause::invalid(format!("data[{key}]"), &format!("{key:?}"), why));
        }
    }
    if size > MOST {
        let message = format!("Too long: may not be more than {MOST} bytes");
        causes.push(Cause { field: "data".into(), reason: "FieldValueTooLong", message });
    }
    if let Some(old) = old.filter(|old| old["immutable"] == true) {
        for field in ["data", "binaryData", "immutable"] {
            if old[field] != object[field] {
                causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    causes
}

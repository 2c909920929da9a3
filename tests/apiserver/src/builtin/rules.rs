//! What the built-in kinds forbid beyond their schemas: what people and controllers run into.

use serde_json::{Map, Value};

use super::{around, defaults::each, event, pods};
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
        "apps/deployments" => {
            immutable("spec.selector");
            causes.extend(rollout(object));
        }
        "apps/replicasets" | "apps/daemonsets" => immutable("spec.selector"),
        "apps/statefulsets" => causes.extend(stateful_set(object, old)),
        "batch/jobs" => {
            ["spec.selector", "spec.template", "spec.completions", "spec.completionMode"]
                .into_iter()
                .for_each(&mut immutable);
        }
        "batch/cronjobs" => causes.extend(schedule(object)),
        "rbac.authorization.k8s.io/roles" | "rbac.authorization.k8s.io/clusterroles" => {
            causes.extend(role(kind, object));
        }
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            if old.is_some_and(|old| old["roleRef"] != object["roleRef"]) {
                causes.push(Cause::invalid("roleRef", &object["roleRef"].to_string(), "cannot change roleRef"));
            }
            causes.extend(subjects(object));
        }
        "/secrets" => {
            immutable("type");
            causes.extend(data(object, old));
            causes.extend(secret_keys(object));
        }
        "/configmaps" => causes.extend(data(object, old)),
        "/services" => {
            immutable("spec.clusterIP");
            causes.extend(around::service(object));
        }
        "/persistentvolumeclaims" => causes.extend(around::claim(object, old)),
        "/pods" if old.is_some_and(|old| fixed_of_pod(old) != fixed_of_pod(object)) => {
            let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                       `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
            causes.push(Cause::forbidden("spec", why));
        }
        "/pods" if old.is_none() => pods::spec("spec", &object["spec"], &mut causes),
        "/events" if kind.group == "events.k8s.io" => causes.extend(event::validate(object, old)),
        "policy/poddisruptionbudgets" => causes.extend(around::budget(object)),
        "autoscaling/horizontalpodautoscalers" => causes.extend(around::autoscaler(object)),
        "networking.k8s.io/ingresses" => causes.extend(around::ingress(object)),
        "coordination.k8s.io/leases" => causes.extend(around::lease(object)),
        _ => {}
    }
    if matches!(kind.group.as_str(), "apps" | "batch") {
        template(kind, object, &mut causes);
    }
    causes
}

pub fn invalid(field: &str, object: &Value, why: &str) -> Cause {
    Cause::invalid(field, &object::at(object, field).to_string(), why)
}

pub fn items<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    object::at(object, path).as_array().into_iter().flatten().enumerate()
}

fn rollout(object: &Value) -> Vec<Cause> {
    let strategy = &object["spec"]["strategy"];
    let none = |value: &Value| value == 0 || value == "0%" || value == "0";
    if strategy["type"] == "Recreate" && strategy["rollingUpdate"].is_object() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        return vec![Cause::forbidden("spec.strategy.rollingUpdate", why)];
    }
    if none(&strategy["rollingUpdate"]["maxSurge"]) && none(&strategy["rollingUpdate"]["maxUnavailable"]) {
        return vec![invalid(
            "spec.strategy.rollingUpdate.maxUnavailable",
            object,
            "may not be 0 when `maxSurge` is 0",
        )];
    }
    Vec::new()
}

/// What of a StatefulSet may change once it is there; the rest is refused in one sentence.
fn stateful_set(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    const FREE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        for field in FREE {
            object::remove(&mut spec, field);
        }
        spec
    };
    if old.is_some_and(|old| fixed(old) != fixed(object)) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                   'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        return vec![Cause::forbidden("spec", why)];
    }
    Vec::new()
}

/// Five fields, or one of the names.
fn schedule(object: &Value) -> Option<Cause> {
    let schedule = object["spec"]["schedule"].as_str().unwrap_or_default();
    let named = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"].contains(&schedule);
    let fields = schedule.split_whitespace().count() == 5
        && schedule.chars().all(|character| character.is_ascii_alphanumeric() || " */,-?#".contains(character));
    if schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        return Some(invalid("spec.schedule", object, why));
    }
    (!named && !fields && !schedule.starts_with("@every ")).then(|| {
        let why = format!("expected exactly 5 fields, found {}: [{schedule}]", schedule.split_whitespace().count());
        invalid("spec.schedule", object, &why)
    })
}

fn role(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (index, rule) in items(object, "rules") {
        let empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
        let path = |field: &str| format!("rules[{index}].{field}");
        if empty("verbs") {
            causes.push(Cause::required(path("verbs"), "verbs must contain at least one value"));
        }
        if !empty("nonResourceURLs") {
            if kind.namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                causes.push(Cause::invalid(path("nonResourceURLs"), &rule["nonResourceURLs"].to_string(), why));
            }
            continue;
        }
        if empty("apiGroups") {
            causes.push(Cause::required(path("apiGroups"), "resource rules must supply at least one api group"));
        }
        if empty("resources") {
            causes.push(Cause::required(path("resources"), "resource rules must supply at least one resource"));
        }
    }
    causes
}

fn subjects(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (index, subject) in items(object, "subjects") {
        let path = |field: &str| format!("subjects[{index}].{field}");
        if subject["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(path("name"), ""));
        }
        let account = subject["kind"] == "ServiceAccount";
        if account && subject["namespace"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(path("namespace"), ""));
        }
        if account && !subject["apiGroup"].as_str().unwrap_or_default().is_empty() {
            let message = format!("Unsupported value: {}: supported values: \"\"", subject["apiGroup"]);
            causes.push(Cause { field: path("apiGroup"), reason: "FieldValueNotSupported", message });
        }
    }
    causes
}

/// Some types promise their keys.
fn secret_keys(object: &Value) -> Vec<Cause> {
    let has = |key: &str| object["data"].get(key).is_some();
    let required = |keys: &[&str]| -> Vec<Cause> {
        keys.iter().filter(|key| !has(key)).map(|key| Cause::required(format!("data[{key}]"), "")).collect()
    };
    match object["type"].as_str() {
        Some("kubernetes.io/tls") => required(&["tls.crt", "tls.key"]),
        Some("kubernetes.io/dockerconfigjson") => required(&[".dockerconfigjson"]),
        Some("kubernetes.io/basic-auth") if !has("username") && !has("password") => required(&["username", "password"]),
        Some("kubernetes.io/ssh-auth") => required(&["ssh-privatekey"]),
        _ => Vec::new(),
    }
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
    let claims = spec["volumeClaimTemplates"].clone();
    let path = if kind.kind == "CronJob" { "spec.jobTemplate.spec.template" } else { "spec.template" };
    if claims.is_null() {
        pods::template(path, template, causes);
    } else {
        // A volume may come from a claim of each pod's own.
        let mut whole = template.clone();
        whole["spec"]["volumeClaimTemplates"] = claims;
        pods::template(path, &whole, causes);
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

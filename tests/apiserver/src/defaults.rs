//! What the built-in kinds default and forbid beyond their schemas: as much of it as controllers and kubectl rely on.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::{crd, object, registry::Kind, status::Cause};

/// Sets `path` unless it is set.
fn default(object: &mut Value, path: &str, value: Value) {
    let mut node = object;
    for field in path.split('.') {
        node = object::map(node).entry(field).or_insert(Value::Null);
    }
    if node.is_null() {
        *node = value;
    }
}

/// What is at `path`, if it is there. (Indexing a mutable value would put a null there.)
fn inside<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(object, |value, field| value.get_mut(field))
}

fn each<'a>(object: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    inside(object, path).and_then(Value::as_array_mut).into_iter().flatten()
}

pub fn apply(kind: &Kind, object: &mut Value, old: Option<&Value>) {
    match kind.storage.as_str() {
        "/namespaces" => {
            let name = object::name(object).to_owned();
            default(object, "spec.finalizers", json!(["kubernetes"]));
            default(object, "status.phase", json!("Active"));
            object::metadata(object);
            object::child(&mut object["metadata"], "labels").insert("kubernetes.io/metadata.name".into(), json!(name));
        }
        "/secrets" => secret(object),
        "/pods" => {
            pod_spec(object, "spec", "Always");
            default(object, "status.phase", json!("Pending"));
            default(object, "status.qosClass", json!("BestEffort"));
        }
        "/services" => service(object, old),
        "/persistentvolumeclaims" => {
            default(object, "spec.volumeMode", json!("Filesystem"));
            default(object, "status.phase", json!("Pending"));
        }
        "apps/deployments" => {
            default(object, "spec.replicas", json!(1));
            default(object, "spec.revisionHistoryLimit", json!(10));
            default(object, "spec.progressDeadlineSeconds", json!(600));
            default(object, "spec.strategy.type", json!("RollingUpdate"));
            if object::at(object, "spec.strategy.type") == "RollingUpdate" {
                default(object, "spec.strategy.rollingUpdate.maxSurge", json!("25%"));
                default(object, "spec.strategy.rollingUpdate.maxUnavailable", json!("25%"));
            }
            pod_spec(object, "spec.template.spec", "Always");
        }
        "apps/replicasets" => {
            default(object, "spec.replicas", json!(1));
            pod_spec(object, "spec.template.spec", "Always");
        }
        "apps/statefulsets" => {
            default(object, "spec.replicas", json!(1));
            default(object, "spec.revisionHistoryLimit", json!(10));
            default(object, "spec.podManagementPolicy", json!("OrderedReady"));
            default(object, "spec.updateStrategy.type", json!("RollingUpdate"));
            default(
                object,
                "spec.persistentVolumeClaimRetentionPolicy",
                json!({ "whenDeleted": "Retain", "whenScaled": "Retain" }),
            );
            pod_spec(object, "spec.template.spec", "Always");
        }
        "apps/daemonsets" => {
            default(object, "spec.revisionHistoryLimit", json!(10));
            default(object, "spec.updateStrategy.type", json!("RollingUpdate"));
            pod_spec(object, "spec.template.spec", "Always");
        }
        "batch/jobs" => job(object),
        "batch/cronjobs" => {
            for (path, value) in [
                ("concurrencyPolicy", json!("Allow")),
                ("suspend", json!(false)),
                ("successfulJobsHistoryLimit", json!(3)),
                ("failedJobsHistoryLimit", json!(1)),
            ] {
                default(object, &format!("spec.{path}"), value);
            }
            pod_spec(object, "spec.jobTemplate.spec.template.spec", "");
        }
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            default(object, "roleRef.apiGroup", json!("rbac.authorization.k8s.io"));
            for subject in each(object, "subjects") {
                if subject["kind"] != "ServiceAccount" {
                    default(subject, "apiGroup", json!("rbac.authorization.k8s.io"));
                }
            }
        }
        "autoscaling/horizontalpodautoscalers" => default(object, "spec.minReplicas", json!(1)),
        "policy/poddisruptionbudgets" => {}
        "admissionregistration.k8s.io/validatingadmissionpolicies" => {
            default(object, "spec.failurePolicy", json!("Fail"));
            default(object, "spec.matchConstraints.matchPolicy", json!("Equivalent"));
        }
        crd::STORAGE => {
            crd::defaults(object);
            if old.is_none() {
                let status = crd::established(object);
                object::map(object).insert("status".into(), status);
                object::metadata(object).insert("finalizers".into(), json!([crd::CLEANUP]));
            }
        }
        _ => {}
    }
}

fn secret(object: &mut Value) {
    default(object, "type", json!("Opaque"));
    if let Some(Value::Object(plain)) = object::remove(object, "stringData") {
        let data = object::child(object, "data");
        for (name, value) in plain {
            data.insert(name, json!(STANDARD.encode(value.as_str().unwrap_or_default())));
        }
    }
}

fn service(object: &mut Value, old: Option<&Value>) {
    default(object, "spec.type", json!("ClusterIP"));
    default(object, "spec.sessionAffinity", json!("None"));
    default(object, "spec.internalTrafficPolicy", json!("Cluster"));
    for port in each(object, "spec.ports") {
        default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
    if object["spec"]["type"] != "ExternalName" {
        // An address once given stays; a fresh one is drawn from the service range.
        let kept = old.map(|old| old["spec"]["clusterIP"].clone()).filter(Value::is_string);
        let [a, b, ..] = *uuid::Uuid::new_v4().as_bytes();
        let address = kept.unwrap_or_else(|| json!(format!("10.96.{a}.{}", b.max(2))));
        default(object, "spec.clusterIP", address);
        let address = object["spec"]["clusterIP"].clone();
        default(object, "spec.clusterIPs", json!([address]));
        default(object, "spec.ipFamilies", json!(["IPv4"]));
        default(object, "spec.ipFamilyPolicy", json!("SingleStack"));
    }
    default(object, "status.loadBalancer", json!({}));
}

fn job(object: &mut Value) {
    for (path, value) in [
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        default(object, &format!("spec.{path}"), value);
    }
    if object::at(object, "spec.completions").is_null() && object::at(object, "spec.parallelism").is_null() {
        default(object, "spec.completions", json!(1));
    }
    default(object, "spec.parallelism", json!(1));
    let (name, uid) = (object::name(object).to_owned(), object::uid(object).to_owned());
    if object["spec"]["manualSelector"] != true {
        let template = &mut object["spec"]["template"];
        object::metadata(template);
        let labels = object::child(&mut template["metadata"], "labels");
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            labels.insert(label.into(), json!(value));
        }
        default(object, "spec.selector.matchLabels", json!({ "batch.kubernetes.io/controller-uid": uid }));
    }
    pod_spec(object, "spec.template.spec", "");
}

fn pod_spec(object: &mut Value, path: &str, restart_policy: &str) {
    let Some(spec) = inside(object, path).filter(|spec| spec.is_object()) else { return };
    if !restart_policy.is_empty() {
        default(spec, "restartPolicy", json!(restart_policy));
    }
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    if let Some(account) = spec["serviceAccountName"].as_str().map(str::to_owned) {
        default(spec, "serviceAccount", json!(account));
    }
    for list in ["containers", "initContainers"] {
        for container in each(spec, list).filter(|item| item.is_object()) {
            self::container(container);
        }
    }
    for volume in each(spec, "volumes") {
        for source in ["secret", "configMap", "projected"] {
            if let Some(source) = inside(volume, source) {
                default(source, "defaultMode", json!(420));
            }
        }
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    let latest = !image.contains('@') && matches!(tag, None | Some("latest"));
    default(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    default(container, "resources", json!({}));
    for port in each(container, "ports") {
        default(port, "protocol", json!("TCP"));
    }
    for variable in each(container, "env") {
        if let Some(field) = inside(variable, "valueFrom.fieldRef") {
            default(field, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = inside(container, probe) {
            let numbers =
                [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)];
            for (field, value) in numbers {
                default(probe, field, json!(value));
            }
            if let Some(get) = inside(probe, "httpGet") {
                default(get, "scheme", json!("HTTP"));
                default(get, "path", json!("/"));
            }
        }
    }
}

// One pattern each, with the sentence that Kubernetes says about it.
const SUBDOMAIN: (&str, &str) = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
);
const LABEL: (&str, &str) = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    r"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
);
const SERVICE: (&str, &str) = (
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
    r"a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
);
const LABEL_VALUE: (&str, &str) = (
    r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
    r"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
);
const QUALIFIED: (&str, &str) = (
    r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$",
    r"name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
);

fn is(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Vec<(&str, Option<Regex>)>> = LazyLock::new(|| {
        [SUBDOMAIN, LABEL, SERVICE, LABEL_VALUE, QUALIFIED]
            .into_iter()
            .map(|(pattern, _)| (pattern, Regex::new(pattern).ok()))
            .collect()
    });
    COMPILED
        .iter()
        .find(|(known, _)| *known == pattern)
        .and_then(|(_, regex)| regex.as_ref())
        .is_some_and(|regex| regex.is_match(text))
}

fn qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    name.len() <= 63
        && is(QUALIFIED.0, name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && is(SUBDOMAIN.0, prefix))
}

/// What every kind's metadata must keep to.
pub fn metadata(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = object::name(object);
    if old.is_none() {
        let ((pattern, why), most) = match kind.storage.as_str() {
            "/namespaces" => (LABEL, 63),
            "/services" => (SERVICE, 63),
            _ => (SUBDOMAIN, 253),
        };
        let shown = format!("{name:?}");
        // RBAC names only have to fit into a path.
        if kind.group == "rbac.authorization.k8s.io" {
            if name.contains(['/', '%']) || matches!(name, "." | "..") {
                causes.push(Cause::invalid("metadata.name", &shown, "may not contain '/' or '%'"));
            }
        } else if name.len() > most {
            causes.push(Cause::invalid("metadata.name", &shown, &format!("must be no more than {most} characters")));
        } else if !is(pattern, name) {
            causes.push(Cause::invalid("metadata.name", &shown, why));
        }
    }
    let entries = |field: &str| object["metadata"][field].as_object().into_iter().flatten();
    for (field, values) in [("labels", true), ("annotations", false)] {
        for (key, value) in entries(field) {
            let path = format!("metadata.{field}");
            if !qualified(&if values { key.clone() } else { key.to_lowercase() }) {
                causes.push(Cause::invalid(path.clone(), &format!("{key:?}"), QUALIFIED.1));
            }
            let value = value.as_str().unwrap_or_default();
            if values && value.len() > 63 {
                causes.push(Cause::invalid(path, &format!("{value:?}"), "must be no more than 63 characters"));
            } else if values && !is(LABEL_VALUE.0, value) {
                causes.push(Cause::invalid(path, &format!("{value:?}"), LABEL_VALUE.1));
            }
        }
    }
    let size: usize = entries("annotations").map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > 256 * 1024 {
        let message = "Too long: may not be more than 262144 bytes".into();
        causes.push(Cause { field: "metadata.annotations".into(), reason: "FieldValueTooLong", message });
    }
    for (index, owner) in object::owners(object).enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences[{index}].{field}"),
                    "\"\"",
                    &format!("{field} must not be empty"),
                ));
            }
        }
    }
    if object::owners(object).filter(|owner| owner["controller"] == true).count() > 1 {
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", "\"ownerReferences\"", why));
    }
    if let Some(old) = old.filter(|old| object::deleting(old)) {
        let known = object::finalizers(old);
        let fresh: Vec<String> = object::finalizers(object)
            .into_iter()
            .filter(|finalizer| !known.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !fresh.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                fresh.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    causes
}

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
        _ => {}
    }
    if matches!(kind.group.as_str(), "apps" | "batch") {
        template(kind, object, &mut causes);
    }
    causes
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

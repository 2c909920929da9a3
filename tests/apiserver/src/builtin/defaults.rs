//! What the built-in kinds default: as much of it as controllers and kubectl rely on.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{crd, object, registry::Kind};

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

pub fn each<'a>(object: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
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

//! Rules of the kinds around workloads: what reaches, stores, scales, protects and locks.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    pods,
    rules::{invalid, items},
};
use crate::{metadata, object, status::Cause};

pub fn service(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &object["spec"];
    let count = spec["ports"].as_array().map_or(0, Vec::len);
    if count == 0 && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let mut names = HashSet::new();
    for (index, port) in items(object, "spec.ports") {
        let path = |field: &str| format!("spec.ports[{index}].{field}");
        let name = port["name"].as_str().unwrap_or_default();
        if !name.is_empty() || count > 1 {
            causes.extend(metadata::label_name(&path("name"), name));
            if !names.insert(name) {
                causes.push(pods::duplicate(path("name"), name));
            }
        }
        if let Some(target) = port["targetPort"].as_str() {
            causes.extend(pods::port_name(&path("targetPort"), target));
        }
    }
    causes
}

/// Binding names the volume and its class; nobody else changes a claim but to enlarge it.
pub fn claim(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let size = |object: &Value| pods::amount(&object["spec"]["resources"]["requests"]["storage"]);
    let Some(old) = old else {
        if object["spec"]["accessModes"].as_array().is_none_or(Vec::is_empty) {
            causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
        }
        if size(object).is_none() {
            causes.push(Cause::required("spec.resources[storage]", ""));
        }
        return causes;
    };
    let (mut before, mut after) = (old["spec"].clone(), object["spec"].clone());
    for field in ["volumeName", "storageClassName"] {
        if before[field].is_null() {
            object::remove(&mut before, field);
            object::remove(&mut after, field);
        }
    }
    for spec in [&mut before, &mut after] {
        object::remove(spec, "resources");
        object::remove(spec, "volumeAttributesClassName");
    }
    if before != after {
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.push(Cause::forbidden("spec", why));
    } else if size(object) < size(old) {
        causes.push(Cause::forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"));
    }
    causes
}

pub fn budget(object: &Value) -> Option<Cause> {
    let spec = &object["spec"];
    (!spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null())
        .then(|| invalid("spec", object, "minAvailable and maxUnavailable cannot be both set"))
}

pub fn autoscaler(object: &Value) -> Vec<Cause> {
    let spec = &object["spec"];
    let (least, most) = (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64().unwrap_or(0));
    let mut causes = Vec::new();
    if least < 1 {
        causes.push(invalid("spec.minReplicas", object, "must be greater than or equal to 1"));
    }
    if most < 1 {
        causes.push(invalid("spec.maxReplicas", object, "must be greater than 0"));
    } else if most < least {
        causes.push(invalid("spec.maxReplicas", object, "must be greater than or equal to `minReplicas`"));
    }
    for (index, metric) in items(object, "spec.metrics") {
        let source = match metric["type"].as_str().unwrap_or_default() {
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            "Pods" => "pods",
            "Object" => "object",
            "External" => "external",
            _ => continue,
        };
        if !metric[source].is_object() {
            let why = "must populate information for the given metric source";
            causes.push(Cause::required(format!("spec.metrics[{index}].{source}"), why));
        }
    }
    causes
}

pub fn ingress(object: &Value) -> Vec<Cause> {
    let spec = &object["spec"];
    let mut causes = Vec::new();
    if spec["rules"].as_array().is_none_or(Vec::is_empty) && !spec["defaultBackend"].is_object() {
        causes.push(invalid("spec", object, "either `defaultBackend` or `rules` must be specified"));
    }
    for (index, rule) in items(object, "spec.rules") {
        for (number, path) in items(rule, "http.paths") {
            let text = path["path"].as_str().unwrap_or_default();
            if !text.starts_with('/') && path["pathType"] != "ImplementationSpecific" {
                let field = format!("spec.rules[{index}].http.paths[{number}].path");
                causes.push(Cause::invalid(field, &format!("{text:?}"), "must be an absolute path"));
            }
        }
    }
    causes
}

pub fn lease(object: &Value) -> Vec<Cause> {
    let spec = &object["spec"];
    let mut causes = Vec::new();
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        causes.push(invalid("spec.leaseDurationSeconds", object, "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|times| times < 0) {
        causes.push(invalid("spec.leaseTransitions", object, "must be greater than or equal to 0"));
    }
    if spec["holderIdentity"] == "" {
        causes.push(invalid("spec.holderIdentity", object, "must not be empty"));
    }
    causes
}

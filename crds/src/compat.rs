//! Whether objects that a definition accepted are accepted by the next one too.
//!
//! Kubernetes keeps what is stored when a definition changes, and people keep their manifests: a field that is gone, is
//! newly required or takes fewer values breaks both.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// What `new` refuses or forgets although `old` took it, one sentence for each field.
pub fn breaks(old: &CustomResourceDefinition, new: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for version in &old.spec.versions {
        let next = new.spec.versions.iter().find(|candidate| candidate.name == version.name);
        match next {
            Some(next) => {
                let (old, new) = (schema(version.schema.as_ref()), schema(next.schema.as_ref()));
                compare("", &old, &new, &mut found);
            }
            None => found.push(format!("version {} is gone", version.name)),
        }
    }
    found.into_iter().map(|what| format!("{}: {what}", new.spec.names.plural)).collect()
}

fn schema(validation: Option<&impl serde::Serialize>) -> Value {
    let value = serde_json::to_value(validation).unwrap_or_default();
    value.get("openAPIV3Schema").cloned().unwrap_or_default()
}

/// Bounds, and whether a greater number is the looser one.
const BOUNDS: [(&str, bool); 8] = [
    ("maximum", true),
    ("maxLength", true),
    ("maxItems", true),
    ("maxProperties", true),
    ("minimum", false),
    ("minLength", false),
    ("minItems", false),
    ("minProperties", false),
];

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    for key in ["type", "pattern", "format"] {
        if !new[key].is_null() && old[key] != new[key] {
            found.push(format!("{path}: {key} {} became {}", old[key], new[key]));
        }
    }
    for value in entries(&old["enum"])
        .filter(|value| !new["enum"].is_null() && !entries(&new["enum"]).any(|kept| kept == *value))
    {
        found.push(format!("{path}: the value {value} is gone"));
    }
    if old["enum"].is_null() && !new["enum"].is_null() {
        found.push(format!("{path}: takes only certain values now"));
    }
    for (key, greater_is_looser) in BOUNDS {
        let looser = match (old[key].as_f64(), new[key].as_f64()) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(old), Some(new)) if greater_is_looser => new >= old,
            (Some(old), Some(new)) => new <= old,
        };
        if !looser {
            found.push(format!("{path}: {key} {} became {}", old[key], new[key]));
        }
    }
    for name in entries(&new["required"]).filter_map(Value::as_str) {
        let was = entries(&old["required"]).any(|required| required == name);
        if !was && new["properties"][name]["default"].is_null() {
            found.push(format!("{path}.{name}: is required now"));
        }
    }
    for (name, field) in old["properties"].as_object().into_iter().flatten() {
        match new["properties"].get(name) {
            Some(kept) => compare(&format!("{path}.{name}"), field, kept, found),
            None => found.push(format!("{path}.{name}: the field is gone")),
        }
    }
    for (below, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if old[below].is_object() && new[below].is_object() {
            compare(&format!("{path}{mark}"), &old[below], &new[below], found);
        }
    }
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

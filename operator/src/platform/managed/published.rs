//! The published schemas of CloudNativePG, where the folder with them is, and what they would complain of.

use std::path::Path;

use kube::api::DynamicObject;
use serde_json::{Value, json};

/// The published schemas, where the folder with them is.
fn schema(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/peer-crds").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("NOT CHECKED against the published schema: there is no {}", path.display());
        return None;
    };
    let crd: Value = serde_saphyr::from_str(&text).unwrap();
    Some(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
}

/// Unknown fields, wrong types, missing fields and values that are not in the list, with their path.
fn complaints(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    if !fits {
        found.push(format!("{path}: {value} is no {kind}"));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{path}: {value} is not allowed"));
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none() {
            found.push(format!("{path}.{required} is missing"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(key), schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema)) => complaints(schema, inner, &format!("{path}.{key}"), found),
            (None, None) if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            (None, None) => found.push(format!("{path}.{key} is unknown")),
        }
    }
    for (at, inner) in value.as_array().into_iter().flatten().enumerate() {
        complaints(&schema["items"], inner, &format!("{path}[{at}]"), found);
    }
}

/// Whether CloudNativePG would take the object's spec, and would not take just anything.
///
/// # Panics
/// Where it would not.
pub fn takes(file: &str, object: &DynamicObject) {
    let Some(schema) = schema(file) else { return };
    let spec = &schema["properties"]["spec"];
    let mut wrong = Vec::new();
    complaints(spec, &object.data["spec"], "spec", &mut wrong);
    assert_eq!(wrong, Vec::<String>::new(), "{file}");
    // That this can fail at all.
    complaints(spec, &json!({ "instances": "3", "cluster": 1, "nonsense": {} }), "spec", &mut wrong);
    assert!(wrong.len() >= 2, "{wrong:?}");
}

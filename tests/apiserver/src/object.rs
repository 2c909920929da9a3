//! Small questions to an object in its JSON form, asked all over the house.

use serde_json::{Map, Value};

/// The text at `metadata.<field>`, or nothing.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    meta(object, "name")
}

pub fn uid(object: &Value) -> &str {
    meta(object, "uid")
}

pub fn deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// `metadata.finalizers` as text.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

/// The object as a map; anything else becomes an empty one first, so that no body can make this fail.
pub fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made a map above"),
    }
}

/// The map at a field, made if it is not there.
pub fn child<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    map(map(object).entry(field).or_insert(Value::Null))
}

pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// Keeps the order of the other keys, which `Map::remove` would not.
pub fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut()?.shift_remove(field)
}

/// What the field would say in an error: Kubernetes prints values as JSON.
pub fn show(value: &Value) -> String {
    value.to_string()
}

/// The value at a dotted path such as `spec.replicas` or `.status.selector`.
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.trim_start_matches('.').split('.').fold(object, |value, field| &value[field])
}

//! Defaulting: a missing field that has a default gets it.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting>

use serde_json::Value;

use super::{Additional, Schema, Type};

/// Fills what is missing, outside in: the fields of a default get their own defaults too.
pub fn apply(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.properties {
                // A null for a field that may not be null is pruned before defaulting, so that the default applies.
                if map.get(name).is_some_and(Value::is_null) && !field.nullable && field.default.is_some() {
                    map.shift_remove(name);
                }
                if !map.contains_key(name)
                    && let Some(default) = &field.default
                {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(child) = map.get_mut(name) {
                    apply(field, child);
                }
            }
            if let Additional::Of(entry) = &schema.additional {
                for (_, child) in map.iter_mut().filter(|(name, _)| !schema.properties.contains_key(*name)) {
                    apply(entry, child);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    apply(items, item);
                }
            }
        }
        _ => {}
    }
}

/// Nulls that stand for "not set": removed where the schema does not allow null.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            let is_unset = |name: &str, value: &Value| {
                value.is_null()
                    && schema.properties.get(name).is_some_and(|field| !field.nullable && field.kind != Type::Any)
            };
            let unset: Vec<String> =
                map.iter().filter(|(name, value)| is_unset(name, value)).map(|(name, _)| name.clone()).collect();
            for name in unset {
                map.shift_remove(&name);
            }
            for (name, child) in map.iter_mut() {
                if let Some(field) = schema.field(name) {
                    drop_nulls(field, child);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    drop_nulls(items, item);
                }
            }
        }
        _ => {}
    }
}

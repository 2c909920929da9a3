//! Pruning: fields that the schema does not know are dropped, and told by name.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning>

use serde_json::Value;

use super::{Additional, Schema, Type, join};
use crate::builtin;

/// Drops unknown fields and returns their paths.
pub fn apply(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune(schema, value, "", &mut unknown);
    unknown
}

fn prune(schema: &Schema, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let embedded = |name: &str| schema.embedded && matches!(name, "apiVersion" | "kind" | "metadata");
            let untyped = schema.kind == Type::Any && schema.properties.is_empty();
            let stays = |name: &str| schema.knows(name) || embedded(name) || untyped;
            let strange: Vec<String> = map.keys().filter(|name| !stays(name)).cloned().collect();
            for name in strange {
                map.shift_remove(&name);
                unknown.push(join(path, &name));
            }
            for (name, child) in map.iter_mut() {
                if let Some(field) = schema.properties.get(name) {
                    prune(field, child, &join(path, name), unknown);
                } else if let Additional::Of(entry) = &schema.additional {
                    prune(entry, child, &join(path, name), unknown);
                } else if schema.embedded && name == "metadata" {
                    prune(&builtin::object_meta(), child, &join(path, name), unknown);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for (index, item) in list.iter_mut().enumerate() {
                    prune(items, item, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

//! Sets of fields: what `managedFields` writes as `fieldsV1`.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#managed-fields>

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Map, Value};

use crate::schema::{ListType, Schema};

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Field(String),
    /// An item of a list map, by its keys as JSON.
    Item(String),
    /// An item of a set, by its value as JSON.
    Value(String),
}

pub type Path = Vec<Step>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(pub BTreeSet<Path>);

/// The fields of an object that somebody can own, each with its value; an item or map entry that is only *there* has none.
pub type Leaves<'a> = BTreeMap<Path, Option<&'a Value>>;

/// Fields that nobody owns, because only the server writes them or because they name the object.
const UNOWNED: [&str; 10] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// All ownable fields of an object.
pub fn leaves<'a>(schema: &Schema, object: &'a Value) -> Leaves<'a> {
    let mut found = Leaves::new();
    let Some(map) = object.as_object() else { return found };
    for (name, value) in map {
        let path = vec![Step::Field(name.clone())];
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let metadata = schema.properties.get("metadata").map(AsRef::as_ref);
                for (field, value) in value.as_object().into_iter().flatten() {
                    if !UNOWNED.contains(&field.as_str()) {
                        let field_schema = metadata.and_then(|schema| schema.field(field)).map(AsRef::as_ref);
                        collect(field_schema, value, &extend(&path, Step::Field(field.clone())), &mut found);
                    }
                }
            }
            _ => {
                collect(schema.field(name).map(AsRef::as_ref), value, &path, &mut found);
                if schema.is_entry(name) {
                    found.entry(path).or_insert(None);
                }
            }
        }
    }
    found
}

fn extend(path: &[Step], step: Step) -> Path {
    let mut path = path.to_vec();
    path.push(step);
    path
}

fn collect<'a>(schema: Option<&Schema>, value: &'a Value, path: &Path, found: &mut Leaves<'a>) {
    match value {
        Value::Object(map) if !map.is_empty() && !schema.is_some_and(|schema| schema.atomic) => {
            for (name, child) in map {
                let below = extend(path, Step::Field(name.clone()));
                collect(schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref), child, &below, found);
                // A declared field is there when something below it is; a map's entry is something of its own.
                if schema.is_none_or(|schema| schema.is_entry(name)) {
                    found.entry(below).or_insert(None);
                }
            }
        }
        Value::Array(list) => match schema.map(|schema| &schema.list) {
            Some(ListType::Map(_)) => {
                for item in list {
                    let Some(schema) = schema else { continue };
                    let below = extend(path, item_step(schema, item));
                    collect(schema.items.as_deref(), item, &below, found);
                    found.entry(below).or_insert(None);
                }
            }
            Some(ListType::Set) => {
                for item in list {
                    found.insert(extend(path, Step::Value(item.to_string())), None);
                }
            }
            _ => {
                found.insert(path.clone(), Some(value));
            }
        },
        _ => {
            found.insert(path.clone(), Some(value));
        }
    }
}

/// How an item of a list map is named.
fn item_step(schema: &Schema, item: &Value) -> Step {
    let ListType::Map(keys) = &schema.list else { return Step::Value(item.to_string()) };
    let mut id: Vec<_> =
        schema.item_id(keys, item).into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    id.sort_by(|one, other| one.0.cmp(&other.0));
    Step::Item(Value::Object(id.into_iter().collect()).to_string())
}

impl FieldSet {
    pub fn of(leaves: &Leaves<'_>) -> Self {
        Self(leaves.keys().cloned().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nested form: `{"f:spec":{"f:replicas":{}}}`.
    pub fn to_json(&self) -> Value {
        let mut root = Map::new();
        for path in &self.0 {
            let mut node = &mut root;
            for step in path {
                let name = match step {
                    Step::Field(name) => format!("f:{name}"),
                    Step::Item(keys) => format!("k:{keys}"),
                    Step::Value(value) => format!("v:{value}"),
                };
                node = crate::object::map(node.entry(name).or_insert_with(|| Value::Object(Map::new())));
            }
            node.insert(".".into(), Value::Object(Map::new()));
        }
        let mut root = Value::Object(root);
        shorten(&mut root);
        root
    }

    pub fn from_json(json: &Value) -> Self {
        let mut set = BTreeSet::new();
        read(json, &mut Vec::new(), &mut set);
        Self(set)
    }
}

/// A node that is a member and has nothing below it is written `{}`, not `{".":{}}`.
fn shorten(node: &mut Value) {
    let Value::Object(map) = node else { return };
    if map.len() == 1 && map.contains_key(".") {
        map.clear();
    }
    map.values_mut().for_each(shorten);
}

fn read(node: &Value, path: &mut Path, set: &mut BTreeSet<Path>) {
    let Some(map) = node.as_object() else { return };
    if !path.is_empty() && (map.is_empty() || map.contains_key(".")) {
        set.insert(path.clone());
    }
    for (name, below) in map {
        let step = match name.split_once(':') {
            Some(("f", name)) => Step::Field(name.to_owned()),
            Some(("k", keys)) => Step::Item(keys.to_owned()),
            Some(("v", value)) => Step::Value(value.to_owned()),
            _ => continue,
        };
        path.push(step);
        read(below, path, set);
        path.pop();
    }
}

/// `.spec.template.spec.containers[name="api"].image`, as conflicts name fields.
pub fn show(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        // Writing to a string does not fail.
        let _written = match step {
            Step::Field(name) => write!(text, ".{name}"),
            Step::Value(value) => write!(text, "[={value}]"),
            Step::Item(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(text, "[{}]", keys.join(","))
            }
        };
    }
    text
}

/// Removes the field at `path`, and every parent that this leaves empty.
pub fn remove(schema: Option<&Schema>, value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => {
            if rest.is_empty() {
                map.shift_remove(name);
                return;
            }
            let Some(child) = map.get_mut(name) else { return };
            remove(schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref), child, rest);
            if child.as_object().is_some_and(Map::is_empty) || child.as_array().is_some_and(Vec::is_empty) {
                map.shift_remove(name);
            }
        }
        (step, Value::Array(list)) => {
            let Some(schema) = schema else { return };
            let named = |item: &Value| item_step(schema, item) == *step;
            if rest.is_empty() {
                list.retain(|item| !named(item));
            } else if let Some(item) = list.iter_mut().find(|item| named(item)) {
                remove(schema.items.as_deref(), item, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FieldSet;

    #[test]
    fn a_set_reads_what_it_wrote() {
        let fields = json!({
            "f:metadata": { "f:labels": { ".": {}, "f:a": {} } },
            "f:spec": { "f:ports": { "k:{\"name\":\"x\"}": { ".": {}, "f:port": {} } }, "f:tags": { "v:\"y\"": {} } },
        });
        assert_eq!(FieldSet::from_json(&fields).to_json(), fields);
    }
}

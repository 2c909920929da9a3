//! Structural schemas, compiled once from OpenAPI and then asked on every write.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
//!
//! Built-in kinds go through the same schema, so there is one notion of a default, an unknown field, a list's keys and an
//! invalid value for all of them.

pub mod cel;
mod compile;
pub mod default;
pub mod fields;
pub mod prune;
pub mod validate;

use std::sync::Arc;

use indexmap::IndexMap;
use regex::Regex;
use serde_json::Value;

pub use compile::{compile, compile_definition};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Any => "any",
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

/// Fields that the schema does not name one by one.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// They are unknown, and pruned.
    #[default]
    No,
    Any,
    Of(Arc<Schema>),
}

/// Who owns what of a list, and how two versions of it meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// The value validations of one node.
#[derive(Debug, Default)]
pub struct Checks {
    pub options: Vec<Value>,
    pub pattern: Option<(String, Option<Regex>)>,
    pub format: String,
    pub minimum: Option<(f64, bool)>,
    pub maximum: Option<(f64, bool)>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub unique: bool,
    pub all_of: Vec<Arc<Schema>>,
    pub any_of: Vec<Arc<Schema>>,
    pub one_of: Vec<Arc<Schema>>,
    pub not: Option<Arc<Schema>>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the x-kubernetes-* extensions are independent switches")]
pub struct Schema {
    pub kind: Type,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub properties: IndexMap<String, Arc<Schema>>,
    pub additional: Additional,
    pub items: Option<Arc<Schema>>,
    pub required: Vec<String>,
    pub default: Option<Value>,
    pub checks: Checks,
    pub list: ListType,
    /// Owned as one piece by server-side apply.
    pub atomic: bool,
    /// The key by which strategic merge patch joins the items of a built-in list.
    pub merge_key: Option<String>,
    pub rules: Option<cel::Rules>,
}

impl Schema {
    /// The schema of a field; nothing for one that the schema does not know.
    pub fn field(&self, name: &str) -> Option<&Arc<Schema>> {
        self.properties.get(name).or(match &self.additional {
            Additional::Of(schema) => Some(schema),
            _ => None,
        })
    }

    /// Whether `name` is one of a map's entries rather than a declared field.
    pub fn is_entry(&self, name: &str) -> bool {
        !self.properties.contains_key(name)
    }

    pub fn knows(&self, name: &str) -> bool {
        self.properties.contains_key(name) || self.preserve_unknown || !matches!(self.additional, Additional::No)
    }

    /// The item of `list` that stands for the same thing as `item`: by keys in a list map, by value in a set.
    pub fn same_item<'a>(&self, list: &'a [Value], item: &Value) -> Option<&'a Value> {
        match &self.list {
            ListType::Map(keys) => {
                let id = self.item_id(keys, item);
                list.iter().find(|other| self.item_id(keys, other) == id)
            }
            ListType::Set => list.iter().find(|other| *other == item),
            ListType::Atomic => None,
        }
    }

    /// The key values of a list map's item; a missing key has its default, as ports have `protocol: TCP`.
    pub fn item_id<'a>(&'a self, keys: &'a [String], item: &'a Value) -> Vec<(&'a str, &'a Value)> {
        keys.iter()
            .map(|key| {
                let default = || self.items.as_ref()?.properties.get(key)?.default.as_ref();
                let value = item.get(key).filter(|value| !value.is_null()).or_else(default);
                (key.as_str(), value.unwrap_or(&Value::Null))
            })
            .collect()
    }
}

/// `spec.containers[0].name`.
pub fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

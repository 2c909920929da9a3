//! From OpenAPI JSON to [`Schema`].

use std::{collections::HashMap, sync::Arc};

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{Additional, Checks, ListType, Schema, Type, cel};
use crate::builtin;

const PACKAGES: [&str; 2] = ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis."];

/// The schema of a CustomResourceDefinition's version, with the metadata every object has.
pub fn compile(openapi: &Value) -> Schema {
    let mut root = node(openapi, &mut |_| None);
    let text = Arc::new(Schema { kind: Type::String, ..Schema::default() });
    for field in ["apiVersion", "kind"] {
        root.properties.entry(field.into()).or_insert_with(|| text.clone());
    }
    // What a CRD says about metadata (a pattern for the name) comes on top of what metadata is.
    let stated = root.properties.insert("metadata".into(), builtin::object_meta());
    if let Some(stated) = stated.filter(|stated| !stated.properties.is_empty()) {
        let wrapper =
            Schema { properties: [("metadata".to_owned(), stated)].into_iter().collect(), ..Schema::default() };
        root.checks.all_of.push(Arc::new(wrapper));
    }
    root.kind = Type::Object;
    root
}

/// A built-in definition with everything it refers to; `done` keeps what many kinds share.
pub fn compile_definition(
    name: &str,
    all: &Map<String, Value>,
    done: &mut HashMap<String, Arc<Schema>>,
) -> Arc<Schema> {
    if let Some(schema) = done.get(name) {
        return schema.clone();
    }
    let compiled = Arc::new(definition(name, all, done));
    done.insert(name.to_owned(), compiled.clone());
    compiled
}

fn definition(name: &str, all: &Map<String, Value>, done: &mut HashMap<String, Arc<Schema>>) -> Schema {
    let anything = |kind| Schema { kind, preserve_unknown: true, ..Schema::default() };
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "JSON" => return anything(Type::Any),
        // A schema of schemas contains itself; the CRD's own checks read it.
        "JSONSchemaProps" | "RawExtension" | "FieldsV1" => return anything(Type::Object),
        _ => {}
    }
    let Some(openapi) = all.get(name) else { return anything(Type::Any) };
    let mut schema = node(openapi, &mut |reference| Some(compile_definition(reference, all, done)));
    let short = PACKAGES.iter().find_map(|package| name.strip_prefix(package)).unwrap_or(name);
    if last == "Quantity" {
        schema.checks.format = "quantity".into();
    }
    schema.atomic |= builtin::ATOMIC.contains(&short);
    if schema.properties.get("conditions").is_some_and(|list| list.kind == Type::Array) && last.ends_with("Status") {
        extend(&mut schema, "conditions", |list| {
            list.list = ListType::Map(vec!["type".into()]);
            list.merge_key = Some("type".into());
        });
    }
    for (_, field, keys, merge_key) in builtin::LIST_MAPS.iter().filter(|(owner, ..)| *owner == short) {
        extend(&mut schema, field, |list| {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            list.list = if keys.is_empty() { ListType::Atomic } else { ListType::Map(keys) };
            list.merge_key = Some((*merge_key).to_owned());
        });
    }
    for (_, field) in builtin::SETS.iter().filter(|(owner, _)| *owner == short) {
        extend(&mut schema, field, |list| list.list = ListType::Set);
    }
    for (_, field) in builtin::ATOMIC_MAPS.iter().filter(|(owner, _)| *owner == short) {
        extend(&mut schema, field, |map| map.atomic = true);
    }
    // The key by which ports are told apart has a default, and so is part of the schema.
    if matches!(last, "ContainerPort" | "ServicePort") {
        extend(&mut schema, "protocol", |protocol| protocol.default = Some(json!("TCP")));
    }
    schema
}

/// Changes a property that nobody else holds yet.
fn extend(schema: &mut Schema, field: &str, edit: impl FnOnce(&mut Schema)) {
    if let Some(property) = schema.properties.get_mut(field)
        && let Some(property) = Arc::get_mut(property)
    {
        edit(property);
    }
}

type Resolve<'a> = &'a mut dyn FnMut(&str) -> Option<Arc<Schema>>;

fn shared(openapi: &Value, resolve: Resolve<'_>) -> Arc<Schema> {
    if let Some(reference) = openapi["$ref"].as_str()
        && let Some(schema) = resolve(reference.rsplit('/').next().unwrap_or(reference))
    {
        return schema;
    }
    Arc::new(node(openapi, resolve))
}

fn node(openapi: &Value, resolve: Resolve<'_>) -> Schema {
    let flag = |name: &str| openapi[name].as_bool().unwrap_or(false);
    let number = |name: &str| openapi[name].as_f64();
    let count = |name: &str| openapi[name].as_u64();
    let pattern = openapi["pattern"].as_str().map(|text| (text.to_owned(), Regex::new(text).ok()));
    let mut several = |name: &str| -> Vec<Arc<Schema>> {
        openapi[name].as_array().into_iter().flatten().map(|branch| shared(branch, resolve)).collect()
    };
    let checks = Checks {
        options: openapi["enum"].as_array().cloned().unwrap_or_default(),
        pattern,
        format: openapi["format"].as_str().unwrap_or_default().to_owned(),
        minimum: number("minimum").map(|limit| (limit, flag("exclusiveMinimum"))),
        maximum: number("maximum").map(|limit| (limit, flag("exclusiveMaximum"))),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        unique: flag("uniqueItems"),
        all_of: several("allOf"),
        any_of: several("anyOf"),
        one_of: several("oneOf"),
        not: openapi.get("not").map(|not| shared(not, resolve)),
    };
    let kind = match openapi["type"].as_str() {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ => Type::Any,
    };
    let properties = openapi["properties"].as_object().into_iter().flatten();
    let properties = properties.map(|(name, field)| (name.clone(), shared(field, resolve))).collect();
    let additional = match &openapi["additionalProperties"] {
        Value::Bool(true) => Additional::Any,
        schema @ Value::Object(_) => Additional::Of(shared(schema, resolve)),
        _ => Additional::No,
    };
    let keys = openapi["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    let list = match openapi["x-kubernetes-list-type"].as_str() {
        Some("map") => ListType::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect()),
        Some("set") => ListType::Set,
        _ => ListType::Atomic,
    };
    Schema {
        kind,
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        properties,
        additional,
        items: openapi.get("items").map(|items| shared(items, resolve)),
        required: openapi["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        default: openapi.get("default").cloned(),
        checks,
        list,
        atomic: openapi["x-kubernetes-map-type"] == "atomic",
        merge_key: None,
        rules: cel::Rules::compile(openapi),
    }
}

//! Validation in the words of the API server.
//!
//! What an update leaves unchanged is not validated again, so that an object that was valid under an older schema can still
//! be worked on (validation ratcheting):
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting>

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{Additional, ListType, Schema, Type, join};
use crate::{object::show, status::Cause};

/// Everything that is wrong with `new`; the rules written in CEL only run where the rest is sound enough to evaluate.
pub fn validate(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let walk = Walk { types_only: false };
    walk.node(schema, new, old, "", &mut causes);
    let blocking = |cause: &Cause| {
        matches!(
            cause.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    };
    let mut rules = Vec::new();
    if causes.iter().any(blocking) {
        if has_rules(schema) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            rules.push(Cause::invalid("<nil>", "null", why));
        }
    } else {
        check_rules(schema, new, old, "", &mut rules);
    }
    causes.extend(rules);
    causes
}

/// Only whether every value has the type it must have: what decoding a built-in kind finds out.
pub fn mistyped(schema: &Schema, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    Walk { types_only: true }.node(schema, value, None, "", &mut causes);
    causes
}

fn has_rules(schema: &Schema) -> bool {
    let below = |schema: &Arc<Schema>| has_rules(schema);
    schema.rules.is_some()
        || schema.properties.values().any(below)
        || schema.items.as_ref().is_some_and(below)
        || matches!(&schema.additional, Additional::Of(entry) if has_rules(entry))
}

/// The old value that stands for the same thing as the new one.
fn old_item<'a>(schema: &Schema, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    schema.same_item(old?.as_array()?, item)
}

fn check_rules(schema: &Schema, new: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if new.is_null() || old == Some(new) {
        return;
    }
    if let Some(rules) = &schema.rules {
        rules.check(schema.kind, new, old, path, causes);
    }
    match new {
        Value::Object(map) => {
            for (name, child) in map {
                if let Some(field) = schema.field(name) {
                    // Rules name an entry of a map by its key; every other check by a dot.
                    let property = schema.properties.contains_key(name);
                    let path = if property { join(path, name) } else { format!("{path}[{name}]") };
                    check_rules(field, child, old.and_then(|old| old.get(name)), &path, causes);
                }
            }
        }
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                if let Some(items) = &schema.items {
                    check_rules(items, item, old_item(schema, old, item), &format!("{path}[{index}]"), causes);
                }
            }
        }
        _ => {}
    }
}

struct Walk {
    types_only: bool,
}

impl Walk {
    fn node(&self, schema: &Schema, new: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
        if old == Some(new) {
            return;
        }
        if let Some(cause) = wrong_type(schema, new, path) {
            causes.push(cause);
            if !self.types_only {
                choices(schema, new, path, causes);
            }
            return;
        }
        if new.is_null() {
            return;
        }
        if !self.types_only {
            checks(schema, new, path, causes);
        }
        match new {
            Value::Object(map) => {
                if !self.types_only {
                    let missing = schema.required.iter().filter(|name| !map.contains_key(*name));
                    causes.extend(missing.map(|name| Cause::required(join(path, name), "")));
                }
                for (name, child) in map {
                    if let Some(field) = schema.field(name) {
                        self.node(field, child, old.and_then(|old| old.get(name)), &join(path, name), causes);
                    }
                }
            }
            Value::Array(list) => {
                if !self.types_only {
                    duplicates(schema, list, path, causes);
                }
                for (index, item) in list.iter().enumerate() {
                    if let Some(items) = &schema.items {
                        self.node(items, item, old_item(schema, old, item), &format!("{path}[{index}]"), causes);
                    }
                }
            }
            _ => {}
        }
    }
}

fn wrong_type(schema: &Schema, value: &Value, path: &str) -> Option<Cause> {
    if schema.int_or_string {
        let quantity = schema.checks.format == "quantity" && value.is_number();
        let null = value.is_null() && schema.nullable;
        let fits = value.is_string() || value.is_i64() || value.is_u64() || quantity || null;
        let why = format!("{path} in body must be of type integer,string: \"{}\"", type_of(value));
        return (!fits).then(|| mistype(path, value, &why));
    }
    let fits = match schema.kind {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
    };
    if fits || (value.is_null() && schema.nullable) {
        return None;
    }
    let why = format!("{path} in body must be of type {}: \"{}\"", schema.kind.as_str(), type_of(value));
    Some(mistype(path, value, &why))
}

fn mistype(path: &str, value: &Value, why: &str) -> Cause {
    let message = format!("Invalid value: \"{}\": {why}", type_of(value));
    Cause { field: path.to_owned(), reason: "FieldValueTypeInvalid", message }
}

pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is no string at all is none of the strings either: both are said.
fn choices(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let options = &schema.checks.options;
    if !options.is_empty() && !options.contains(value) {
        let supported: Vec<String> = options.iter().map(show).collect();
        causes.push(Cause {
            field: path.to_owned(),
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {}: supported values: {}", show(value), supported.join(", ")),
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "lengths and limits are far below 2^52")]
fn checks(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let rules = &schema.checks;
    let invalid = |why: String| Cause::invalid(path, &show(value), &format!("{path} in body {why}"));
    let too_many = |count: usize, most: u64| Cause {
        field: path.to_owned(),
        reason: "FieldValueTooMany",
        message: format!("Too many: {count}: must have at most {most} items"),
    };
    choices(schema, value, path, causes);
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if let Some((limit, exclusive)) = rules.minimum
                && (number < limit || (exclusive && number <= limit))
            {
                let than = if exclusive { "greater than" } else { "greater than or equal to" };
                causes.push(invalid(format!("should be {than} {limit}")));
            }
            if let Some((limit, exclusive)) = rules.maximum
                && (number > limit || (exclusive && number >= limit))
            {
                let than = if exclusive { "less than" } else { "less than or equal to" };
                causes.push(invalid(format!("should be {than} {limit}")));
            }
            if let Some(step) = rules.multiple_of
                && (number / step).fract().abs() > f64::EPSILON
            {
                causes.push(invalid(format!("should be a multiple of {step}")));
            }
            let range = match rules.format.as_str() {
                "int32" => f64::from(i32::MIN)..=f64::from(i32::MAX),
                "int64" => i64::MIN as f64..=i64::MAX as f64,
                "uint8" => 0.0..=255.0,
                "uint16" => 0.0..=65535.0,
                "uint32" => 0.0..=f64::from(u32::MAX),
                _ => f64::NEG_INFINITY..=f64::INFINITY,
            };
            if !range.contains(&number) {
                causes.push(invalid(format!("must be of type {}: \"{number}\"", rules.format)));
            }
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = rules.min_length.filter(|least| length < *least) {
                causes.push(invalid(format!("should be at least {least} chars long")));
            }
            if let Some(most) = rules.max_length.filter(|most| length > *most) {
                causes.push(Cause {
                    field: path.to_owned(),
                    reason: "FieldValueTooLong",
                    message: format!("Too long: may not be more than {most} bytes"),
                });
            }
            if let Some((pattern, Some(regex))) = &rules.pattern
                && !regex.is_match(text)
            {
                causes.push(invalid(format!("should match '{pattern}'")));
            }
            if !formatted(&rules.format, text) {
                causes.push(invalid(format!("must be of type {}: {}", rules.format, show(value))));
            }
        }
        Value::Array(list) => {
            let count = list.len() as u64;
            if let Some(least) = rules.min_items.filter(|least| count < *least) {
                let why = format!("{path} in body should have at least {least} items");
                causes.push(Cause::invalid(path, &count.to_string(), &why));
            }
            if let Some(most) = rules.max_items.filter(|most| count > *most) {
                causes.push(too_many(list.len(), most));
            }
        }
        Value::Object(map) => {
            let count = map.len() as u64;
            if let Some(least) = rules.min_properties.filter(|least| count < *least) {
                let why = format!("{path} in body should have at least {least} properties");
                causes.push(Cause::invalid(path, &count.to_string(), &why));
            }
            if let Some(most) = rules.max_properties.filter(|most| count > *most) {
                causes.push(too_many(map.len(), most));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    junctors(schema, value, path, causes);
}

/// `allOf`, `anyOf`, `oneOf`, `not`: in a structural schema they only add validations.
fn junctors(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let check = |branch: &Arc<Schema>| {
        let mut found = Vec::new();
        Walk { types_only: false }.node(branch, value, None, path, &mut found);
        found
    };
    let rules = &schema.checks;
    for branch in &rules.all_of {
        causes.extend(check(branch));
    }
    let plain = |why: String| Cause::invalid(path, &show(value), &why);
    if !rules.any_of.is_empty() && !rules.any_of.iter().any(|branch| check(branch).is_empty()) {
        causes.push(plain(format!("{path} in body must validate at least one schema (anyOf)")));
        // The first branch's complaint tells more than that none fits.
        causes.extend(rules.any_of.first().map(check).unwrap_or_default());
    }
    if !rules.one_of.is_empty() {
        match rules.one_of.iter().filter(|branch| check(branch).is_empty()).count() {
            1 => {}
            0 => causes
                .push(plain(format!("{path} in body must validate one and only one schema (oneOf). Found none valid"))),
            several => causes.push(plain(format!(
                "{path} in body must validate one and only one schema (oneOf). Found {several} valid alternatives"
            ))),
        }
    }
    if rules.not.as_ref().is_some_and(|branch| check(branch).is_empty()) {
        causes.push(plain(format!("{path} in body must not validate the schema (not)")));
    }
}

fn duplicates(schema: &Schema, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (index, item) in list.iter().enumerate() {
        let id = match &schema.list {
            ListType::Map(keys) => {
                let id: serde_json::Map<String, Value> = schema
                    .item_id(keys, item)
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.clone()))
                    .collect();
                Value::Object(id).to_string()
            }
            ListType::Set => show(item),
            ListType::Atomic if schema.checks.unique => show(item),
            ListType::Atomic => return,
        };
        if !seen.insert(id.clone()) {
            let field = format!("{path}[{index}]");
            causes.push(Cause { field, reason: "FieldValueDuplicate", message: format!("Duplicate value: {id}") });
        }
    }
}

/// The formats that the API server checks; unknown ones are ignored, as there.
fn formatted(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uri" => text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some()),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
        _ => true,
    }
}

//! YAML for people: definitions as they are, objects with each field's description above it.

use std::ptr;

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde::Serialize;
use serde_json::{Number, Value};
use serde_saphyr::{ser_options, to_string_with_options};

const WIDTH: usize = 110;

/// A document without comments.
pub fn plain(document: &impl Serialize) -> Result<String> {
    let mut value = serde_json::to_value(document)?;
    whole_numbers(&mut value);
    // One line for each scalar, which `commented` relies on.
    Ok(to_string_with_options(&value, ser_options! { prefer_block_scalars: false })?)
}

/// An object with the description of each field above the field where it occurs first.
pub fn commented(object: &impl Serialize, schema: &JSONSchemaProps) -> Result<String> {
    let mut out = paragraph(schema.description.as_deref(), "");
    let mut told: Vec<&JSONSchemaProps> = Vec::new();
    // The schemas of the mappings that a line is inside of, by the column of their keys.
    let mut inside = vec![(0, schema)];
    for line in plain(object)?.lines() {
        let indent = line.len() - line.trim_start().len();
        let column = line.len() - line.trim_start_matches([' ', '-']).len();
        inside.retain(|(outer, _)| *outer <= column);
        let key = line[column..].split_once(':').map(|(key, _)| key);
        let parent = inside.last().filter(|(outer, _)| *outer == column);
        if let Some(field) = key.zip(parent).and_then(|(key, (_, parent))| field(parent, key)) {
            if !told.iter().any(|schema| ptr::eq(*schema, field)) {
                told.push(field);
                out += &paragraph(field.description.as_deref(), &" ".repeat(indent));
            }
            // Keys of a nested mapping and of a list's items stand in the same column.
            inside.push((column + 2, items(field).unwrap_or(field)));
        }
        out += line;
        out.push('\n');
    }
    Ok(out)
}

/// A schema's bounds are floats in JSON; `60.0` is read as well as `60`, but not by people.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            #[expect(clippy::cast_possible_truncation, reason = "checked by comparing back")]
            let whole = number.as_f64().map(|float| Number::from(float as i64));
            if let Some(whole) = whole.filter(|whole| number.is_f64() && whole.as_f64() == number.as_f64()) {
                *number = whole;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn field<'a>(schema: &'a JSONSchemaProps, key: &str) -> Option<&'a JSONSchemaProps> {
    match (&schema.properties, &schema.additional_properties) {
        (Some(properties), _) => properties.get(key),
        (None, Some(JSONSchemaPropsOrBool::Schema(values))) => Some(values),
        _ => None,
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// A description as comment lines.
fn paragraph(description: Option<&str>, indent: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in description.into_iter().flat_map(str::split_whitespace) {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            out.extend([&line, "\n"]);
            line.clear();
        }
        if line.is_empty() {
            line.extend([indent, "#"]);
        }
        line.extend([" ", word]);
    }
    if !line.is_empty() {
        out.extend([&line, "\n"]);
    }
    out
}

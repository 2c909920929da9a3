//! What a definition may not say: the rules of structural schemas, and that its defaults and CEL rules are themselves sound.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Value, json};

use super::{text, texts, versions};
use crate::{
    object,
    schema::{cel, compile, fields, join, validate},
    status::Cause,
};

/// What is wrong with a definition. What was already kept is not judged again.
pub fn validate(definition: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let expected = format!("{}.{}", text(&names["plural"]), text(&spec["group"]));
    if object::name(definition) != expected {
        let why = format!("must be spec.names.plural+\".\"+spec.group, expected {expected:?}");
        causes.push(Cause::invalid("metadata.name", &names["plural"].to_string(), &why));
    }
    if !text(&spec["group"]).contains('.') {
        causes.push(Cause::invalid(
            "spec.group",
            &spec["group"].to_string(),
            "should be a domain with at least one dot",
        ));
    }
    if !matches!(spec["scope"].as_str(), Some("Namespaced" | "Cluster")) {
        causes.push(Cause {
            field: "spec.scope".into(),
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {}: supported values: \"Cluster\", \"Namespaced\"", spec["scope"]),
        });
    }
    if versions(definition).filter(|version| version["storage"] == true).count() != 1 {
        causes.push(Cause::invalid(
            "spec.versions",
            "\"versions\"",
            "must have exactly one version marked as storage version",
        ));
    }
    if let Some(old) = old {
        for (field, value) in [("scope", &old["spec"]["scope"]), ("group", &old["spec"]["group"])] {
            if spec[field] != *value {
                causes.push(Cause::invalid(format!("spec.{field}"), &spec[field].to_string(), "field is immutable"));
            }
        }
    }
    for (index, version) in versions(definition).enumerate() {
        let path = format!("spec.versions[{index}]");
        let openapi = &version["schema"]["openAPIV3Schema"];
        if openapi.is_null() {
            causes.push(Cause::required(format!("{path}.schema.openAPIV3Schema"), "schemas are required"));
            continue;
        }
        let known = old.is_some_and(|old| versions(old).any(|before| before["schema"] == version["schema"]));
        if known {
            continue;
        }
        let path = format!("{path}.schema.openAPIV3Schema");
        if openapi["type"] != "object" {
            causes.push(Cause::invalid(
                format!("{path}.type"),
                &openapi["type"].to_string(),
                "must be object at the root",
            ));
        }
        structural(openapi, &path, &mut causes);
    }
    causes
}

/// The rules of structural schemas, and that every default and every CEL rule is itself sound.
fn structural(openapi: &Value, path: &str, causes: &mut Vec<Cause>) {
    let typed = openapi["type"].is_string();
    let free = openapi["x-kubernetes-int-or-string"] == true || openapi["x-kubernetes-preserve-unknown-fields"] == true;
    if !typed && !free {
        causes.push(Cause::required(format!("{path}.type"), "must not be empty for specified object fields"));
    }
    if openapi["type"] == "array" && openapi["items"].is_null() {
        causes.push(Cause::required(format!("{path}.items"), "must be specified"));
    }
    if !openapi["properties"].is_null()
        && !openapi["additionalProperties"].is_null()
        && openapi["additionalProperties"] != false
    {
        let why = "additionalProperties and properties are mutually exclusive";
        causes.push(Cause::forbidden(format!("{path}.additionalProperties"), why));
    }
    for forbidden in ["$ref", "definitions", "dependencies", "id", "patternProperties", "additionalItems"] {
        if openapi.get(forbidden).is_some() {
            causes.push(Cause::forbidden(format!("{path}.{forbidden}"), &format!("{forbidden} is not supported")));
        }
    }
    if openapi["uniqueItems"] == true {
        causes.push(Cause::forbidden(
            format!("{path}.uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    if let Some(pattern) = openapi["pattern"].as_str()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(format!("{path}.pattern"), &openapi["pattern"].to_string(), &why));
    }
    list_keys(openapi, path, causes);
    if let Some(default) = openapi.get("default") {
        let alone = compile(&json!({ "type": "object", "properties": { "default": openapi } }));
        for cause in validate::validate(&alone, &json!({ "default": default }), None) {
            causes.push(Cause { field: join(path, &cause.field), ..cause });
        }
    }
    rules(openapi, path, causes);
    for (name, field) in openapi["properties"].as_object().into_iter().flatten() {
        if path.ends_with("openAPIV3Schema") && name == "metadata" {
            continue;
        }
        structural(field, &format!("{path}.properties[{name}]"), causes);
    }
    if openapi["items"].is_object() {
        structural(&openapi["items"], &format!("{path}.items"), causes);
    }
    if openapi["additionalProperties"].is_object() {
        structural(&openapi["additionalProperties"], &format!("{path}.additionalProperties"), causes);
    }
}

/// A list map needs keys, and each key must be required or have a default.
fn list_keys(openapi: &Value, path: &str, causes: &mut Vec<Cause>) {
    if openapi["x-kubernetes-list-type"] != "map" {
        return;
    }
    let keys = texts(&openapi["x-kubernetes-list-map-keys"]);
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        causes.push(Cause::required(format!("{path}.x-kubernetes-list-map-keys"), why));
    }
    for key in keys {
        let item = &openapi["items"];
        let given = item["required"].as_array().is_some_and(|required| required.contains(&json!(key)));
        if !given && item["properties"][&key]["default"].is_null() {
            let field = format!("{path}.items.properties[{key}].default");
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            causes.push(Cause::required(field, why));
        }
    }
}

/// CEL rules must parse and speak of what is there.
fn rules(openapi: &Value, path: &str, causes: &mut Vec<Cause>) {
    let root = path.ends_with("openAPIV3Schema");
    for (index, rule) in openapi["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        let alone = json!({ "x-kubernetes-validations": [rule] });
        let mut problems: Vec<String> = cel::Rules::compile(&alone).iter().flat_map(cel::Rules::errors).collect();
        for expression in ["rule", "messageExpression"] {
            let text = rule[expression].as_str().unwrap_or_default();
            problems.extend(
                fields::undefined(text, openapi, root).into_iter().map(|problem| format!("ERROR: <input>: {problem}")),
            );
        }
        causes.extend(problems.into_iter().map(|problem| {
            let field = format!("{path}.x-kubernetes-validations[{index}].rule");
            Cause::invalid(field, &rule["rule"].to_string(), &format!("compilation failed: {problem}"))
        }));
    }
}

//! CustomResourceDefinitions: from a definition to kinds, and what a definition may not say.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    clock, object,
    registry::{Column, Kind, Scale, SchemaSource},
    schema::{self, join},
    status::Cause,
};

/// Where definitions are kept.
pub const STORAGE: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// Holds a definition until the last of its objects is gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["spec"]["versions"].as_array().into_iter().flatten()
}

/// Where the objects of a definition are kept.
pub fn storage(definition: &Value) -> String {
    format!("{}/{}", text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]))
}

/// The kinds of a definition's served versions.
pub fn kinds(definition: &Value) -> Vec<Arc<Kind>> {
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let group = text(&spec["group"]);
    let stored = versions(definition).find(|version| version["storage"] == true).map(|version| text(&version["name"]));
    let served = versions(definition).filter(|version| version["served"] == true);
    let kind = |version: &Value| {
        let openapi = &version["schema"]["openAPIV3Schema"];
        let scale = version["subresources"].get("scale").map(|scale| Scale {
            spec_replicas: text(&scale["specReplicasPath"]),
            status_replicas: text(&scale["statusReplicasPath"]),
            selector: scale["labelSelectorPath"].as_str().map(str::to_owned),
        });
        let name = text(&version["name"]);
        Arc::new(Kind {
            stored_as: format!("{group}/{}", stored.as_ref().unwrap_or(&name)),
            storage: storage(definition),
            kind: text(&names["kind"]),
            list_kind: names["listKind"]
                .as_str()
                .map_or_else(|| format!("{}List", text(&names["kind"])), str::to_owned),
            plural: text(&names["plural"]),
            singular: names["singular"].as_str().map_or_else(|| text(&names["kind"]).to_lowercase(), str::to_owned),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"].get("status").is_some(),
            scale,
            generation: true,
            custom: true,
            schema: SchemaSource::Custom(Arc::new(schema::compile(openapi))),
            columns: columns(version),
            selectable: version["selectableFields"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
                .collect(),
            virtual_only: false,
            openapi: Some(Arc::new(openapi.clone())),
            group: group.clone(),
            version: name,
        })
    };
    served.map(kind).collect()
}

fn columns(version: &Value) -> Vec<Column> {
    let stated = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    stated
        .map(|column| Column {
            name: text(&column["name"]),
            kind: text(&column["type"]),
            format: text(&column["format"]),
            description: text(&column["description"]),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: text(&column["jsonPath"]),
        })
        .collect()
}

/// Fills what a definition may leave out, as its defaulting does.
pub fn defaults(definition: &mut Value) {
    let names = &definition["spec"]["names"];
    let kind = text(&names["kind"]);
    let singular = if names["singular"].is_null() { json!(kind.to_lowercase()) } else { names["singular"].clone() };
    let list_kind = if names["listKind"].is_null() { json!(format!("{kind}List")) } else { names["listKind"].clone() };
    object::child(definition, "spec");
    let names = object::child(&mut definition["spec"], "names");
    names.insert("singular".into(), singular);
    names.insert("listKind".into(), list_kind);
    let spec = object::map(&mut definition["spec"]);
    spec.entry("conversion").or_insert_with(|| json!({ "strategy": "None" }));
}

/// The status of an accepted definition.
pub fn established(definition: &Value) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": clock::stamp(), "reason": reason, "message": message });
    let stored: Vec<String> = versions(definition)
        .filter(|version| version["storage"] == true)
        .map(|version| text(&version["name"]))
        .collect();
    json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
    })
}

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
        let alone = schema::compile(&json!({ "type": "object", "properties": { "default": openapi } }));
        for cause in schema::validate::validate(&alone, &json!({ "default": default }), None) {
            causes.push(Cause { field: join(path, &cause.field), ..cause });
        }
    }
    for (index, problem) in schema::cel::Rules::compile(openapi).iter().flat_map(schema::cel::Rules::errors).enumerate()
    {
        let field = format!("{path}.x-kubernetes-validations[{index}].rule");
        causes.push(Cause::invalid(
            field,
            &openapi["x-kubernetes-validations"][index].to_string(),
            &format!("compilation failed: {problem}"),
        ));
    }
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

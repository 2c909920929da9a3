//! CustomResourceDefinitions: from a definition to kinds, and what a definition may not say.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

mod validate;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    clock, object,
    registry::{Column, Kind, Scale, SchemaSource},
    schema,
};

pub use validate::validate;

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
            actions: &[],
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

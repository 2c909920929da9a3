//! OpenAPI v3, per group and version: what `kubectl explain` reads and where kubectl learns which parameters a write takes.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3>

use std::sync::Arc;

use axum::response::Response;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::response;
use crate::{
    api::Api,
    builtin,
    registry::{Kind, Kinds, SchemaSource},
    status::{Result, Status},
};

/// The older document, which knows nothing here: kubectl asks for it last, about kinds that nobody knows. It reads protobuf
/// only, and these are the version, the title and no paths.
pub fn v2() -> Response {
    const DOCUMENT: &[u8] = b"\x0a\x032.0\x12\x11\x0a\x0aKubernetes\x12\x03v36\x42\x00";
    response::bytes(200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", DOCUMENT)
}

pub fn v3(api: &Api, path: &[&str]) -> Result<Response> {
    let kinds = api.registry.kinds();
    match path {
        [] => Ok(response::json(&index(&kinds))),
        ["api", version] => document(&kinds, "", version),
        ["apis", group, version] => document(&kinds, group, version),
        _ => Err(Status::no_such_path()),
    }
}

fn path_of(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

fn index(kinds: &Kinds) -> Value {
    let mut paths = Map::new();
    for kind in &kinds.all {
        let path = path_of(kind);
        // The hash tells clients when to read again; built-in documents never change.
        let of_path = kinds.all.iter().filter(|other| path_of(other) == path).filter_map(|kind| kind.openapi.as_ref());
        let mut hash = Sha256::new();
        of_path.for_each(|openapi| hash.update(openapi.to_string()));
        let [a, b, c, d, ..] = hash.finalize()[..] else { continue };
        let hash = format!("{:08X}", u32::from_be_bytes([a, b, c, d]));
        paths
            .entry(path.clone())
            .or_insert_with(|| json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") }));
    }
    json!({ "paths": paths })
}

fn document(kinds: &Kinds, group: &str, version: &str) -> Result<Response> {
    let kinds: Vec<&Arc<Kind>> =
        kinds.all.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    if kinds.is_empty() {
        return Err(Status::no_such_path());
    }
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for kind in kinds {
        let identity = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        let name = match (&kind.schema, &kind.openapi) {
            (SchemaSource::Builtin { definition, .. }, _) => {
                collect(definition, &mut schemas);
                definition.clone()
            }
            (SchemaSource::Custom(_), openapi) => {
                let reversed: Vec<&str> = kind.group.split('.').rev().collect();
                let name = format!("{}.{}.{}", reversed.join("."), kind.version, kind.kind);
                collect(METADATA, &mut schemas);
                schemas.insert(name.clone(), with_metadata(openapi.as_deref().cloned().unwrap_or_default()));
                name
            }
        };
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([identity]);
        }
        let root = format!("/{}", path_of(kind));
        let collection = if kind.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", kind.plural)
        } else {
            format!("{root}/{}", kind.plural)
        };
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        let content = json!({ "application/json": { "schema": reference } });
        let parameters = ["dryRun", "fieldManager", "fieldValidation"]
            .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } }));
        let write = |action: &str| {
            json!({
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": identity,
                "parameters": parameters,
                "requestBody": { "content": content }, "responses": { "200": { "description": "OK", "content": content } },
            })
        };
        paths.insert(collection.clone(), json!({ "post": write("post") }));
        if !kind.virtual_only {
            let mut patch = write("patch");
            let any = json!({ "schema": { "type": "object" } });
            patch["requestBody"]["content"] = json!({ "application/json-patch+json": any, "application/merge-patch+json": any, "application/apply-patch+yaml": any });
            paths.insert(format!("{collection}/{{name}}"), json!({ "put": write("put"), "patch": patch }));
        }
    }
    let body = json!({
        "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1.36.0" },
        "paths": paths, "components": { "schemas": schemas },
    });
    Ok(response::json(&body))
}

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A custom kind's schema with the fields that every object has.
fn with_metadata(mut schema: Value) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let properties = crate::object::child(&mut schema, "properties");
    properties.insert(
        "apiVersion".into(),
        text("APIVersion defines the versioned schema of this representation of an object."),
    );
    properties
        .insert("kind".into(), text("Kind is a string value representing the REST resource this object represents."));
    let reference = json!({ "description": "Standard object's metadata.", "allOf": [{ "$ref": format!("#/components/schemas/{METADATA}") }] });
    properties.insert("metadata".into(), reference);
    schema
}

/// Adds a definition and everything it refers to.
fn collect(name: &str, schemas: &mut Map<String, Value>) {
    if schemas.contains_key(name) {
        return;
    }
    let Some(definition) = builtin::definitions().get(name) else { return };
    let mut schema = definition.clone();
    let mut references = Vec::new();
    rewrite(&mut schema, &mut references);
    schemas.insert(name.to_owned(), schema);
    for name in &references {
        collect(name, schemas);
    }
}

/// In OpenAPI 3.0 nothing may stand beside a `$ref`; a description moves around it with `allOf`.
fn rewrite(node: &mut Value, references: &mut Vec<String>) {
    match node {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref").cloned() {
                references.push(reference.rsplit('/').next().unwrap_or_default().to_owned());
                if map.len() > 1 {
                    map.shift_remove("$ref");
                    map.insert("allOf".into(), json!([{ "$ref": reference }]));
                }
                return;
            }
            map.values_mut().for_each(|child| rewrite(child, references));
        }
        Value::Array(list) => list.iter_mut().for_each(|child| rewrite(child, references)),
        _ => {}
    }
}

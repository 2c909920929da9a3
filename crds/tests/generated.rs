//! The committed files say what the types say, and a change of the types breaks nobody's objects.

use std::{fs, path::Path};

use crds::{Tenant, all_crds, compat, definition, generated};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

fn committed(path: &Path) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)).ok()
}

#[test]
fn committed_files_are_what_the_types_say() {
    let files = generated::files().unwrap();
    assert_eq!(files.len(), 12);
    let stale = files.iter().filter(|file| committed(&file.path).as_ref() != Some(&file.content));
    let stale: Vec<_> = stale.map(|file| file.path.display().to_string()).collect();
    assert!(stale.is_empty(), "run `cargo run -p crds --bin crdgen`: {stale:?}");
}

#[test]
fn nothing_that_a_committed_definition_accepts_is_refused() {
    for new in all_crds() {
        let path = generated::definition_path(&new);
        let old: CustomResourceDefinition = serde_saphyr::from_str(&committed(&path).unwrap()).unwrap();
        assert_eq!(compat::breaks(&old, &new), [""; 0]);
    }
}

/// What a change of the Tenant's definition, made by a merge patch of its spec's schema, would break.
fn broken_by(patch: Value) -> Vec<String> {
    let old = definition::<Tenant>();
    let mut new = serde_json::to_value(&old).unwrap();
    let spec = &mut new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    json_patch::merge(spec, &patch);
    compat::breaks(&old, &serde_json::from_value(new).unwrap())
}

#[test]
fn a_breaking_change_is_told_by_the_fields_name() {
    let cases = [
        (json!({ "properties": { "plan": null } }), "tenants: .spec.plan: the field is gone"),
        (json!({ "required": ["displayName"] }), "tenants: .spec.displayName: is required now"),
        (
            json!({ "properties": { "deletionPolicy": { "enum": ["Retain"] } } }),
            "tenants: .spec.deletionPolicy: the value \"Delete\" is gone",
        ),
        (
            json!({ "properties": { "displayName": { "enum": ["Acme"] } } }),
            "tenants: .spec.displayName: takes only certain values now",
        ),
        (
            json!({ "properties": { "suspended": { "type": "string" } } }),
            "tenants: .spec.suspended: type \"boolean\" became \"string\"",
        ),
        (json!({ "properties": { "hostnames": { "maxItems": 4 } } }), "tenants: .spec.hostnames: maxItems 16 became 4"),
        (
            json!({ "properties": { "hostnames": { "items": { "maxLength": 63 } } } }),
            "tenants: .spec.hostnames[]: maxLength 253 became 63",
        ),
        (
            json!({ "properties": { "auth": { "properties": { "accessTokenSeconds": { "minimum": 120 } } } } }),
            "tenants: .spec.auth.accessTokenSeconds: minimum 60.0 became 120.0",
        ),
    ];
    for (patch, sentence) in cases {
        assert_eq!(broken_by(patch), [sentence]);
    }
}

#[test]
fn a_wider_definition_breaks_nothing() {
    let cases = [
        json!({ "properties": { "plan": { "pattern": null, "maxLength": 100 } } }),
        json!({ "properties": { "deletionPolicy": { "enum": ["Retain", "Delete", "Archive"] } } }),
        json!({ "properties": { "region": { "type": "string" } } }),
        json!({ "properties": { "region": { "type": "string", "default": "eu" } }, "required": ["region"] }),
    ];
    for patch in cases {
        assert_eq!(broken_by(patch), [""; 0]);
    }
}

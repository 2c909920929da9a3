//! The committed files that are made from the types: definitions and commented examples.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::Serialize;

use crate::{Platform, all_crds, definition, examples, yaml};

/// A file: its path from the root of the repository, and what belongs in it.
#[derive(Debug)]
pub struct File {
    pub path: PathBuf,
    pub content: String,
}

/// Every generated file.
pub fn files() -> Result<Vec<File>> {
    let mut files = vec![
        example("platform", &examples::platform())?,
        autoscaled("blue-green/platform", &examples::blue_green())?,
        example("tenant", &examples::tenant())?,
        example("role-binding", &examples::role_binding())?,
        example("payment-provider", &examples::payment_provider())?,
        example("rate-limit-policy", &examples::rate_limit_policy())?,
        secrets()?,
    ];
    for crd in all_crds() {
        files.push(File { path: definition_path(&crd), content: yaml::plain(&crd)? });
    }
    Ok(files)
}

/// Where a definition is kept.
pub fn definition_path(crd: &CustomResourceDefinition) -> PathBuf {
    format!("crds/generated/{}.yaml", crd.spec.names.plural).into()
}

fn example<K: CustomResourceExt + Serialize>(name: &str, object: &K) -> Result<File> {
    commented::<K>(name, object)
}

/// Without the number of pods, which is the autoscaler's.
fn autoscaled(name: &str, platform: &Platform) -> Result<File> {
    let mut object = serde_json::to_value(platform)?;
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.shift_remove("replicas");
    }
    commented::<Platform>(name, &object)
}

fn commented<K: CustomResourceExt>(name: &str, object: &impl Serialize) -> Result<File> {
    let crd = definition::<K>();
    let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref()).context("a derived kind has a schema")?;
    Ok(File { path: format!("manifests/examples/{name}.yaml").into(), content: yaml::commented(object, schema)? })
}

fn secrets() -> Result<File> {
    let mut content = "# The Secrets that the other examples refer to. Replace every value before use.\n".to_owned();
    for (index, secret) in examples::secrets().iter().enumerate() {
        if index > 0 {
            content += "---\n";
        }
        content += &yaml::plain(secret)?;
    }
    Ok(File { path: "manifests/examples/secrets.yaml".into(), content })
}

//! Applies the Platform of a first install: Helm can only install objects whose kind is served before it begins, and this
//! release brings the kind.

use anyhow::{Context, Result, bail};
use clap::Args;
use crds::Platform;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};

use super::{PAUSE, Patience};

/// The key of the ConfigMap.
const KEY: &str = "platform.yaml";
/// What the tool calls itself, if nothing else is known.
const HELM: &str = "helm";

#[derive(Debug, Clone, Args)]
pub struct ApplyPlatform {
    /// ConfigMap in the namespace of this pod that has the Platform as `platform.yaml`.
    #[arg(long)]
    pub config_map: String,

    #[command(flatten)]
    pub patience: Patience,
}

impl ApplyPlatform {
    pub async fn run(&self, client: Client, namespace: &str) -> Result<String> {
        let source = format!("ConfigMap {namespace}/{}", self.config_map);
        let config: ConfigMap =
            Api::namespaced(client.clone(), namespace).get(&self.config_map).await.context(source.clone())?;
        let manager = who_made(&config).to_owned();
        let text =
            config.data.as_ref().and_then(|data| data.get(KEY)).with_context(|| format!("{source} has no {KEY}"))?;
        let platform = parse(text).with_context(|| format!("{KEY} of {source}"))?;
        let (name, into) = (platform.name_any(), platform.namespace().unwrap_or_default());

        let api: Api<DynamicObject> = Api::namespaced_with(client, &into, &ApiResource::erase::<Platform>(&()));
        let deadline = self.patience.deadline();
        loop {
            match api.patch(&name, &PatchParams::apply(&manager), &Patch::Apply(&platform)).await {
                Ok(_) => return Ok(format!("platform {into}/{name} is applied")),
                // The kind is not served yet; a namespace that is missing answers alike, and says so in the message.
                Err(kube::Error::Api(status)) if status.is_not_found() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error).with_context(|| format!("apply platform {into}/{name}")),
            }
        }
    }
}

/// The Platform as it is written. Not as the type, which would write down every default as wished for.
fn parse(text: &str) -> Result<DynamicObject> {
    let platform: DynamicObject = serde_saphyr::from_str(text)?;
    let wanted = ApiResource::erase::<Platform>(&());
    let found = platform.types.clone().unwrap_or_default();
    if (found.api_version.as_str(), found.kind.as_str()) != (wanted.api_version.as_str(), wanted.kind.as_str()) {
        bail!("is a {:?} of {:?}, not a {} of {}", found.kind, found.api_version, wanted.kind, wanted.api_version);
    }
    if platform.name_any().is_empty() || platform.namespace().is_none() {
        bail!("must say metadata.name and metadata.namespace");
    }
    Ok(platform)
}

/// Who installed the ConfigMap upgrades the Platform later on, and meets no conflict only under the same name.
fn who_made(config: &ConfigMap) -> &str {
    config.managed_fields().first().and_then(|entry| entry.manager.as_deref()).unwrap_or(HELM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_platform_with_a_name_and_a_namespace_is_applied() {
        let good = "apiVersion: tenantry.dev/v1alpha1\nkind: Platform\nmetadata: {name: main, namespace: payments}\nspec: {replicas: 3}\n";
        let platform = parse(good).unwrap();
        assert_eq!(platform.data, serde_json::json!({ "spec": { "replicas": 3 } }), "word for word, without defaults");
        let homeless = parse(&good.replace(", namespace: payments", "")).unwrap_err();
        assert!(homeless.to_string().contains("metadata.namespace"), "{homeless}");
        let stranger = parse(&good.replace("Platform", "Tenant")).unwrap_err();
        assert!(stranger.to_string().contains("not a Platform"), "{stranger}");
    }
}

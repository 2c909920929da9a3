//! Applies the Platform of a first install: Helm can only install objects whose kind is served before it begins, and this
//! release brings the kind.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use crds::Platform;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};

use super::{PAUSE, Patience};

/// Helm's own, so that the next `helm upgrade` goes on with the same object without a conflict.
const MANAGER: &str = "helm";

#[derive(Debug, Clone, Args)]
pub struct ApplyPlatform {
    /// File with the Platform, as YAML.
    #[arg(long)]
    pub file: PathBuf,

    #[command(flatten)]
    pub patience: Patience,
}

impl ApplyPlatform {
    pub async fn run(&self, client: Client) -> Result<String> {
        let file = self.file.display();
        let text = fs::read_to_string(&self.file).with_context(|| format!("{file} cannot be read"))?;
        // Not as the type, which would write down every default as wished for.
        let platform: DynamicObject =
            serde_saphyr::from_str(&text).with_context(|| format!("{file} is not an object"))?;
        let kind = ApiResource::erase::<Platform>(&());
        let (name, namespace) = (platform.name_any(), platform.namespace().unwrap_or_default());
        let types = platform.types.clone().unwrap_or_default();
        if (types.api_version.as_str(), types.kind.as_str()) != (kind.api_version.as_str(), kind.kind.as_str()) {
            bail!("{file} is a {} of {}, not a {} of {}", types.kind, types.api_version, kind.kind, kind.api_version);
        }
        if name.is_empty() || namespace.is_empty() {
            bail!("{file} must say the Platform's metadata.name and metadata.namespace");
        }

        let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
        let deadline = self.patience.deadline();
        loop {
            match api.patch(&name, &PatchParams::apply(MANAGER), &Patch::Apply(&platform)).await {
                Ok(_) => return Ok(format!("platform {namespace}/{name} is applied")),
                // The kind is not served yet; a namespace that is missing answers alike, and says so in the message.
                Err(kube::Error::Api(status)) if status.is_not_found() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error).with_context(|| format!("apply platform {namespace}/{name}")),
            }
        }
    }
}

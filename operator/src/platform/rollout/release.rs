//! A release: everything that makes pods differ, under the hash of it. Its settings and its pods' template are kept in an
//! immutable ConfigMap, so that going back brings back exactly what ran, settings included.

use std::collections::BTreeMap;

use contract::names::{self, LABEL_COLOR, LABEL_RELEASE};
use crds::platform::Color;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, ConfigMapEnvSource, EnvFromSource, PodTemplateSpec},
};
use kube::{ResourceExt, api::ObjectMeta};
use sha2::{Digest, Sha256};

/// Key of the template in the ConfigMap's `binaryData`: what is in `data` becomes a variable of the pods.
const TEMPLATE: &str = "template.json";
const HASH_BYTES: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    pub hash: String,
    /// Variables of the API that are no secret.
    settings: BTreeMap<String, String>,
    /// The pods, but for what depends on the colour and on the hash itself.
    template: PodTemplateSpec,
}

impl Release {
    pub fn new(settings: BTreeMap<String, String>, template: PodTemplateSpec) -> serde_json::Result<Self> {
        let hash = hash(&settings, &template)?;
        Ok(Self { hash, settings, template })
    }

    /// Variables of the API that are no secret.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The pods, whatever their colour.
    pub fn template(&self) -> &PodTemplateSpec {
        &self.template
    }

    /// The pods of one colour.
    pub fn pods(&self, platform: &str, color: Color) -> PodTemplateSpec {
        let mut template = self.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(LABEL_COLOR.into(), color.as_str().into());
        labels.insert(LABEL_RELEASE.into(), self.hash.clone());
        let settings = EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource { name: names::release(platform, &self.hash), optional: None }),
            ..EnvFromSource::default()
        };
        for container in template.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            container.env_from.get_or_insert_default().insert(0, settings.clone());
        }
        template
    }

    /// What keeps it.
    pub fn config_map(&self, mut metadata: ObjectMeta) -> serde_json::Result<ConfigMap> {
        metadata.labels.get_or_insert_default().insert(LABEL_RELEASE.into(), self.hash.clone());
        let template = ByteString(serde_json::to_vec(&self.template)?);
        Ok(ConfigMap {
            metadata,
            immutable: Some(true),
            data: Some(self.settings.clone()),
            binary_data: Some([(TEMPLATE.to_owned(), template)].into()),
        })
    }

    /// Reads it back; `None` where the content is not what its name says, because somebody made it anew.
    pub fn read(kept: &ConfigMap) -> Option<Self> {
        let template = kept.binary_data.as_ref()?.get(TEMPLATE)?;
        let release =
            Self::new(kept.data.clone().unwrap_or_default(), serde_json::from_slice(&template.0).ok()?).ok()?;
        (kept.labels().get(LABEL_RELEASE) == Some(&release.hash)).then_some(release)
    }
}

fn hash(settings: &BTreeMap<String, String>, template: &PodTemplateSpec) -> serde_json::Result<String> {
    // Through a `Value`, whose maps are written in one order whoever read them.
    let content = serde_json::to_vec(&serde_json::to_value((settings, template))?)?;
    Ok(hex::encode(&Sha256::digest(content)[..HASH_BYTES]))
}

//! The colours as they stand in the cluster, read from the API server itself: a cache that is a moment behind could have
//! the colour that takes the requests scaled down.

use contract::names::{self, LABEL_COLOR, LABEL_RELEASE};
use crds::platform::Color;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{Api, Client};

use crate::error::{Doing, ReconcileError};

/// The Deployments of the API and the Service in front of them.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub service: Option<Service>,
    pub blue: Option<Deployment>,
    pub green: Option<Deployment>,
    /// The Deployment of version 0.1.0, which knew no colours.
    pub uncolored: Option<Deployment>,
}

impl Observed {
    pub async fn read(client: &Client, namespace: &str, platform: &str) -> Result<Self, ReconcileError> {
        let services = Api::<Service>::namespaced(client.clone(), namespace);
        let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
        let deployment = async |name: String| {
            deployments.get_opt(&name).await.doing(|| format!("read Deployment {namespace}/{name}"))
        };
        let api = names::api(platform);
        let service = async { services.get_opt(&api).await.doing(|| format!("read Service {namespace}/{api}")) };
        let [blue, green] = Color::ALL.map(|color| names::api_color(platform, color.as_str()));
        let (service, blue, green, uncolored) =
            tokio::try_join!(service, deployment(blue), deployment(green), deployment(api.clone()))?;
        Ok(Self { service, blue, green, uncolored })
    }

    pub fn of(&self, color: Color) -> Option<&Deployment> {
        match color {
            Color::Blue => self.blue.as_ref(),
            Color::Green => self.green.as_ref(),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Deployment> {
        self.blue.iter().chain(&self.green).chain(&self.uncolored)
    }

    /// The Deployment that takes the requests; before the first colour is ready, whichever is there.
    pub fn serving(&self) -> Option<&Deployment> {
        self.selected().and_then(|color| self.of(color)).or_else(|| self.all().next())
    }

    /// The colour that the active Service selects.
    pub fn selected(&self) -> Option<Color> {
        let selector = self.service.as_ref()?.spec.as_ref()?.selector.as_ref()?;
        Color::parse(selector.get(LABEL_COLOR)?)
    }
}

/// The release that a Deployment's template is of.
pub fn release(deployment: &Deployment) -> Option<&str> {
    let labels = deployment.spec.as_ref()?.template.metadata.as_ref()?.labels.as_ref()?;
    labels.get(LABEL_RELEASE).map(String::as_str)
}

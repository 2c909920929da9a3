//! Versions: of this program, the cluster, the operator and the API.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use contract::{
    names::API_NAME,
    version::{COMMIT, VERSION},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde::Serialize;

use crate::{
    Outcome,
    cli::{self, Global},
    connect::Connection,
    output::{Output, Paint, Shown},
};

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    pub client: &'static str,
    pub commit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Images of the pods that run Tenantry, as far as they may be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

pub async fn run(asked: &cli::Version, global: &Global, out: Output) -> Result<Outcome> {
    let mut versions =
        Versions { client: VERSION, commit: COMMIT, kubernetes: None, images: Vec::new(), problem: None };
    let mut outcome = Outcome::Good;
    if !asked.client {
        // Its own version is worth knowing where the cluster does not answer, too.
        if let Err(error) = ask(&mut versions, global).await {
            versions.problem = Some(crate::output::Failure(&error).to_string());
            outcome = Outcome::No;
        }
    }
    out.print(&versions)?;
    Ok(outcome)
}

async fn ask(versions: &mut Versions, global: &Global) -> Result<()> {
    let connection = Connection::open(global).await?;
    let info = connection.client.apiserver_version().await.context("the cluster does not tell its version")?;
    versions.kubernetes = Some(info.git_version);
    versions.images = images(&connection).await;
    Ok(())
}

/// Images of the operator's and the API's pods, in the namespaces that may be seen.
pub async fn images(connection: &Connection) -> Vec<String> {
    let selector = format!("app.kubernetes.io/name in ({API_NAME},tenantry,tenantry-operator)");
    let params = ListParams::default().labels(&selector);
    let everywhere = Api::<Pod>::all(connection.client.clone()).list(&params).await;
    let pods = match everywhere {
        Ok(pods) => pods.items,
        Err(_) => connection.api::<Pod>().list(&params).await.map(|pods| pods.items).unwrap_or_default(),
    };
    let containers = pods.into_iter().filter_map(|pod| pod.spec).flat_map(|spec| spec.containers);
    let mut images: Vec<_> = containers.filter_map(|container| container.image).collect();
    images.sort();
    images.dedup();
    images
}

impl Shown for Versions {
    fn human(&self, paint: Paint) -> String {
        let mut text = format!("kubectl-tenantry {} (commit {})\n", self.client, self.commit);
        text += &self.kubernetes.as_ref().map_or_else(String::new, |version| format!("Kubernetes {version}\n"));
        for image in &self.images {
            let _ = writeln!(text, "runs {image}");
        }
        text += &self.problem.as_ref().map_or_else(String::new, |problem| format!("{}\n", paint.bad(problem)));
        text
    }
}

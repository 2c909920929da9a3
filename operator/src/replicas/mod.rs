//! Asks the API's pods which configuration they serve: the proof behind `Programmed`.
//!
//! A question is a long poll: a replica answers the moment it has loaded (or refused) the revision, so a status follows
//! a change within milliseconds, and a replica that does not answer costs at most the wait.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use contract::{
    Revision,
    names::{API_NAME, LABEL_NAME, PORT_MANAGEMENT},
};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;
use tokio::sync::Semaphore;

/// Questions under way at once, over all tenants and replicas.
const IN_FLIGHT: usize = 512;
const CONNECT: Duration = Duration::from_secs(1);
/// What a replica may need on top of the wait that it was asked for.
const GRACE: Duration = Duration::from_secs(1);

/// What the ready replicas of a platform answered about one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Replicas that serve the revision asked for.
    pub loaded: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// A replica that refused the revision, and why.
    pub rejected: Option<Rejection>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub pod: String,
    pub error: String,
}

impl Loaded {
    /// Whether every ready replica, and at least one, serves it.
    pub fn everywhere(&self) -> bool {
        self.ready > 0 && self.loaded == self.ready
    }
}

/// What a replica says on its management port.
#[derive(Debug, Deserialize)]
struct Answer {
    revision: Option<String>,
    rejected: Option<Refusal>,
}

/// What a replica says about all tenants.
#[derive(Debug, Deserialize)]
struct Held {
    tenants: BTreeMap<String, Served>,
}

#[derive(Debug, Deserialize)]
struct Served {
    revision: String,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    revision: String,
    error: String,
}

/// A client for the API's management ports.
#[derive(Debug, Clone)]
pub struct Replicas {
    http: reqwest::Client,
    permits: Arc<Semaphore>,
}

impl Replicas {
    pub fn new() -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("tenantry-operator/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .no_proxy()
            .build()?;
        Ok(Self { http, permits: Arc::new(Semaphore::new(IN_FLIGHT)) })
    }

    /// Asks all of a platform's `pods` that are ready at once, each for at most `wait` (whole seconds).
    pub async fn ask(&self, pods: &[Arc<Pod>], tenant: &str, revision: &Revision, wait: Duration) -> Loaded {
        let ready: Vec<_> = pods.iter().filter_map(|pod| Some((pod.name_any(), management_address(pod)?))).collect();
        let answers = ready.iter().map(|(pod, address)| async move {
            match self.ask_one(address, tenant, revision, wait).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(pod, tenant, error = %error, "a replica did not answer");
                    None
                }
            }
        });
        let mut loaded = Loaded { ready: u32::try_from(ready.len()).unwrap_or(u32::MAX), ..Loaded::default() };
        for ((pod, _), answer) in ready.iter().zip(join_all(answers).await) {
            let Some(answer) = answer else { continue };
            if answer.revision.as_deref() == Some(revision.as_str()) {
                loaded.loaded += 1;
            } else if let Some(refusal) = answer.rejected.filter(|refusal| refusal.revision == revision.as_str()) {
                loaded.rejected = Some(Rejection { pod: pod.clone(), error: refusal.error });
            }
        }
        loaded
    }

    /// The revision of every tenant that the replica at this address serves; `None` when it does not say.
    pub async fn held(&self, address: &str) -> Option<BTreeMap<String, String>> {
        let _permit = self.permits.acquire().await;
        let sent = self.http.get(format!("http://{address}/internal/config")).timeout(GRACE).send().await;
        let held: Held = sent.ok()?.error_for_status().ok()?.json().await.ok()?;
        Some(held.tenants.into_iter().map(|(tenant, served)| (tenant, served.revision)).collect())
    }

    /// `None`: the replica does not know the tenant (yet).
    async fn ask_one(
        &self,
        address: &str,
        tenant: &str,
        revision: &Revision,
        wait: Duration,
    ) -> reqwest::Result<Option<Answer>> {
        // The semaphore is never closed; were it, asking without a permit would be right too.
        let _permit = self.permits.acquire().await;
        let url =
            format!("http://{address}/internal/config/{tenant}?revision={revision}&waitSeconds={}", wait.as_secs());
        let response = self.http.get(url).timeout(wait + GRACE).send().await?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        response.error_for_status()?.json().await.map(Some)
    }
}

/// Where a pod of the API that takes requests answers questions; `None` for one that is not ready or on its way out.
pub fn management_address(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() || pod.labels().get(LABEL_NAME).is_none_or(|name| name != API_NAME) {
        return None;
    }
    let status = pod.status.as_ref()?;
    status.conditions.iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True")?;
    let ip = status.pod_ip.as_deref().filter(|ip| !ip.is_empty())?;
    let ports = pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = ports.into_iter().find(|port| port.name.as_deref() == Some(PORT_MANAGEMENT))?.container_port;
    Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
}

#[cfg(test)]
mod tests;

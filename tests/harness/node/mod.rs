//! A node and the controllers around it, for a control plane that has neither: Deployments and Jobs become Pods, and Pods
//! become local processes.
//!
//! It plays deployment controller, job controller, endpoint-slice controller and kubelet, narrowly but honestly: replicas,
//! rolling updates, restarts with back-off, probes, graceful termination, environment, volumes. There is no network namespace, so
//! each pod has its own loopback address and is told to bind to it by `TENANTRY_BIND_ADDRESS`; there is no mount namespace,
//! so volumes are folders, and paths in `env` and `args` that begin with a mount path are rewritten to them.
//!
//! Everything is level-triggered: whatever happens wakes one [`pass`](Control::pass), which lists the world and takes the
//! next steps towards what is wanted. A pass that fails is simply run again; running pods do not notice.

pub mod clock;
pub mod endpoints;

mod addresses;
mod deployments;
mod identity;
mod jobs;
mod owned;
mod pod;
mod pods;
mod probes;
mod status;
mod template;
mod volumes;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Pod, Service},
    },
};
use kube::{
    Api, Client, Resource,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Also without any event, for what only time changes (progress deadlines).
const LONGEST_REST: Duration = Duration::from_secs(5);
const REST_AFTER_FAILURE: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub struct Settings {
    pub client: Client,
    /// `None` serves all namespaces.
    pub namespace: Option<String>,
    /// The last path element of an image's repository → the program that stands for it.
    pub images: BTreeMap<String, PathBuf>,
    /// What pods get in place of a mounted ServiceAccount token, where the control plane issues none.
    pub kubeconfig: PathBuf,
    /// Logs (`logs/<namespace>/<pod>/<container>.log`) and volumes.
    pub folder: PathBuf,
}

impl Settings {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn api_in<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }
}

/// A running node. Dropping it kills the pods; [`Node::stop`] ends them politely.
#[derive(Debug)]
pub struct Node {
    stop: CancellationToken,
    task: JoinHandle<()>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

impl Node {
    pub fn start(settings: Settings) -> Self {
        let wake = Arc::new(Notify::new());
        let watches = vec![
            wake_on::<Deployment>(&settings, &wake),
            wake_on::<Job>(&settings, &wake),
            wake_on::<Pod>(&settings, &wake),
            wake_on::<Service>(&settings, &wake),
        ];
        let stop = CancellationToken::new();
        let control = Control { pods: pods::Pods::new(settings.clone(), wake.clone()), settings, wake };
        let task = tokio::spawn(control.run(stop.clone()));
        Self { stop, task, _watches: watches }
    }

    /// SIGTERM to all, and SIGKILL after their grace. The objects stay: a node that comes back runs them again.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn wake_on<K>(settings: &Settings, wake: &Arc<Notify>) -> AbortOnDropHandle<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(settings.api::<K>(), watcher::Config::default()).default_backoff();
    let wake = wake.clone();
    AbortOnDropHandle::new(tokio::spawn(events.for_each(move |_| {
        wake.notify_one();
        std::future::ready(())
    })))
}

struct Control {
    settings: Settings,
    pods: pods::Pods,
    wake: Arc<Notify>,
}

impl Control {
    async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let rest = match self.pass().await {
                Ok(()) => {
                    failing = false;
                    LONGEST_REST
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!("the node cannot work and tries again: {error:#}");
                    }
                    failing = true;
                    REST_AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                _ = timeout(rest, self.wake.notified()) => {}
            }
        }
        self.pods.stop().await;
    }

    async fn pass(&mut self) -> Result<()> {
        let list = ListParams::default();
        let (deployments, jobs, services, pods) = (
            self.settings.api::<Deployment>().list(&list).await?.items,
            self.settings.api::<Job>().list(&list).await?.items,
            self.settings.api::<Service>().list(&list).await?.items,
            self.settings.api::<Pod>().list(&list).await?.items,
        );
        // Pods first: a Deployment's next step depends on what their status says.
        self.pods.sync(&pods).await?;
        owned::remove_orphans(&self.settings, &pods, &deployments, &jobs).await?;
        for deployment in &deployments {
            deployments::sync(&self.settings, deployment, &pods).await?;
        }
        for job in &jobs {
            jobs::sync(&self.settings, job, &pods).await?;
        }
        for service in &services {
            endpoints::sync(&self.settings, service, &pods).await?;
        }
        Ok(())
    }
}

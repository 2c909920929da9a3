//! A node and the controllers around it, for a control plane that has neither: Deployments, StatefulSets, Jobs and CronJobs
//! become Pods, and Pods become local processes.
//!
//! It plays the controllers of these kinds and of claims, autoscalers and endpoint slices, kubelet, kube-proxy and DNS, narrowly but honestly:
//! replicas, rolling updates, restarts with back-off, probes, graceful termination, environment, volumes. There is no network
//! namespace, so each pod has its own loopback address and is told to bind to it by `TENANTRY_BIND_ADDRESS`; there is no mount
//! namespace, so volumes are folders, and paths in `env` and `args` that begin with a mount path are rewritten to them; there are
//! no users, so `securityContext` says nothing here, and no limits. What stands for an image is in [`images`].
//!
//! Everything is level-triggered: whatever happens wakes one [`pass`](Control::pass), which lists the world and takes the
//! next steps towards what is wanted. A pass that fails is simply run again; running pods do not notice.

pub mod clock;
pub mod endpoints;
pub mod images;
pub mod names;

mod addresses;
mod autoscalers;
mod autoscaling;
mod claims;
mod cron_jobs;
mod deployments;
mod identity;
mod jobs;
mod owned;
mod pod;
mod pods;
mod probes;
mod schedule;
mod services;
mod stateful_sets;
mod status;
mod template;
mod volumes;

#[cfg(test)]
mod tests;

use std::{fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{PersistentVolumeClaim, Pod, Service},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use images::{Image, Images};

/// Also without any event, for what only time changes (progress deadlines).
const LONGEST_REST: Duration = Duration::from_secs(5);
const REST_AFTER_FAILURE: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub struct Settings {
    pub client: Client,
    /// `None` serves all namespaces.
    pub namespace: Option<String>,
    /// The programs that stand for images.
    pub images: Images,
    /// What pods get in place of a mounted ServiceAccount token, where the control plane issues none.
    pub kubeconfig: PathBuf,
    /// Logs (`logs/<namespace>/<pod>/<container>.log`), volumes, and the cluster's names.
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

    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.logs().join(namespace).join(pod).join(format!("{container}.log"))
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
            wake_on::<StatefulSet>(&settings, &wake),
            wake_on::<Job>(&settings, &wake),
            wake_on::<CronJob>(&settings, &wake),
            wake_on::<PersistentVolumeClaim>(&settings, &wake),
            wake_on::<Pod>(&settings, &wake),
            wake_on::<Service>(&settings, &wake),
            wake_on::<HorizontalPodAutoscaler>(&settings, &wake),
        ];
        let stop = CancellationToken::new();
        let control = Control {
            pods: pods::Pods::new(settings.clone(), wake.clone()),
            services: services::Services::default(),
            autoscalers: autoscalers::Autoscalers::new(),
            settings,
            wake,
        };
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
    services: services::Services,
    autoscalers: autoscalers::Autoscalers,
    wake: Arc<Notify>,
}

impl Control {
    async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let rest = match self.pass().await {
                Ok(rest) => {
                    failing = false;
                    rest
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

    /// Yields how long nothing happens by itself.
    async fn pass(&mut self) -> Result<Duration> {
        let settings = &self.settings;
        let (deployments, sets, jobs, crons) = tokio::try_join!(
            list::<Deployment>(settings),
            list::<StatefulSet>(settings),
            list::<Job>(settings),
            list::<CronJob>(settings),
        )?;
        let (services, claims, scalers, pods) = tokio::try_join!(
            list::<Service>(settings),
            list::<PersistentVolumeClaim>(settings),
            list::<HorizontalPodAutoscaler>(settings),
            list::<Pod>(settings),
        )?;
        for claim in &claims {
            claims::bind(settings, claim).await?;
        }
        // Names before pods, which may look for one at once; pods before their owners, whose next step depends on the status.
        self.services.sync(settings, &services, &pods)?;
        self.pods.sync(&pods).await?;
        claims::sweep(settings, &claims, &pods)?;
        let uids = deployments.iter().filter_map(ResourceExt::uid).chain(sets.iter().filter_map(ResourceExt::uid));
        let owners = uids.chain(jobs.iter().filter_map(ResourceExt::uid)).collect();
        owned::remove_orphans(settings, &pods, &owners).await?;
        for deployment in &deployments {
            deployments::sync(settings, deployment, &pods).await?;
        }
        for set in &sets {
            stateful_sets::sync(settings, set, &pods).await?;
        }
        for cron in &crons {
            cron_jobs::sync(settings, cron, &jobs).await?;
        }
        for job in &jobs {
            jobs::sync(settings, job, &pods).await?;
        }
        for service in &services {
            endpoints::sync(settings, service, &pods).await?;
        }
        self.autoscalers.sync(settings, &scalers, &pods, &self.pods).await?;
        Ok(if scalers.is_empty() { LONGEST_REST } else { autoscalers::PERIOD })
    }
}

async fn list<K>(settings: &Settings) -> Result<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    Ok(settings.api::<K>().list(&ListParams::default()).await?.items)
}

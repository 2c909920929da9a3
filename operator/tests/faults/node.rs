//! The rest of a cluster: Jobs that complete, Deployments with pods that are ready at once, and what these serve: every
//! document there is, as soon as it is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use operator::replicas::{Report, Source};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What each pod serves: tenants with their revisions, and how often that changed.
#[derive(Clone)]
pub struct Replica {
    serves: Arc<Mutex<BTreeMap<String, String>>>,
    changes: watch::Sender<u64>,
    /// How long a document takes to be loaded once it is told.
    lag: Arc<Mutex<Duration>>,
}

impl Replica {
    pub fn new() -> Self {
        Self { serves: Arc::default(), changes: watch::Sender::new(0), lag: Arc::default() }
    }

    pub fn lags(&self, lag: Duration) {
        *self.lag.lock() = lag;
    }
}

impl Source for Replica {
    fn ask<'a>(&'a self, _: &'a str, cursor: Option<&'a str>, wait: Duration) -> BoxFuture<'a, Result<Report, String>> {
        async move {
            let since = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(u64::MAX);
            let _ = timeout(wait, self.changes.subscribe().wait_for(|count| *count != since)).await;
            let count = *self.changes.borrow();
            let tenants = self.serves.lock().clone().into_iter().collect();
            // All of it each time: a replica that restarts tells no less.
            Ok(Report { cursor: Some(count.to_string()), whole: true, tenants, ..Report::default() })
        }
        .boxed()
    }
}

/// Plays until the set is dropped.
pub fn play(client: &Client, namespace: &str, replica: &Replica) -> JoinSet<()> {
    let mut parts = JoinSet::new();
    let (jobs, deployments) =
        (Api::<Job>::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
    parts.spawn(complete(jobs));
    parts.spawn(start(deployments, Api::namespaced(client.clone(), namespace)));
    parts.spawn(serve(Api::namespaced(client.clone(), namespace), replica.clone()));
    parts
}

async fn complete(jobs: Api<Job>) {
    let mut events = watcher(jobs.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(job) | Event::InitApply(job)) = event else { continue };
        if job.status.is_none_or(|status| status.conditions.is_none()) {
            let times = json!({
                "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z", "succeeded": 1,
                "conditions": [
                    {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
                    {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
                ],
            });
            let name = job.metadata.name.unwrap();
            // It may be gone by now.
            let _ = jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": times}))).await;
        }
    }
}

async fn start(deployments: Api<Deployment>, pods: Api<Pod>) {
    let mut events = watcher(deployments.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(deployment) | Event::InitApply(deployment)) => {
                bring_up(&deployments, &pods, &deployment).await;
            }
            Ok(Event::Delete(deployment)) => stop(&pods, &deployment.name_any(), &BTreeSet::new()).await,
            _ => {}
        }
    }
}

/// The label by which a pod says whose it is.
const OF: &str = "test/deployment";

/// Brings a Deployment's pods to what it says, all at once.
async fn bring_up(deployments: &Api<Deployment>, pods: &Api<Pod>, deployment: &Deployment) {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    if observed == deployment.metadata.generation {
        return;
    }
    let (name, spec) = (deployment.name_any(), deployment.spec.as_ref().unwrap());
    let template = serde_json::to_value(&spec.template).unwrap();
    let release = template["metadata"]["labels"][contract::names::LABEL_RELEASE].as_str().unwrap();
    let replicas = spec.replicas.unwrap_or(1);
    let wanted: BTreeSet<_> = (0..replicas).map(|number| format!("{name}-{release}-{number}")).collect();
    for pod in &wanted {
        let mut object = json!({"metadata": template["metadata"], "spec": template["spec"]});
        object["metadata"]["name"] = pod.as_str().into();
        object["metadata"]["labels"][OF] = name.as_str().into();
        // It may be there already.
        let _ = pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
        // Nobody answers at this address: what the pods say is played too.
        let status = json!({"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]});
        let _ = pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await;
    }
    stop(pods, &name, &wanted).await;
    let status = json!({
        "observedGeneration": deployment.metadata.generation, "replicas": replicas,
        "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
    });
    let _ = deployments.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await;
}

/// Ends a Deployment's pods but these.
async fn stop(pods: &Api<Pod>, deployment: &str, keep: &BTreeSet<String>) {
    let all = pods.list(&ListParams::default().labels(&format!("{OF}={deployment}"))).await.unwrap();
    for pod in all.iter().map(ResourceExt::name_any).filter(|name| !keep.contains(name)) {
        let _ = pods.delete(&pod, &DeleteParams::default().grace_period(0)).await;
    }
}

async fn serve(documents: Api<ConfigMap>, replica: Replica) {
    let mut events = watcher(documents, watcher::Config::default().labels(contract::names::LABEL_CONTRACT)).boxed();
    let mut listed = HashMap::new();
    let known = |document: &ConfigMap| {
        let tenant = document.labels().get(contract::names::LABEL_TENANT)?.clone();
        Some((tenant, document.annotations().get(contract::names::ANNOTATION_REVISION)?.clone()))
    };
    while let Some(event) = events.next().await {
        let lag = *replica.lag.lock();
        if !lag.is_zero() {
            sleep(lag).await;
        }
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(document)) => listed.extend(known(&document)),
            Ok(Event::InitDone) => *replica.serves.lock() = listed.drain().collect(),
            Ok(Event::Apply(document)) => replica.serves.lock().extend(known(&document)),
            Ok(Event::Delete(document)) => {
                if let Some((tenant, _)) = known(&document) {
                    replica.serves.lock().remove(&tenant);
                }
            }
            Err(error) => panic!("{error}"),
        }
        replica.changes.send_modify(|count| *count += 1);
    }
}

//! The rest of a cluster: Jobs that complete, Deployments whose pods become ready, and one replica of the API that serves
//! every document it is told of.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use operator::replicas::{Report, Source};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// What the replica serves: tenants with their revisions, and how often that changed.
#[derive(Clone)]
pub struct Replica {
    serves: Arc<Mutex<BTreeMap<String, String>>>,
    changes: watch::Sender<u64>,
}

impl Replica {
    pub fn new() -> Self {
        Self { serves: Arc::default(), changes: watch::Sender::new(0) }
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
    parts.spawn(start(deployments));
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

async fn start(deployments: Api<Deployment>) {
    let mut events = watcher(deployments.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(deployment) | Event::InitApply(deployment)) = event else { continue };
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
        if observed != deployment.metadata.generation {
            let status = json!({
                "observedGeneration": deployment.metadata.generation, "replicas": replicas,
                "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
            });
            let patch = Patch::Merge(json!({"status": status}));
            let _ = deployments.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await;
        }
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

//! What still has to happen before this replica is of use. Waiting for a CRD is not ill, and it is not ready.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::kube_ext::is_not_served;

/// How often the API server is asked for the kinds that are missing.
const LOOK: Duration = Duration::from_secs(1);

/// The list of what is awaited; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    awaited: Mutex<BTreeMap<usize, String>>,
    next: AtomicUsize,
    changed: Notify,
}

/// One thing that is awaited.
#[derive(Debug)]
pub struct Gate {
    id: usize,
    readiness: Readiness,
}

impl Readiness {
    /// Not ready until the gate is done; `what` completes the sentence "waiting for …".
    pub fn waits_for(&self, what: &str) -> Gate {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.awaited.lock().insert(id, what.to_owned());
        Gate { id, readiness: self.clone() }
    }

    /// What is awaited now; empty when ready.
    pub fn awaited(&self) -> Vec<String> {
        self.0.awaited.lock().values().cloned().collect()
    }

    /// Returns when nothing is awaited any more.
    pub async fn ready(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.awaited.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }
}

impl Gate {
    pub fn done(&self) {
        self.readiness.0.awaited.lock().remove(&self.id);
        self.readiness.0.changed.notify_waiters();
    }

    /// Says more precisely what is awaited.
    fn rename(&self, what: String) {
        self.readiness.0.awaited.lock().insert(self.id, what);
    }
}

/// Waits until the API server serves every kind of ours.
pub async fn kinds_are_served(client: &Client, readiness: &Readiness) {
    let gate = readiness.waits_for("the API server");
    let wanted = crds::all_crds();
    let (Some(group), Some(version)) =
        (wanted.first().map(|crd| &crd.spec.group), wanted.first().and_then(|crd| crd.spec.versions.first()))
    else {
        return gate.done();
    };
    let group_version = format!("{group}/{}", version.name);
    let mut told = String::new();
    loop {
        let missing = match client.list_api_group_resources(&group_version).await {
            Ok(served) => missing(&wanted, |plural| served.resources.iter().any(|resource| resource.name == plural)),
            Err(kube::Error::Api(status)) if is_not_served(&status) => missing(&wanted, |_| false),
            Err(error) => format!("the API server, which does not answer: {error}"),
        };
        if missing.is_empty() {
            return gate.done();
        }
        if told != missing {
            tracing::warn!("waiting for {missing}");
            gate.rename(missing.clone());
            told = missing;
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Crd = k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

fn missing(wanted: &[Crd], served: impl Fn(&str) -> bool) -> String {
    let names = wanted.iter().filter(|crd| !served(&crd.spec.names.plural)).filter_map(|crd| crd.metadata.name.clone());
    let names = names.collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        names
    } else {
        format!(
            "the CustomResourceDefinitions {names}: install them with `tenantry-operator crds | kubectl apply --server-side -f -`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_every_gate_is_done_and_names_those_that_are_not() {
        let readiness = Readiness::default();
        let (one, two) = (readiness.waits_for("one"), readiness.waits_for("two"));
        one.done();
        assert_eq!(readiness.awaited(), ["two"]);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        two.done();
        waiting.await.unwrap();
        assert!(readiness.awaited().is_empty());
    }

    #[test]
    fn the_missing_kinds_are_named_with_the_cure() {
        let sentence = missing(&crds::all_crds(), |plural| plural != "tenants");
        assert_eq!(
            sentence,
            "the CustomResourceDefinitions tenants.tenantry.dev: install them with `tenantry-operator crds | kubectl apply --server-side -f -`"
        );
        assert_eq!(missing(&crds::all_crds(), |_| true), "");
    }
}

//! The StatefulSet controller: pods with names that stay, one after the other, each with claims of its own.
//!
//! As Kubernetes does, and against what one might wish: with `OrderedReady` a pod that does not become ready holds up all that
//! follows, its own correction too, until somebody deletes it. Old templates are not kept: a pod that is lost in the middle of
//! an update comes back with the newest one.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume},
};
use kube::{Resource, ResourceExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Settings, owned};

const REVISION_LABEL: &str = "controller-revision-hash";
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub async fn sync(settings: &Settings, set: &StatefulSet, pods: &[Pod]) -> Result<()> {
    if set.metadata.deletion_timestamp.is_some() || set.spec.is_none() {
        return Ok(());
    }
    let view = View::new(set, &owned::of(set, pods));
    let plan = view.plan();
    for ordinal in plan.create {
        for (_, claim) in claims(set, ordinal) {
            owned::submit(settings, &claim).await?;
        }
        owned::submit(settings, &pod(set, &view.revision, ordinal)).await?;
    }
    for pod in plan.delete {
        owned::delete(settings, pod).await?;
    }
    let status = view.status(set);
    if set.status.as_ref() != Some(&status) {
        let mut value = json!({"readyReplicas": 0, "availableReplicas": 0, "currentReplicas": 0, "updatedReplicas": 0});
        if let (Some(all), serde_json::Value::Object(some)) = (value.as_object_mut(), serde_json::to_value(&status)?) {
            all.extend(some);
        }
        owned::write_status(settings, set, value).await?;
    }
    Ok(())
}

/// The template's identity, as the pods' label says it.
fn revision(set: &StatefulSet) -> String {
    let text = serde_json::to_string(&set.spec.as_ref().map(|spec| &spec.template)).unwrap_or_default();
    format!("{}-{}", set.name_any(), hex::encode(&Sha256::digest(text)[..5]))
}

fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<usize> {
    pod.name_any().strip_prefix(&set.name_any())?.strip_prefix('-')?.parse().ok()
}

fn pod(set: &StatefulSet, revision: &str, ordinal: usize) -> Pod {
    let spec = set.spec.clone().unwrap_or_default();
    let (name, index) = (format!("{}-{ordinal}", set.name_any()), ordinal.to_string());
    let labels = [(REVISION_LABEL, revision), (POD_NAME_LABEL, &name), (INDEX_LABEL, &index)];
    let mut pod = owned::pod(set, &spec.template, &name, &labels);
    if let Some(pod) = &mut pod.spec {
        pod.hostname = Some(name);
        pod.subdomain = spec.service_name;
        let volumes = pod.volumes.get_or_insert_default();
        for (name, claim) in claims(set, ordinal) {
            volumes.retain(|volume| volume.name != name);
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim.name_any(), read_only: None };
            volumes.push(Volume { name, persistent_volume_claim: Some(source), ..Volume::default() });
        }
    }
    pod
}

/// `<template>-<set>-<ordinal>`, with the template's name. They outlive their pod, and the set as well unless it says `whenDeleted: Delete`.
fn claims(set: &StatefulSet, ordinal: usize) -> Vec<(String, PersistentVolumeClaim)> {
    let spec = set.spec.clone().unwrap_or_default();
    let with_the_set = spec
        .persistent_volume_claim_retention_policy
        .is_some_and(|policy| policy.when_deleted.as_deref() == Some("Delete"));
    let templates = spec.volume_claim_templates.into_iter().flatten();
    let selected = spec.selector.match_labels.unwrap_or_default();
    templates
        .map(|mut claim| {
            let template = claim.name_any();
            claim.metadata.name = Some(format!("{template}-{}-{ordinal}", set.name_any()));
            claim.metadata.namespace = set.namespace();
            claim.labels_mut().extend(selected.clone());
            claim.metadata.owner_references =
                set.controller_owner_ref(&()).filter(|_| with_the_set).map(|owner| vec![owner]);
            claim.status = None;
            (template, claim)
        })
        .collect()
}

struct View<'a> {
    desired: usize,
    ordered: bool,
    /// Ordinals below it keep the template that they have.
    partition: usize,
    replace: bool,
    revision: String,
    pods: BTreeMap<usize, &'a Pod>,
}

#[derive(Debug, Default, PartialEq)]
struct Plan<'a> {
    create: Vec<usize>,
    delete: Vec<&'a Pod>,
}

impl<'a> View<'a> {
    fn new(set: &StatefulSet, mine: &[&'a Pod]) -> Self {
        let spec = set.spec.clone().unwrap_or_default();
        let strategy = spec.update_strategy.unwrap_or_default();
        let partition = strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or_default();
        Self {
            desired: usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default(),
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            partition: usize::try_from(partition).unwrap_or_default(),
            replace: strategy.type_.as_deref() != Some("OnDelete"),
            revision: revision(set),
            pods: mine.iter().filter_map(|pod| Some((ordinal(set, pod)?, *pod))).collect(),
        }
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.labels().get(REVISION_LABEL) == Some(&self.revision)
    }

    fn plan(&self) -> Plan<'a> {
        let mut plan = Plan::default();
        let ended = |pod: &Pod| matches!(owned::phase(pod), "Failed" | "Succeeded");
        let leaving = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        // Upwards: what is missing, and nothing above one that is not ready.
        for ordinal in 0..self.desired {
            let well = match self.pods.get(&ordinal) {
                None => {
                    plan.create.push(ordinal);
                    false
                }
                Some(pod) if ended(pod) && !leaving(pod) => {
                    plan.delete.push(pod);
                    false
                }
                Some(pod) => owned::is_ready(pod),
            };
            if self.ordered && !well {
                return plan;
            }
        }
        // Downwards: what is too many, then what is of an older template; one at a time.
        let surplus: Vec<_> = self.pods.range(self.desired..).rev().map(|(_, pod)| *pod).collect();
        if !surplus.is_empty() {
            let most = if self.ordered { 1 } else { surplus.len() };
            plan.delete.extend(surplus.into_iter().take(most).filter(|pod| !leaving(pod)));
            return plan;
        }
        for (_, pod) in self.pods.range(self.partition..).rev().filter(|_| self.replace) {
            if !self.is_new(pod) {
                plan.delete.extend(Some(*pod).filter(|pod| !leaving(pod) && !plan.delete.contains(pod)));
                return plan;
            }
            if !owned::is_ready(pod) {
                return plan;
            }
        }
        plan
    }

    fn status(&self, set: &StatefulSet) -> StatefulSetStatus {
        let before = set.status.clone().unwrap_or_default();
        let count = |number: usize| i32::try_from(number).ok().filter(|number| *number > 0);
        let ready = self.pods.values().filter(|pod| owned::is_ready(pod)).count();
        let new = self.pods.values().filter(|pod| self.is_new(pod)).count();
        let complete = new == self.desired && ready == self.desired && self.pods.len() == self.desired;
        let current = before.current_revision.clone().filter(|_| !complete).unwrap_or_else(|| self.revision.clone());
        let of_current = self.pods.values().filter(|pod| pod.labels().get(REVISION_LABEL) == Some(&current)).count();
        StatefulSetStatus {
            observed_generation: set.metadata.generation,
            replicas: i32::try_from(self.pods.len()).unwrap_or_default(),
            ready_replicas: count(ready),
            available_replicas: count(ready),
            current_replicas: count(of_current),
            updated_replicas: count(new),
            current_revision: Some(current),
            update_revision: Some(self.revision.clone()),
            ..before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: usize, policy: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db"},
            "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": []}}, "podManagementPolicy": policy, "serviceName": "db"},
        }))
        .unwrap()
    }

    fn pod(ordinal: usize, revision: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("db-{ordinal}"), "labels": {REVISION_LABEL: revision}},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap()
    }

    /// Ordinals to create and names to delete.
    fn steps(set: &StatefulSet, pods: &[Pod]) -> (Vec<usize>, Vec<String>) {
        let mine: Vec<_> = pods.iter().collect();
        let plan = View::new(set, &mine).plan();
        (plan.create, plan.delete.iter().map(|pod| pod.name_any()).collect())
    }

    #[test]
    fn the_next_pod_waits_for_the_one_before_it() {
        let set = set(3, "OrderedReady");
        let new = revision(&set);
        assert_eq!(steps(&set, &[]), (vec![0], vec![]));
        assert_eq!(steps(&set, &[pod(0, &new, false)]), (vec![], vec![]));
        assert_eq!(steps(&set, &[pod(0, &new, true)]), (vec![1], vec![]));
    }

    #[test]
    fn parallel_pods_come_and_go_together() {
        assert_eq!(steps(&set(3, "Parallel"), &[]), (vec![0, 1, 2], vec![]));
        let pods = [0, 1, 2].map(|ordinal| pod(ordinal, "old", true));
        assert_eq!(steps(&set(1, "Parallel"), &pods).1, ["db-2", "db-1"]);
        assert_eq!(steps(&set(1, "OrderedReady"), &pods).1, ["db-2"]);
    }

    #[test]
    fn an_update_goes_from_the_last_to_the_first_and_waits_for_each() {
        let set = set(2, "OrderedReady");
        let new = revision(&set);
        assert_eq!(steps(&set, &[pod(0, "old", true), pod(1, "old", true)]).1, ["db-1"]);
        assert_eq!(steps(&set, &[pod(0, "old", true), pod(1, &new, false)]), (vec![], vec![]));
        assert_eq!(steps(&set, &[pod(0, "old", true), pod(1, &new, true)]).1, ["db-0"]);
    }

    #[test]
    fn a_claim_is_named_after_template_set_and_ordinal() {
        let mut set = set(1, "OrderedReady");
        let claim = serde_json::from_value(json!({"metadata": {"name": "data"}, "spec": {}})).unwrap();
        set.spec.as_mut().unwrap().volume_claim_templates = Some(vec![claim]);
        let pod = super::pod(&set, "r", 0);
        let volumes = pod.spec.unwrap().volumes.unwrap();
        assert_eq!(volumes[0].name, "data");
        assert_eq!(volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-0");
    }
}

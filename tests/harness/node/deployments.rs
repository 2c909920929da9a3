//! The deployment controller: as many pods of the newest template as are wanted, and never too few on the way.

use std::collections::BTreeSet;

use anyhow::Result;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentCondition, DeploymentStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use kube::ResourceExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Settings, clock, owned};

const HASH_LABEL: &str = "pod-template-hash";

pub async fn sync(settings: &Settings, deployment: &Deployment, pods: &[Pod]) -> Result<()> {
    let Some(spec) = &deployment.spec else { return Ok(()) };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let hash = hash(deployment);
    let mine = owned::of(deployment, pods);
    let view = View::new(deployment, &hash, &mine);

    if spec.paused != Some(true) {
        let plan = view.plan();
        for pod in &plan.delete {
            owned::delete(settings, pod).await?;
        }
        let mut taken: BTreeSet<_> = mine.iter().map(|pod| pod.name_any()).collect();
        let prefix = format!("{}-{hash}", deployment.name_any());
        for _ in 0..plan.create {
            owned::create(settings, deployment, &spec.template, &prefix, &[(HASH_LABEL, &hash)], &mut taken).await?;
        }
    }
    let status = view.status(deployment);
    if deployment.status.as_ref() != Some(&status) {
        // Zeroes must be said too: a merge patch keeps what it does not name.
        let mut value = json!({
            "replicas": 0, "updatedReplicas": 0, "readyReplicas": 0, "availableReplicas": 0, "unavailableReplicas": 0
        });
        if let (Some(all), serde_json::Value::Object(some)) = (value.as_object_mut(), serde_json::to_value(&status)?) {
            all.extend(some);
        }
        owned::write_status(settings, deployment, value).await?;
    }
    Ok(())
}

/// The template's identity, as it becomes part of the pods' names.
fn hash(deployment: &Deployment) -> String {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let text = serde_json::to_string(&template).unwrap_or_default();
    hex::encode(&Sha256::digest(text)[..5])
}

/// A Deployment's pods, sorted by what matters for the next step.
struct View<'a> {
    desired: usize,
    surge: usize,
    unavailable: usize,
    recreate: bool,
    new: Vec<&'a Pod>,
    old: Vec<&'a Pod>,
    /// On their way out.
    leaving: usize,
}

#[derive(Debug, PartialEq)]
struct Plan<'a> {
    create: usize,
    delete: Vec<&'a Pod>,
}

impl<'a> View<'a> {
    fn new(deployment: &Deployment, hash: &str, mine: &[&'a Pod]) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let desired = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
        let strategy = spec.strategy.unwrap_or_default();
        let rolling = strategy.rolling_update.unwrap_or_default();
        let surge = share(rolling.max_surge.as_ref(), desired, true);
        let unavailable = share(rolling.max_unavailable.as_ref(), desired, false);
        let (leaving, staying): (Vec<&Pod>, Vec<&Pod>) =
            mine.iter().partition(|pod| pod.metadata.deletion_timestamp.is_some());
        let (new, old): (Vec<&Pod>, Vec<&Pod>) =
            staying.into_iter().partition(|pod| pod.labels().get(HASH_LABEL).is_some_and(|label| label == hash));
        // Neither would never get anywhere; Kubernetes settles it the same way.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        let recreate = strategy.type_.as_deref() == Some("Recreate");
        Self { desired, surge, unavailable, recreate, new, old, leaving: leaving.len() }
    }

    fn ready(&self) -> usize {
        self.new.iter().chain(&self.old).filter(|pod| owned::is_ready(pod)).count()
    }

    fn plan(&self) -> Plan<'a> {
        if self.recreate && !self.old.is_empty() {
            return Plan { create: 0, delete: self.old.clone() };
        }
        let waiting_for_the_old_to_leave = self.recreate && self.leaving > 0 && self.new.is_empty();
        let total = self.new.len() + self.old.len();
        let room = (self.desired + if self.old.is_empty() { 0 } else { self.surge }).saturating_sub(total);
        let missing = self.desired.saturating_sub(self.new.len());
        let create = if waiting_for_the_old_to_leave { 0 } else { missing.min(room) };

        // What isn't ready serves nobody and goes first; of the ready ones only as many as may be missing.
        let mut spare = self.ready().saturating_sub(self.desired.saturating_sub(self.unavailable));
        let mut surplus = self.new.clone();
        surplus.sort_by_key(|pod| (!owned::is_ready(pod), pod.metadata.creation_timestamp.clone()));
        let mut delete: Vec<_> = surplus.split_off(self.desired.min(surplus.len()));
        spare = spare.saturating_sub(delete.iter().filter(|pod| owned::is_ready(pod)).count());
        for pod in &self.old {
            if !owned::is_ready(pod) {
                delete.push(pod);
            } else if spare > 0 {
                spare -= 1;
                delete.push(pod);
            }
        }
        Plan { create, delete }
    }

    fn status(&self, deployment: &Deployment) -> DeploymentStatus {
        let before = deployment.status.clone().unwrap_or_default();
        let count = |number: usize| i32::try_from(number).ok().filter(|number| *number > 0);
        let ready = self.ready();
        let up_to_date = self.new.iter().filter(|pod| owned::is_ready(pod)).count();
        let complete = up_to_date >= self.desired && self.old.is_empty() && self.new.len() == self.desired;
        let available = ready >= self.desired.saturating_sub(self.unavailable);
        let moved = before.ready_replicas != count(ready) || before.updated_replicas != count(self.new.len());

        let progress = if complete {
            ("True", "NewReplicaSetAvailable", "All replicas run the newest template.")
        } else if !moved && stuck(deployment) {
            ("False", "ProgressDeadlineExceeded", "The newest template's pods do not become ready.")
        } else {
            ("True", "ReplicaSetUpdated", "Pods of the newest template are on their way.")
        };
        let availability = if available {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let conditions = vec![
            condition(&before, "Available", availability, false),
            condition(&before, "Progressing", progress, moved),
        ];
        DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas: count(self.new.len() + self.old.len()),
            updated_replicas: count(self.new.len()),
            ready_replicas: count(ready),
            available_replicas: count(ready),
            unavailable_replicas: count(self.desired.saturating_sub(ready)),
            conditions: Some(conditions),
            ..before
        }
    }
}

/// A number or a percentage of the replicas; 25 % where nothing is said.
fn share(value: Option<&IntOrString>, of: usize, round_up: bool) -> usize {
    let percent = |percent: usize| if round_up { (of * percent).div_ceil(100) } else { of * percent / 100 };
    match value {
        None => percent(25),
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or_default(),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().map(percent).unwrap_or_default(),
    }
}

fn stuck(deployment: &Deployment) -> bool {
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600);
    let mut conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let progressing = conditions.find(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() != Some("NewReplicaSetAvailable")
    });
    let since = progressing.and_then(|condition| condition.last_update_time.as_ref());
    since.is_some_and(|since| clock::now().duration_since(since.0).as_secs() > i64::from(deadline))
}

fn condition(
    before: &DeploymentStatus,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    moved: bool,
) -> DeploymentCondition {
    let now = Some(Time(clock::seconds()));
    let mut known = before.conditions.iter().flatten();
    let known = known.find(|condition| condition.type_ == kind);
    let same_status = known.filter(|known| known.status == status);
    let same = same_status.filter(|known| known.reason.as_deref() == Some(reason) && !moved);
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: same_status.map_or(now.clone(), |known| known.last_transition_time.clone()),
        last_update_time: same.map_or(now, |known| known.last_update_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(replicas: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "api"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
        }))
        .unwrap()
    }

    fn pod(name: &str, hash: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {HASH_LABEL: hash}},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap()
    }

    fn names(pods: &[&Pod]) -> Vec<String> {
        pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn a_new_template_adds_one_before_it_takes_one() {
        let old = [pod("old-0", "a", true), pod("old-1", "a", true)];
        let mine: Vec<_> = old.iter().collect();
        let plan = View::new(&deployment(2), "b", &mine).plan();
        assert_eq!((plan.create, plan.delete), (1, vec![]));
    }

    #[test]
    fn an_old_pod_goes_only_when_a_new_one_is_ready() {
        let mut pods = [pod("old-0", "a", true), pod("old-1", "a", true), pod("new-0", "b", false)];
        assert_eq!(View::new(&deployment(2), "b", &pods.iter().collect::<Vec<_>>()).plan().delete.len(), 0);
        pods[2] = pod("new-0", "b", true);
        let mine: Vec<_> = pods.iter().collect();
        assert_eq!(names(&View::new(&deployment(2), "b", &mine).plan().delete), ["old-0"]);
    }

    #[test]
    fn scaling_down_takes_the_unready_first() {
        let pods = [pod("a", "h", false), pod("b", "h", true)];
        let mine: Vec<_> = pods.iter().collect();
        assert_eq!(names(&View::new(&deployment(1), "h", &mine).plan().delete), ["a"]);
    }

    #[test]
    fn a_status_that_says_the_same_keeps_its_times() {
        let pods = [pod("a", "h", true)];
        let mine: Vec<_> = pods.iter().collect();
        let mut deployment = deployment(1);
        deployment.status = Some(View::new(&deployment, "h", &mine).status(&deployment));
        assert_eq!(deployment.status, Some(View::new(&deployment, "h", &mine).status(&deployment)));
        assert_eq!(deployment.status.unwrap().ready_replicas, Some(1));
    }
}

//! What the machine is told about the pods of a colour: how many are ready, what keeps the others, and which of them
//! serve the newest configuration.

use std::{collections::BTreeMap, sync::Arc};

use contract::names::{LABEL_COLOR, LABEL_RELEASE, LABEL_TENANT};
use crds::platform::Color;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt;

use super::{
    machine::{Pods, Trouble},
    observed::release,
};
use crate::{
    context::Ctx,
    replicas::management_address,
    stores::{Kept, Key},
};

/// After this many restarts a crash is no coincidence.
const CRASHES: i32 = 3;

/// The numbers of a Deployment; nothing is asked.
pub fn pods(deployment: &Deployment, mine: &[Arc<Pod>]) -> Pods {
    let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let spec = deployment.spec.as_ref();
    let status = deployment.status.clone().unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    let (updated, available) = (number(status.updated_replicas), number(status.available_replicas));
    let only = current && number(status.replicas) == updated;
    let ready = if current { updated.min(available) } else { 0 };
    Pods {
        release: release(deployment).unwrap_or_default().to_owned(),
        wanted: spec.map_or(0, |spec| number(spec.replicas.or(Some(1)))),
        ready,
        available,
        only,
        // Whoever takes the requests is not asked: that is the Tenants' business.
        holding: ready,
        lacking: None,
        trouble: mine.iter().filter_map(|pod| trouble(pod)).max_by_key(|trouble| (trouble.fatal, trouble.since)),
    }
}

/// A colour's pods of one release.
pub fn of(pods: &[Arc<Pod>], color: Color, release: &str) -> Vec<Arc<Pod>> {
    let labelled = |pod: &&Arc<Pod>| {
        let label = |key: &str| pod.labels().get(key).map(String::as_str);
        label(LABEL_COLOR) == Some(color.as_str()) && label(LABEL_RELEASE) == Some(release)
    };
    pods.iter().filter(labelled).cloned().collect()
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let (name, status) = (pod.name_any(), pod.status.as_ref()?);
    let since = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let waiting = containers.into_iter().find_map(|container| {
        let reason = container.state.as_ref()?.waiting.as_ref()?.reason.clone()?;
        (!matches!(reason.as_str(), "ContainerCreating" | "PodInitializing")).then_some((container, reason))
    });
    if let Some((container, reason)) = waiting {
        let fatal =
            reason == "InvalidImageName" || (reason == "CrashLoopBackOff" && container.restart_count >= CRASHES);
        return Some(Trouble { fatal, since, message: format!("pod {name} is in {reason}{}", last_words(container)) });
    }
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.into_iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let why = unscheduled.message.as_deref().unwrap_or("no node takes it");
    Some(Trouble { fatal: false, since, message: format!("pod {name} is not scheduled: {why}") })
}

fn last_words(container: &ContainerStatus) -> String {
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    ended.map_or_else(String::new, |ended| {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        format!(" after {} restarts ({reason}, exit code {})", container.restart_count, ended.exit_code)
    })
}

/// Asks each pod of a colour what it serves, and fills in who holds everything.
pub async fn ask_what_they_hold(ctx: &Ctx, namespace: &str, platform: &str, mine: &[Arc<Pod>], pods: &mut Pods) {
    let documents = ctx.stores.documents.find(&Key::Platform(namespace.into(), platform.into()));
    let wanted: BTreeMap<_, _> = documents
        .iter()
        .filter_map(|document| Some((document.label(LABEL_TENANT)?.to_owned(), document.revision()?.to_owned())))
        .collect();
    let asked = mine.iter().filter_map(|pod| Some((pod.name_any(), management_address(pod)?)));
    let answers = asked.map(|(name, address)| {
        let wanted = &wanted;
        async move {
            let Some(held) = ctx.replicas.held(&address).await else {
                return Err(format!("replica {name} does not say which configuration it serves"));
            };
            let lacking = wanted.iter().find(|(tenant, revision)| held.get(*tenant) != Some(*revision));
            lacking.map_or(Ok(()), |(tenant, revision)| {
                Err(format!("replica {name} does not serve revision {revision} of tenant {tenant}"))
            })
        }
    });
    let answers = futures::future::join_all(answers).await;
    pods.holding = u32::try_from(answers.iter().filter(|answer| answer.is_ok()).count()).unwrap_or(u32::MAX);
    pods.lacking = answers.into_iter().find_map(Result::err);
}

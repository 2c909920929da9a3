//! Pods as the property of a Deployment, StatefulSet or Job.

use std::{collections::BTreeSet, fmt::Debug};

use anyhow::Result;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Pod, PodTemplateSpec},
};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::Settings;

/// Which controller wants a pod; its kind tells the node what it may take for an orphan.
const CONTROLLERS: [&str; 3] = ["Deployment", "Job", "StatefulSet"];

pub fn of<'a>(owner: &impl Resource, pods: &'a [Pod]) -> Vec<&'a Pod> {
    let uid = owner.meta().uid.as_deref();
    pods.iter().filter(|pod| controller(pod).is_some_and(|(_, owner)| Some(owner) == uid)).collect()
}

fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| (owner.kind.as_str(), owner.uid.as_str()))
}

/// A pod from its owner's template. Its ordinal is the lowest that is free, and so may be asked for twice without harm.
pub async fn create<K>(
    settings: &Settings,
    owner: &K,
    template: &PodTemplateSpec,
    prefix: &str,
    extra: &[(&str, &str)],
    taken: &mut BTreeSet<String>,
) -> Result<()>
where
    K: Resource<DynamicType = ()>,
{
    let mut names = (0..=taken.len()).map(|ordinal| format!("{prefix}-{ordinal}"));
    let Some(name) = names.find(|name| !taken.contains(name)) else { return Ok(()) };
    let pod = pod(owner, template, &name, extra);
    taken.insert(name);
    submit(settings, &pod).await
}

pub fn pod<K>(owner: &K, template: &PodTemplateSpec, name: &str, extra: &[(&str, &str)]) -> Pod
where
    K: Resource<DynamicType = ()>,
{
    let mut pod =
        Pod { metadata: template.metadata.clone().unwrap_or_default(), spec: template.spec.clone(), status: None };
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace.clone_from(&owner.meta().namespace);
    pod.metadata.owner_references = owner.controller_owner_ref(&()).map(|reference| vec![reference]);
    pod.labels_mut().extend(extra.iter().map(|(key, value)| ((*key).into(), (*value).into())));
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some("local".into());
    }
    pod
}

pub async fn submit<K>(settings: &Settings, object: &K) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let api = settings.api_in::<K>(object.meta().namespace.as_deref().unwrap_or_default());
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// Begins the deletion; what is running ends with its grace.
pub async fn delete(settings: &Settings, pod: &Pod) -> Result<()> {
    delete_with(settings, pod, &DeleteParams::default()).await
}

/// Removes the object: nothing runs any more.
pub async fn forget(settings: &Settings, pod: &Pod) -> Result<()> {
    delete_with(settings, pod, &DeleteParams::default().grace_period(0)).await
}

async fn delete_with(settings: &Settings, pod: &Pod, params: &DeleteParams) -> Result<()> {
    // By uid: a pod of the same name may have come after it.
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    let params = params.clone().preconditions(preconditions);
    let api = settings.api_in::<Pod>(&pod.namespace().unwrap_or_default());
    match api.delete(&pod.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// A control plane without controller-manager collects no garbage.
pub async fn remove_orphans(settings: &Settings, pods: &[Pod], owners: &BTreeSet<String>) -> Result<()> {
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        if controller(pod).is_some_and(|(kind, uid)| CONTROLLERS.contains(&kind) && !owners.contains(uid)) {
            delete(settings, pod).await?;
        }
    }
    Ok(())
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True") && pod.metadata.deletion_timestamp.is_none()
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// A merge patch of the status subresource. The object may be gone by now, which is no failure.
pub async fn write_status<K>(settings: &Settings, object: &K, status: Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = settings.api_in::<K>(object.meta().namespace.as_deref().unwrap_or_default());
    let patch = Patch::Merge(serde_json::json!({ "status": status }));
    match api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

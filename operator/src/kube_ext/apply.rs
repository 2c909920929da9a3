//! Server-side apply under one field manager. The types keep what is wished apart from what was applied, so that a
//! status can only be computed from objects that the API server has accepted.

use std::{fmt::Debug, ops::Deref};

use contract::names::FIELD_MANAGER;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};

use super::is_not_served;
use crate::error::{Doing, ReconcileError};

/// An object as it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Prepared<K>(pub K);

/// An object as the API server holds it after the apply.
#[derive(Debug, Clone)]
pub struct Applied<K>(K);

impl<K> Applied<K> {
    pub fn into_inner(self) -> K {
        self.0
    }
}

impl<K> Deref for Applied<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

/// What is watched, applied and deleted: namespaced objects whose type is known at compile time.
pub trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Applies the object. Fields that others own and we do not mention stay theirs; fields that we mention become ours,
/// which is what corrects drift. An apply that changes nothing writes nothing (the resourceVersion stays).
pub async fn apply<K: Namespaced>(
    client: &Client,
    Prepared(object): Prepared<K>,
) -> Result<Applied<K>, ReconcileError> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    Api::<K>::namespaced(client.clone(), &namespace)
        .patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object))
        .await
        .map(Applied)
        .doing(|| format!("apply {} {namespace}/{name}", K::kind(&())))
}

/// Deletes exactly the object that was seen (by uid), in the background; one that is gone already is fine.
pub async fn delete<K: Namespaced>(client: &Client, object: &impl ResourceExt) -> Result<(), ReconcileError> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let same = Preconditions { uid: object.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
    match Api::<K>::namespaced(client.clone(), &namespace).delete(&name, &params).await {
        Err(kube::Error::Api(status)) if is_not_served(&status) || status.is_conflict() => Ok(()),
        other => other.map(drop).doing(|| format!("delete {} {namespace}/{name}", K::kind(&()))),
    }
}

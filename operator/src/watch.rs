//! Watches: one per kind and namespace, each keeping a shelf and telling what changed.
//!
//! kube-runtime's `Controller` would do the watching too, but it loses what is needed here: the object as it was before
//! the change (a reference that moved concerns both ends), deletions that happened while the watch was down, and one
//! store for five controllers.

use std::{collections::HashSet, fmt::Debug, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use crate::{
    context::Ctx,
    stores::{Kept, Shelf},
};

/// An object that appeared (`before` is none), changed, or went (`after` is none).
pub struct Change<K> {
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

impl<K: Kept> Change<K> {
    /// The object as it was and as it is: whoever either of them concerns has to look.
    pub fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.before.iter().chain(&self.after)
    }

    /// Whether something changed that a reconciler acts on; our own status does not count.
    pub fn is_intent(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => intent(before.meta()) != intent(after.meta()),
            _ => true,
        }
    }
}

fn intent(meta: &kube::api::ObjectMeta) -> impl PartialEq {
    (
        meta.uid.clone(),
        meta.generation,
        meta.deletion_timestamp.clone(),
        meta.labels.clone(),
        meta.annotations.clone(),
        meta.finalizers.clone(),
    )
}

/// What can be watched: namespaced kinds whose type is known at compile time.
pub trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Where to watch: all namespaces, or each of these.
pub fn apis<K>(client: &Client, namespaces: &[String]) -> Vec<(Option<String>, Api<K>)>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    if namespaces.is_empty() {
        return vec![(None, Api::all(client.clone()))];
    }
    let each = |namespace: &String| (Some(namespace.clone()), Api::namespaced(client.clone(), namespace));
    namespaces.iter().map(each).collect()
}

/// Objects with their body. One that cannot be read as its kind is counted and told about, and its last good version
/// stays on the shelf.
pub fn whole<K: Watched>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send {
    watcher(api, config).default_backoff()
}

/// Objects by their metadata only.
pub fn metadata<K: Watched>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<PartialObjectMeta<K>>>>> + Send {
    watcher(api, config).default_backoff().map(|event| {
        event.map(|event| match event {
            Event::Apply(object) => Event::Apply(DeserializeGuard(Ok(object))),
            Event::Delete(object) => Event::Delete(DeserializeGuard(Ok(object))),
            Event::InitApply(object) => Event::InitApply(DeserializeGuard(Ok(object))),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    })
}

/// Keeps the shelf as the events tell, for ever. `synced` is called after each complete list; `scope` is the namespace
/// that is listed, if it is one.
pub async fn keep<K: Kept>(
    ctx: &Ctx,
    scope: Option<&str>,
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>,
    shelf: &Shelf<K>,
    mut tell: impl FnMut(Change<K>),
    mut synced: impl FnMut(),
) {
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(id(&object));
                put(ctx, shelf, object, &mut tell);
            }
            Ok(Event::InitDone) => {
                // What was deleted while nobody watched.
                let known = scope.map_or_else(|| shelf.all(), |namespace| shelf.within(namespace));
                for gone in known.iter().filter(|object| !listed.contains(&id(object.as_ref()))) {
                    take(shelf, gone, &mut tell);
                }
                listed = HashSet::new();
                synced();
            }
            Ok(Event::Apply(object)) => put(ctx, shelf, object, &mut tell),
            Ok(Event::Delete(object)) => {
                let (namespace, name) = id(&object);
                shelf.take_unreadable(&namespace, &name);
                if let Some(gone) = shelf.get(&namespace, &name) {
                    take(shelf, &gone, &mut tell);
                }
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), error = %error, "a watch was interrupted"),
        }
    }
}

fn put<K: Kept>(
    ctx: &Ctx,
    shelf: &Shelf<K>,
    DeserializeGuard(object): DeserializeGuard<K>,
    tell: &mut impl FnMut(Change<K>),
) {
    match object {
        Ok(mut object) => {
            // Nobody asks who owns which field, and it is often half of an object.
            object.managed_fields_mut().clear();
            let (namespace, name) = id(&object);
            let version = object.resource_version();
            let before = shelf.put(object);
            if before.as_ref().is_none_or(|before| before.resource_version() != version) {
                tell(Change { before, after: shelf.get(&namespace, &name) });
            }
        }
        Err(malformed) => {
            let meta = &malformed.metadata;
            shelf.put_unreadable(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
            ctx.metrics.malformed(&K::kind(&()));
            tracing::warn!(
                kind = %K::kind(&()),
                namespace = malformed.metadata.namespace,
                name = malformed.metadata.name,
                error = malformed.error,
                "an object cannot be read as its kind and is left as it was",
            );
            let note = format!(
                "this {} cannot be read and its last good version stays in force: {}",
                K::kind(&()),
                malformed.error
            );
            ctx.events.warning(&DeserializeGuard::<K>(Err(malformed)), "Malformed", "Read", note);
        }
    }
}

fn take<K: Kept>(shelf: &Shelf<K>, object: &Arc<K>, tell: &mut impl FnMut(Change<K>)) {
    if let Some(before) = shelf.take(object) {
        tell(Change { before: Some(before), after: None });
    }
}

fn id(object: &impl ResourceExt) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

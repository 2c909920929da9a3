//! Watches: one per kind and namespace, each keeping a shelf and telling what changed.
//!
//! kube-runtime's `Controller` would do the watching too, but it loses what is needed here: the object as it was before
//! the change (a reference that moved concerns both ends), deletions that happened while the watch was down, and one
//! store for five controllers.

use std::{collections::HashSet, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    core::{DeserializeGuard, NamespaceResourceScope, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};

use crate::{
    kube_ext::Namespaced,
    stores::{Kept, Shelf},
};

/// Objects in one page of a list: a page is in memory as text and as objects at the same time.
const PAGE: u32 = 100;

/// An object that appeared (`before` is none), changed, or went (`after` is none).
pub struct Change<K> {
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object as it was and as it is: whoever either of them concerns has to look.
    pub fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.before.iter().chain(&self.after)
    }

    /// Whether `what` of it changed; coming and going are changes of everything.
    pub fn differs<T: PartialEq>(&self, what: impl Fn(&K) -> T) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => what(before) != what(after),
            _ => true,
        }
    }
}

impl<K: Resource> Change<K> {
    /// Whether something changed that a reconciler acts on; our own status does not count.
    pub fn is_intent(&self) -> bool {
        self.differs(|object| intent(object.meta()))
    }
}

fn intent(meta: &kube::api::ObjectMeta) -> impl PartialEq + use<> {
    (
        meta.uid.clone(),
        meta.generation,
        meta.deletion_timestamp.clone(),
        meta.labels.clone(),
        meta.annotations.clone(),
        meta.finalizers.clone(),
    )
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
pub fn whole<K: Namespaced>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send {
    watcher(api, config.page_size(PAGE)).default_backoff()
}

/// The same objects, each made ready to be kept.
pub fn prepared<K: Kept>(
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send,
    prepare: impl Fn(&mut K) + Send,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send {
    events.map(move |mut event| {
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = &mut event
            && let DeserializeGuard(Ok(object)) = object
        {
            prepare(object);
        }
        event
    })
}

/// Objects by their metadata only, or by what is noted of it.
pub fn metadata<K: Namespaced, N: Kept + From<PartialObjectMeta<K>>>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<N>>>> + Send {
    watcher(api, config.page_size(PAGE)).default_backoff().map(|event| {
        event.map(|event| match event {
            Event::Apply(object) => Event::Apply(DeserializeGuard(Ok(object.into()))),
            Event::Delete(object) => Event::Delete(DeserializeGuard(Ok(object.into()))),
            Event::InitApply(object) => Event::InitApply(DeserializeGuard(Ok(object.into()))),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    })
}

/// What a watch has to say.
pub enum Told<K> {
    Changed(Change<K>),
    /// An object that cannot be read as its kind; its last good version stays on the shelf.
    Unreadable(Box<InvalidObject>),
    /// The watch broke, and is taken up again or begun anew.
    Interrupted,
    /// Everything has been listed.
    Synced,
}

/// Keeps the shelf as the events tell, for ever. `scope` is the namespace that is listed, if it is one.
pub async fn keep<K: Kept>(
    scope: Option<&str>,
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>,
    shelf: &Shelf<K>,
    mut tell: impl FnMut(Told<K>),
) {
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(id(&object));
                put(shelf, object, &mut tell);
            }
            Ok(Event::InitDone) => {
                // What was deleted while nobody watched.
                let mut gone = Vec::new();
                shelf.each(|object| {
                    let (namespace, name) = object.id();
                    let known = (namespace.to_owned(), name.to_owned());
                    if scope.is_none_or(|scope| scope == namespace) && !listed.contains(&known) {
                        gone.push(known);
                    }
                });
                for (namespace, name) in &gone {
                    take(shelf, namespace, name, &mut tell);
                }
                listed = HashSet::new();
                tell(Told::Synced);
            }
            Ok(Event::Apply(object)) => put(shelf, object, &mut tell),
            Ok(Event::Delete(object)) => {
                let (namespace, name) = id(&object);
                shelf.take_unreadable(&namespace, &name);
                take(shelf, &namespace, &name, &mut tell);
            }
            Err(error) => {
                tracing::warn!(kind = %K::kind_name(), error = %error, "a watch was interrupted");
                tell(Told::Interrupted);
            }
        }
    }
}

/// Takes everything in `scope` from the shelf, as if it had been deleted.
pub fn clear<K: Kept>(scope: Option<&str>, shelf: &Shelf<K>, mut tell: impl FnMut(Told<K>)) {
    for gone in scope.map_or_else(|| shelf.all(), |namespace| shelf.within(namespace)) {
        let (namespace, name) = gone.id();
        take(shelf, namespace, name, &mut tell);
    }
}

fn put<K: Kept>(shelf: &Shelf<K>, DeserializeGuard(object): DeserializeGuard<K>, tell: &mut impl FnMut(Told<K>)) {
    match object {
        Ok(mut object) => {
            object.trim();
            let (namespace, name) = object.id();
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let version = object.version().map(str::to_owned);
            let before = shelf.put(object);
            if before.as_ref().is_none_or(|before| before.version() != version.as_deref()) {
                tell(Told::Changed(Change { before, after: shelf.get(&namespace, &name) }));
            }
        }
        Err(unreadable) => {
            let meta = &unreadable.metadata;
            shelf.put_unreadable(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
            tell(Told::Unreadable(Box::new(unreadable)));
        }
    }
}

fn take<K: Kept>(shelf: &Shelf<K>, namespace: &str, name: &str, tell: &mut impl FnMut(Told<K>)) {
    if let Some(before) = shelf.take(namespace, name) {
        tell(Told::Changed(Change { before: Some(before), after: None }));
    }
}

/// Namespace and name, also of what cannot be read.
fn id<K: Kept>(DeserializeGuard(object): &DeserializeGuard<K>) -> (String, String) {
    match object {
        Ok(object) => {
            let (namespace, name) = object.id();
            (namespace.to_owned(), name.to_owned())
        }
        Err(InvalidObject { metadata, .. }) => {
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::Tenant;
    use futures::stream;
    use kube::ResourceExt;

    use super::*;

    fn tenant(name: &str, version: &str) -> DeserializeGuard<Tenant> {
        let mut tenant = Tenant::new_minimal(name, "acme.example");
        tenant.metadata.namespace = Some("shop".into());
        tenant.metadata.resource_version = Some(version.into());
        DeserializeGuard(Ok(tenant))
    }

    fn malformed(name: &str) -> DeserializeGuard<Tenant> {
        let broken =
            serde_json::json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": { "hostnames": 5 } });
        serde_json::from_value(broken).unwrap()
    }

    /// What was told of these events, as `+name`, `~name`, `-name`, `?name` and `.`.
    async fn told(shelf: &Shelf<Tenant>, events: Vec<Event<DeserializeGuard<Tenant>>>) -> Vec<String> {
        let mut words = Vec::new();
        keep(Some("shop"), stream::iter(events.into_iter().map(Ok)), shelf, |told| {
            words.push(match told {
                Told::Synced => ".".to_owned(),
                Told::Interrupted => "!".to_owned(),
                Told::Unreadable(object) => format!("?{}", object.metadata.name.unwrap()),
                Told::Changed(Change { before: None, after }) => format!("+{}", after.unwrap().name_any()),
                Told::Changed(Change { before: Some(before), after: None }) => format!("-{}", before.name_any()),
                Told::Changed(Change { after: Some(after), .. }) => format!("~{}", after.name_any()),
            });
        })
        .await;
        words
    }

    #[tokio::test]
    async fn a_list_tells_what_came_changed_and_went_while_nobody_watched() {
        let shelf = Shelf::new(|_| Vec::new());
        let first = ["same", "changed", "gone"].map(|name| Event::InitApply(tenant(name, "1")));
        let first = [Event::Init].into_iter().chain(first).chain([Event::InitDone]).collect();
        assert_eq!(told(&shelf, first).await, ["+same", "+changed", "+gone", "."]);
        let second = vec![
            Event::Init,
            Event::InitApply(tenant("same", "1")),
            Event::InitApply(tenant("changed", "2")),
            Event::InitApply(tenant("new", "3")),
            Event::InitDone,
        ];
        assert_eq!(told(&shelf, second).await, ["~changed", "+new", "-gone", "."]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told_and_stays_as_it_was() {
        let shelf = Shelf::new(|_| Vec::new());
        let events = vec![
            Event::Apply(tenant("acme", "1")),
            Event::Apply(malformed("acme")),
            Event::Apply(tenant("other", "2")),
        ];
        assert_eq!(told(&shelf, events).await, ["+acme", "?acme", "+other"]);
        assert!(shelf.get("shop", "acme").is_some());
        let relist = vec![Event::Init, Event::InitApply(malformed("acme")), Event::InitDone];
        assert_eq!(told(&shelf, relist).await, ["?acme", "-other", "."]);
        assert_eq!(told(&shelf, vec![Event::Delete(malformed("acme"))]).await, ["-acme"]);
    }

    #[test]
    fn a_change_of_status_alone_is_not_intent() {
        let DeserializeGuard(Ok(before)) = tenant("acme", "1") else { panic!("it is well-formed") };
        let mut after = before.clone();
        after.metadata.resource_version = Some("2".into());
        let change = |after: Tenant| Change { before: Some(Arc::new(before.clone())), after: Some(Arc::new(after)) };
        assert!(!change(after.clone()).is_intent());
        after.metadata.generation = Some(2);
        assert!(change(after).is_intent());
    }
}

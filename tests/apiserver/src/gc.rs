//! What happens after a write, in the background: dependents follow their owners, namespaces and definitions are emptied.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    access,
    api::{Api, Context, DeleteOptions, FOREGROUND, ORPHAN, Target, nothing_holds},
    crd, object,
    store::{Change, Key},
};

type Place = (Arc<str>, Key);

/// Who is there, and who belongs to whom.
#[derive(Debug, Default)]
struct Graph {
    live: HashMap<String, Place>,
    dependents: HashMap<String, HashSet<Place>>,
}

/// Works until stopped.
pub async fn run(api: Arc<Api>, mut changes: mpsc::UnboundedReceiver<Change>, stop: CancellationToken) {
    let mut graph = Graph::default();
    let known: Vec<(Place, Value)> = api
        .store
        .storages()
        .into_iter()
        .flat_map(|storage| {
            let items = api.store.collection(&storage).list(&api.store, "").items;
            items.into_iter().map(move |(key, entry)| ((storage.clone(), (*key).clone()), entry.value.clone()))
        })
        .collect();
    for (place, value) in &known {
        graph.learn(place, value);
    }
    for (place, value) in &known {
        settle(&api, &graph, place, value);
    }
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        let Some(Change { storage, event }) = change else { return };
        let place = (storage, (*event.key).clone());
        if let Some(before) = &event.before {
            graph.forget(&place, &before.value);
        }
        let value = &event.now.value;
        if event.deleted {
            graph.live.remove(object::uid(value));
            bereave(&api, &graph, value);
            emptied(&api, &graph, &place, value);
        } else {
            graph.learn(&place, value);
            settle(&api, &graph, &place, value);
            furnish(&api, &place, value);
        }
        if *place.0 == *access::CLUSTER_ROLES {
            access::aggregate(&api);
        }
    }
}

/// What every namespace has from the start.
fn furnish(api: &Api, place: &Place, value: &Value) {
    if &*place.0 == "/namespaces" && !object::deleting(value) {
        api.furnish(&place.1.1);
    }
}

impl Graph {
    fn learn(&mut self, place: &Place, value: &Value) {
        self.live.insert(object::uid(value).to_owned(), place.clone());
        for owner in object::owners(value) {
            self.dependents
                .entry(owner["uid"].as_str().unwrap_or_default().to_owned())
                .or_default()
                .insert(place.clone());
        }
    }

    fn forget(&mut self, place: &Place, value: &Value) {
        for owner in object::owners(value) {
            let uid = owner["uid"].as_str().unwrap_or_default();
            if let Some(places) = self.dependents.get_mut(uid) {
                places.remove(place);
                if places.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
    }

    /// An owner is absent when nothing has its uid, or what has it lives in another namespace.
    fn absent(&self, owner: &Value, namespace: &str) -> bool {
        let uid = owner["uid"].as_str().unwrap_or_default();
        self.live.get(uid).is_none_or(|(_, (home, _))| !home.is_empty() && home != namespace)
    }

    fn of(&self, uid: &str) -> Vec<Place> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }
}

fn delete(api: &Api, place: &Place, propagation: Option<&str>) {
    let Some(kind) = api.registry.kinds().by_storage(&place.0) else { return };
    let target = Target { kind: &kind, namespace: &place.1.0, name: &place.1.1, subresource: "" };
    let options = DeleteOptions { propagation: propagation.map(str::to_owned), ..DeleteOptions::default() };
    match api.delete(target, &options, &mut Context::internal()) {
        Err(error) if error.reason != "NotFound" => tracing::warn!(%error, "the garbage collector could not delete"),
        _ => {}
    }
}

/// Changes an object as it is kept, past defaulting and validation, until nobody is in between. It goes if nothing holds it.
fn edit(api: &Api, place: &Place, change: impl Fn(&mut Value)) {
    let Some(kind) = api.registry.kinds().by_storage(&place.0) else { return };
    while let Some(entry) = api.store.get(&place.0, &place.1) {
        let mut value = entry.value.clone();
        change(&mut value);
        if value == entry.value {
            return;
        }
        let gone = object::deleting(&value) && nothing_holds(&kind, &value);
        let target = Target { kind: &kind, namespace: &place.1.0, name: &place.1.1, subresource: "" };
        if api.keep(target, Some(entry.revision), value, gone).is_ok() {
            return;
        }
    }
}

fn without(list: &mut Value, unwanted: impl Fn(&Value) -> bool) {
    if let Some(items) = list.as_array_mut() {
        items.retain(|item| !unwanted(item));
        if items.is_empty() {
            *list = Value::Null;
        }
    }
}

fn drop_finalizer(api: &Api, place: &Place, finalizer: &str) {
    edit(api, place, |value| {
        without(&mut value["metadata"]["finalizers"], |item| item == finalizer);
        if value["metadata"]["finalizers"].is_null() {
            object::remove(&mut value["metadata"], "finalizers");
        }
    });
}

fn drop_owner(api: &Api, place: &Place, uid: &str) {
    edit(api, place, |value| {
        without(&mut value["metadata"]["ownerReferences"], |owner| owner["uid"] == uid);
        if value["metadata"]["ownerReferences"].is_null() {
            object::remove(&mut value["metadata"], "ownerReferences");
        }
    });
}

/// An owner is gone: its dependents follow, unless somebody else owns them too.
fn bereave(api: &Api, graph: &Graph, owner: &Value) {
    let uid = object::uid(owner);
    for place in graph.of(uid) {
        let Some(entry) = api.store.get(&place.0, &place.1) else { continue };
        if object::owners(&entry.value).all(|owner| graph.absent(owner, &place.1.0)) {
            delete(api, &place, Some("Background"));
        } else {
            drop_owner(api, &place, uid);
        }
    }
}

/// An object was written: is it an orphan from birth, and is something waiting for it to be emptied?
fn settle(api: &Api, graph: &Graph, place: &Place, value: &Value) {
    if !object::deleting(value) {
        let mut owners = object::owners(value).peekable();
        if owners.peek().is_some() && owners.all(|owner| graph.absent(owner, &place.1.0)) {
            delete(api, place, Some("Background"));
        }
        return;
    }
    let (uid, finalizers) = (object::uid(value), object::finalizers(value));
    if finalizers.contains(&ORPHAN) {
        graph.of(uid).iter().for_each(|dependent| drop_owner(api, dependent, uid));
        drop_finalizer(api, place, ORPHAN);
    } else if finalizers.contains(&FOREGROUND) {
        foreground(api, graph, place, uid);
    }
    match &*place.0 {
        "/namespaces" => empty_namespace(api, place),
        crd::STORAGE => empty_definition(api, place, value),
        _ => {}
    }
}

/// Foreground deletion: the dependents first, then the owner.
fn foreground(api: &Api, graph: &Graph, place: &Place, uid: &str) {
    let alive = |place: &Place| {
        api.store.get(&place.0, &place.1).filter(|entry| object::owners(&entry.value).any(|owner| owner["uid"] == uid))
    };
    for dependent in graph.of(uid) {
        if alive(&dependent).is_some_and(|entry| !object::deleting(&entry.value)) {
            delete(api, &dependent, None);
        }
    }
    let blocks = |dependent: &Place| {
        alive(dependent).is_some_and(|entry| {
            object::owners(&entry.value).any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
        })
    };
    if !graph.of(uid).iter().any(blocks) {
        drop_finalizer(api, place, FOREGROUND);
    }
}

fn empty_namespace(api: &Api, place: &Place) {
    let namespace = &place.1.1;
    let inside = |storage: &Arc<str>| {
        let page = api.store.collection(storage).list(&api.store, namespace);
        page.items.into_iter().map(|(key, entry)| ((storage.clone(), (*key).clone()), entry)).collect::<Vec<_>>()
    };
    let storages = api.store.storages();
    for (place, entry) in storages.iter().flat_map(inside) {
        if !object::deleting(&entry.value) {
            delete(api, &place, Some("Background"));
        }
    }
    if storages.iter().all(|storage| api.store.collection(storage).is_empty_in(namespace)) {
        edit(api, place, |value| value["spec"]["finalizers"] = json!([]));
    }
}

fn empty_definition(api: &Api, place: &Place, definition: &Value) {
    if !object::finalizers(definition).contains(&crd::CLEANUP) {
        return;
    }
    let storage: Arc<str> = crd::storage(definition).into();
    let collection = api.store.collection(&storage);
    for (key, entry) in collection.list(&api.store, "").items {
        if !object::deleting(&entry.value) {
            delete(api, &(storage.clone(), (*key).clone()), Some("Background"));
        }
    }
    if collection.list(&api.store, "").items.is_empty() {
        drop_finalizer(api, place, crd::CLEANUP);
    }
}

/// Something is gone: whoever waited for that may be done.
fn emptied(api: &Api, graph: &Graph, place: &Place, value: &Value) {
    for owner in object::owners(value) {
        let uid = owner["uid"].as_str().unwrap_or_default();
        if let Some(home) = graph.live.get(uid)
            && let Some(entry) = api.store.get(&home.0, &home.1)
            && object::deleting(&entry.value)
            && object::finalizers(&entry.value).contains(&FOREGROUND)
        {
            foreground(api, graph, home, uid);
        }
    }
    let namespace: Place = ("/namespaces".into(), (String::new(), place.1.0.clone()));
    if let Some(entry) = api.store.get(&namespace.0, &namespace.1)
        && object::deleting(&entry.value)
    {
        empty_namespace(api, &namespace);
    }
    if let Some((group, plural)) = place.0.split_once('/') {
        let definition: Place = (crd::STORAGE.into(), (String::new(), format!("{plural}.{group}")));
        if let Some(entry) = api.store.get(&definition.0, &definition.1)
            && object::deleting(&entry.value)
        {
            empty_definition(api, &definition, &entry.value);
        }
    }
}

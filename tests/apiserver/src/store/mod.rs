//! Objects, their versions and their history.
//!
//! One counter numbers every write, as etcd's revision does. Each resource keeps its objects in name order and the last
//! changes; a watcher holds nothing but the revision it has seen and reads on from the history when told that it grew,
//! so a slow one costs no memory and a late one learns that it is late (`410 Gone`).

mod log;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::object;
use log::{Alive, Log};

/// `(namespace, name)`; the namespace is empty for cluster-scoped objects. The order of lists.
pub type Key = (String, String);

/// One version of one object; never changes, so its JSON is written only once however many watch it.
#[derive(Debug)]
pub struct Entry {
    pub value: Value,
    pub revision: u64,
    json: OnceLock<Bytes>,
    item: OnceLock<Bytes>,
}

impl Entry {
    fn new(value: Value, revision: u64) -> Arc<Self> {
        Arc::new(Self { value, revision, json: OnceLock::new(), item: OnceLock::new() })
    }

    /// An object that is answered but not kept: a dry run, a review.
    pub fn draft(value: Value) -> Arc<Self> {
        Self::new(value, 0)
    }

    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// Without `apiVersion` and `kind`: how lists of built-in kinds carry it, whose list says both.
    pub fn item(&self) -> Bytes {
        let bare = || {
            let mut value = self.value.clone();
            object::remove(&mut value, "apiVersion");
            object::remove(&mut value, "kind");
            Bytes::from(value.to_string())
        };
        self.item.get_or_init(bare).clone()
    }
}

/// One change. A created object has no `before`; a deleted one keeps its last state, numbered by its deletion, as `now`.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: u64,
    pub key: Arc<Key>,
    pub before: Option<Arc<Entry>>,
    pub now: Arc<Entry>,
    pub deleted: bool,
}

/// What the background work is told about each write.
#[derive(Debug)]
pub struct Change {
    pub storage: Arc<str>,
    pub event: Event,
}

/// Why a write was not made: the object is not what the writer looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved;

/// Why history cannot be read from there.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone {
    pub oldest: u64,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<Arc<Key>, Arc<Entry>>,
    history: VecDeque<Event>,
    /// The newest change that is no longer in `history`: who has not read it never will.
    forgotten: u64,
    /// Reading may not begin before this revision.
    compacted: u64,
}

/// All objects of one resource.
#[derive(Debug)]
pub struct Collection {
    storage: Arc<str>,
    state: RwLock<State>,
    grown: watch::Sender<u64>,
}

/// A list as of one revision.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<(Arc<Key>, Arc<Entry>)>,
    pub revision: u64,
}

#[derive(Debug)]
pub struct Store {
    collections: RwLock<HashMap<Arc<str>, Arc<Collection>>>,
    revision: AtomicU64,
    /// The revision at which this process began: of what was before, there is no history.
    begin: u64,
    /// Held while a write is numbered, so that revisions and history have the same order.
    log: Mutex<Option<Log>>,
    history: usize,
    changes: mpsc::UnboundedSender<Change>,
}

impl Store {
    /// Opens a store, with what `data` holds if it is given.
    pub fn open(data: Option<&Path>, history: usize) -> io::Result<(Self, mpsc::UnboundedReceiver<Change>)> {
        let (changes, receiver) = mpsc::unbounded_channel();
        let mut store = Self {
            collections: RwLock::default(),
            revision: AtomicU64::new(1),
            begin: 0,
            log: Mutex::new(None),
            history,
            changes,
        };
        if let Some(directory) = data {
            std::fs::create_dir_all(directory)?;
            let path = directory.join("objects.jsonl");
            store.begin = log::read(&path, |revision, storage, key, value| {
                let collection = store.collection(storage);
                let mut state = collection.state.write();
                match value {
                    Some(value) => state.objects.insert(key.into(), Entry::new(value, revision)),
                    None => state.objects.remove(&key),
                };
            })?;
            for collection in store.collections.get_mut().values() {
                collection.state.write().compacted = store.begin;
            }
            *store.revision.get_mut() = store.begin.max(1);
            let log = Log::create(path, &store.alive())?;
            *store.log.get_mut() = Some(log);
        }
        Ok((store, receiver))
    }

    fn alive(&self) -> Alive {
        let mut objects = Vec::new();
        for collection in self.collections.read().values() {
            let state = collection.state.read();
            objects.extend(
                state.objects.iter().map(|(key, entry)| (collection.storage.clone(), key.clone(), entry.clone())),
            );
        }
        Alive { objects, revision: self.revision() }
    }

    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub fn collection(&self, storage: &str) -> Arc<Collection> {
        if let Some(collection) = self.collections.read().get(storage) {
            return collection.clone();
        }
        let storage: Arc<str> = storage.into();
        let fresh = || {
            let state =
                State { objects: BTreeMap::new(), history: VecDeque::new(), forgotten: 0, compacted: self.begin };
            Arc::new(Collection { storage: storage.clone(), state: RwLock::new(state), grown: watch::Sender::new(0) })
        };
        self.collections.write().entry(storage.clone()).or_insert_with(fresh).clone()
    }

    pub fn storages(&self) -> Vec<Arc<str>> {
        self.collections.read().keys().cloned().collect()
    }

    pub fn get(&self, storage: &str, key: &Key) -> Option<Arc<Entry>> {
        self.collection(storage).get(key)
    }

    /// Writes `value` (or deletes, keeping it as the last state) if the object still is at `expected`: the one door for writes.
    pub fn commit(
        &self,
        storage: &str,
        key: &Key,
        expected: Option<u64>,
        mut value: Value,
        delete: bool,
    ) -> Result<Arc<Entry>, Moved> {
        let collection = self.collection(storage);
        let mut log = self.log.lock();
        let before = collection.get(key);
        if before.as_ref().map(|entry| entry.revision) != expected {
            return Err(Moved);
        }
        let revision = self.revision() + 1;
        object::metadata(&mut value).insert("resourceVersion".into(), json!(revision.to_string()));
        let now = Entry::new(value, revision);
        let key = Arc::new(key.clone());
        let event = Event { revision, key: key.clone(), before, now: now.clone(), deleted: delete };
        {
            let mut state = collection.state.write();
            if delete {
                state.objects.remove(&key);
            } else {
                state.objects.insert(key, now.clone());
            }
            state.history.push_back(event.clone());
            if state.history.len() > self.history
                && let Some(oldest) = state.history.pop_front()
            {
                state.forgotten = oldest.revision;
                state.compacted = state.compacted.max(oldest.revision);
            }
            self.revision.store(revision, Ordering::SeqCst);
        }
        collection.grown.send_replace(revision);
        if let Some(log) = log.as_mut() {
            let kept = if delete { Bytes::from_static(log::NOTHING) } else { now.json() };
            if let Err(error) = log.append(revision, storage, &event.key, &kept, || self.alive()) {
                tracing::error!(%error, "an object could not be written to the data directory");
            }
        }
        // The receiver is gone only while the server stops.
        let _stopping = self.changes.send(Change { storage: collection.storage.clone(), event });
        Ok(now)
    }

    /// Drops all history.
    pub fn compact(&self) {
        let _writes = self.log.lock();
        for collection in self.collections.read().values() {
            let mut state = collection.state.write();
            state.forgotten = state.history.back().map_or(state.forgotten, |event| event.revision);
            state.compacted = self.revision();
            state.history.clear();
        }
    }
}

impl Collection {
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects of a namespace (of all namespaces if it is empty), in order.
    pub fn list(&self, store: &Store, namespace: &str) -> Page {
        let state = self.state.read();
        let from: Key = (namespace.to_owned(), String::new());
        let items = state
            .objects
            .range(from..)
            .take_while(|(key, _)| namespace.is_empty() || key.0 == namespace)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        Page { items, revision: store.revision() }
    }

    /// The list as it was at `revision`: today's, with every later change undone.
    pub fn list_at(&self, store: &Store, namespace: &str, revision: u64) -> Result<Page, Gone> {
        let state = self.state.read();
        if revision < state.compacted {
            return Err(Gone { oldest: state.compacted });
        }
        let mut objects: BTreeMap<Arc<Key>, Arc<Entry>> =
            state.objects.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        for event in state.history.iter().rev().take_while(|event| event.revision > revision) {
            match &event.before {
                Some(before) => objects.insert(event.key.clone(), before.clone()),
                None => objects.remove(&event.key),
            };
        }
        let items = objects.into_iter().filter(|(key, _)| namespace.is_empty() || key.0 == namespace).collect();
        Ok(Page { items, revision: revision.min(store.revision()) })
    }

    /// Whether a reader may begin at `revision`.
    pub fn may_begin(&self, revision: u64) -> Result<(), Gone> {
        let oldest = self.state.read().compacted;
        if revision < oldest { Err(Gone { oldest }) } else { Ok(()) }
    }

    /// Every change after `revision`, and the revision up to which this is complete.
    pub fn since(&self, store: &Store, revision: u64) -> Result<(Vec<Event>, u64), Gone> {
        let state = self.state.read();
        if revision < state.forgotten {
            return Err(Gone { oldest: state.forgotten });
        }
        let first = state.history.partition_point(|event| event.revision <= revision);
        Ok((state.history.range(first..).cloned().collect(), store.revision()))
    }

    /// Changes whenever there is more history to read.
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    pub fn is_empty_in(&self, namespace: &str) -> bool {
        let from: Key = (namespace.to_owned(), String::new());
        self.state.read().objects.range(from..).next().is_none_or(|(key, _)| key.0 != namespace)
    }
}

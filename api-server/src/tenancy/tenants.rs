//! The index: tenants by host and by name, read on every request, written when a document arrives.
//!
//! Readers take no lock: they load a pointer to persistent maps. A writer changes a few nodes and swaps the pointer, so
//! one change among ten thousand tenants costs what one change among ten does, and host and content change in one step.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    str::FromStr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use contract::{Revision, seal::SealingKey, tenant::OwnDatabase};
use jiff::Timestamp;
use parking_lot::Mutex;
use rpds::HashTrieMapSync;
use serde::Serialize;
use tokio::sync::watch;

use super::{TenantSnapshot, snapshot::Rejection};
use crate::{
    infra::{Clock, OwnDatabases},
    metrics::Metrics,
};

/// Changes that are remembered one by one; who is further behind gets everything.
const REMEMBERED: usize = 4096;

/// All tenants of this process.
pub struct Tenants {
    index: ArcSwap<Index>,
    /// One writer at a time.
    writer: Mutex<()>,
    /// Whether a complete set has arrived; before that, a missing tenant may be one that was not read yet.
    complete: watch::Sender<bool>,
    /// Raised with every change, for those who wait for a revision.
    changes: watch::Sender<u64>,
    recent: Mutex<Recent>,
    /// Of this process: a cursor of its predecessor says nothing here.
    instance: u32,
    key: SealingKey,
    clock: Clock,
    metrics: Arc<Metrics>,
    databases: OwnDatabases,
}

#[derive(Clone, Default)]
struct Index {
    by_name: HashTrieMapSync<String, Entry>,
    by_host: HashTrieMapSync<String, Arc<TenantSnapshot>>,
}

/// The tenants that changed last.
#[derive(Default)]
struct Recent {
    /// How many changes there were.
    count: u64,
    /// The newest is the last; each is one change.
    names: VecDeque<String>,
}

/// A place in the sequence of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    instance: u32,
    change: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{}", self.instance, self.change)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (instance, change) = text.split_once('.').ok_or(())?;
        let instance = u32::from_str_radix(instance, 16).map_err(|_| ())?;
        Ok(Self { instance, change: change.parse().map_err(|_| ())? })
    }
}

/// What changed since a cursor.
#[derive(Debug)]
pub struct Changes {
    /// Where the next question goes on.
    pub cursor: Cursor,
    /// Whether this is all there is: what is not in it is gone.
    pub whole: bool,
    pub reports: Vec<Report>,
    pub gone: Vec<String>,
}

/// What is known of one tenant.
#[derive(Clone, Default)]
struct Entry {
    serving: Option<Arc<TenantSnapshot>>,
    rejected: Option<Arc<Rejected>>,
}

/// A document that was refused, until a good one takes its place.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// As written beside the document: its content could not be trusted to say.
    pub revision: Option<String>,
    pub error: String,
}

/// A document as a source found it.
#[derive(Debug)]
pub struct Found {
    /// The tenant whose place it stands in: from the label, or the file's name.
    pub tenant: String,
    /// From the annotation, where there is one.
    pub revision: Option<String>,
    pub text: String,
}

/// What this process holds of one tenant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub tenant: String,
    pub revision: Option<Revision>,
    pub loaded_at: Option<Timestamp>,
    pub rejected: Option<Arc<Rejected>>,
}

impl Report {
    /// Whether `revision` has been dealt with: it is served, or it was refused.
    pub fn settles(&self, revision: &str) -> bool {
        let rejected = self.rejected.as_ref().and_then(|rejected| rejected.revision.as_deref());
        self.revision.as_ref().map(Revision::as_str) == Some(revision) || rejected == Some(revision)
    }
}

impl Tenants {
    pub fn new(key: SealingKey, clock: Clock, metrics: Arc<Metrics>, databases: OwnDatabases) -> Self {
        let (complete, changes) = (watch::Sender::new(false), watch::Sender::new(0));
        Self {
            index: ArcSwap::default(),
            writer: Mutex::new(()),
            complete,
            changes,
            recent: Mutex::default(),
            instance: rand::random(),
            key,
            clock,
            metrics,
            databases,
        }
    }

    pub fn by_host(&self, host: &str) -> Option<Arc<TenantSnapshot>> {
        self.index.load().by_host.get(host).cloned()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<TenantSnapshot>> {
        self.index.load().by_name.get(name)?.serving.clone()
    }

    /// Every tenant that is served and not suspended, for work that nobody asks for.
    pub fn active(&self) -> Vec<Arc<TenantSnapshot>> {
        let index = self.index.load();
        let serving = index.by_name.values().filter_map(|entry| entry.serving.clone());
        serving.filter(|tenant| !tenant.is_suspended()).collect()
    }

    /// Takes in one document. False when it was refused; the tenant then goes on with what it had.
    pub fn apply(&self, found: &Found) -> bool {
        self.change(Some(&found.tenant), |index| self.take_in(index, found))
    }

    /// Forgets a tenant: its Tenant is gone.
    pub fn remove(&self, tenant: &str) {
        self.change(Some(tenant), |index| self.take_out(index, tenant));
    }

    /// Takes in a complete set: a tenant that is not in it is forgotten. From now on the process may be ready. Gives the
    /// tenants whose documents were refused.
    pub fn replace(&self, all: &[Found]) -> HashSet<String> {
        let refused = self.change(None, |index| {
            let names: HashSet<&str> = all.iter().map(|found| found.tenant.as_str()).collect();
            let gone: Vec<_> = index.by_name.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
            for name in gone {
                self.take_out(index, &name);
            }
            all.iter().filter(|found| !self.take_in(index, found)).map(|found| found.tenant.clone()).collect()
        });
        self.complete.send_replace(true);
        refused
    }

    /// Whether a complete set has arrived.
    pub fn is_complete(&self) -> bool {
        *self.complete.borrow()
    }

    /// What is held of one tenant; `None` when there is no such tenant.
    pub fn report(&self, name: &str) -> Option<Report> {
        self.index.load().by_name.get(name).map(|entry| entry.report(name))
    }

    /// Waits until `revision` of a tenant has been dealt with. The caller sets the time limit.
    pub async fn settled(&self, name: &str, revision: &str) {
        let mut changes = self.changes.subscribe();
        // The sender lives as long as `self`, so the wait ends by what is waited for alone.
        while !self.report(name).is_some_and(|report| report.settles(revision)) && changes.changed().await.is_ok() {}
    }

    /// What changed since `cursor`; everything where nothing is known of it.
    pub fn changes_since(&self, cursor: Option<Cursor>) -> Changes {
        let (count, names) = {
            let recent = self.recent.lock();
            (
                recent.count,
                cursor.filter(|cursor| cursor.instance == self.instance).and_then(|at| recent.since(at.change)),
            )
        };
        // Read after the count: what is newer than it is told again, and nothing is left out.
        let index = self.index.load();
        let cursor = Cursor { instance: self.instance, change: count };
        let Some(names) = names else {
            let reports = index.by_name.iter().map(|(name, entry)| entry.report(name)).collect();
            return Changes { cursor, whole: true, reports, gone: vec![] };
        };
        let (mut reports, mut gone) = (vec![], vec![]);
        for name in names {
            match index.by_name.get(&name) {
                Some(entry) => reports.push(entry.report(&name)),
                None => gone.push(name),
            }
        }
        Changes { cursor, whole: false, reports, gone }
    }

    /// Waits until something changed since `cursor`. The caller sets the time limit.
    pub async fn changed_since(&self, cursor: Cursor) {
        if cursor.instance == self.instance {
            let mut changes = self.changes.subscribe();
            // The sender lives as long as `self`.
            let _ = changes.wait_for(|count| *count != cursor.change).await;
        }
    }

    /// Makes a change of one tenant, or of any.
    fn change<T>(&self, tenant: Option<&str>, change: impl FnOnce(&mut Index) -> T) -> T {
        let _one_writer = self.writer.lock();
        let mut index = Index::clone(&self.index.load());
        let outcome = change(&mut index);
        self.metrics.tenants.set(i64::try_from(index.by_name.size()).unwrap_or(i64::MAX));
        self.index.store(Arc::new(index));
        let count = self.recent.lock().add(tenant);
        self.changes.send_replace(count);
        outcome
    }

    fn take_in(&self, index: &mut Index, found: &Found) -> bool {
        let mut entry = index.by_name.get(&found.tenant).cloned().unwrap_or_default();
        if entry.holds(found) {
            return true;
        }
        let taken = match self.compile(found) {
            Ok(new) => {
                if entry.serving.as_ref().is_none_or(|old| old.revision != new.revision) {
                    tracing::info!(tenant = found.tenant, revision = %new.revision, "serving a new revision");
                    self.metrics.config_loaded.inc();
                }
                let new = Arc::new(new);
                index.rehost(entry.serving.as_deref(), Some(&new));
                entry = Entry { serving: Some(new), rejected: None };
                true
            }
            Err(rejection) => {
                let error = rejection.to_string();
                tracing::error!(
                    tenant = found.tenant,
                    revision = found.revision,
                    error,
                    "document refused, the last good one goes on"
                );
                self.metrics.config_rejected.inc();
                entry.rejected = Some(Arc::new(Rejected { revision: found.revision.clone(), error }));
                false
            }
        };
        index.by_name.insert_mut(found.tenant.clone(), entry);
        taken
    }

    fn take_out(&self, index: &mut Index, tenant: &str) {
        let serving = index.by_name.get(tenant).and_then(|entry| entry.serving.clone());
        index.remove(tenant);
        if let Some(serving) = &serving {
            self.databases.close(serving.id);
        }
    }

    fn compile(&self, found: &Found) -> Result<TenantSnapshot, Rejection> {
        let snapshot = TenantSnapshot::compile(&found.text, &self.key, self.clock.now())?;
        if snapshot.name.as_str() != found.tenant {
            return Err(Rejection::Misplaced { expected: found.tenant.clone(), found: snapshot.name.to_string() });
        }
        // Before anybody can find the tenant: its first request must not go to the shared database.
        if let Some(uri) = snapshot.secret(OwnDatabase::SEAL_FIELD) {
            self.databases.set(snapshot.id, uri).map_err(|_| Rejection::Database)?;
        }
        Ok(snapshot)
    }
}

impl Recent {
    /// Remembers a change; gives how many there were.
    fn add(&mut self, tenant: Option<&str>) -> u64 {
        self.count += 1;
        match tenant {
            Some(tenant) => self.names.push_back(tenant.to_owned()),
            None => self.names.clear(),
        }
        if self.names.len() > REMEMBERED {
            self.names.pop_front();
        }
        self.count
    }

    /// The tenants that changed after this many changes, if all of them are remembered.
    fn since(&self, change: u64) -> Option<HashSet<String>> {
        let missed = usize::try_from(self.count.checked_sub(change)?).ok()?;
        let from = self.names.len().checked_sub(missed)?;
        Some(self.names.range(from..).cloned().collect())
    }
}

impl Index {
    fn remove(&mut self, tenant: &str) {
        if let Some(entry) = self.by_name.get(tenant).cloned() {
            self.by_name.remove_mut(tenant);
            self.rehost(entry.serving.as_deref(), None);
        }
    }

    /// Gives up the hosts of `old` and takes those of `new`. A host that another tenant holds stays there (the operator
    /// decides who may claim it; here only one can be served while the documents of a move arrive one by one), and a host
    /// that becomes free goes to a tenant that has been waiting for it.
    fn rehost(&mut self, old: Option<&TenantSnapshot>, new: Option<&Arc<TenantSnapshot>>) {
        let kept = |host| new.is_some_and(|new| new.hostnames.contains(host));
        for host in old.iter().flat_map(|old| &old.hostnames).filter(|host| !kept(host)) {
            let held = self.by_host.get(host.as_str()).is_some_and(|held| old.is_some_and(|old| held.id == old.id));
            if held {
                self.by_host.remove_mut(host.as_str());
                let waiting = self.by_name.values().filter_map(|entry| entry.serving.as_ref());
                let waiting = waiting.filter(|tenant| old.is_none_or(|old| tenant.id != old.id));
                if let Some(next) =
                    waiting.filter(|tenant| tenant.hostnames.contains(host)).min_by_key(|t| &t.name).cloned()
                {
                    self.by_host.insert_mut(host.to_string(), next);
                }
            }
        }
        for (host, new) in new.iter().flat_map(|new| new.hostnames.iter().map(move |host| (host, *new))) {
            match self.by_host.get(host.as_str()) {
                Some(holder) if holder.id != new.id => {
                    tracing::warn!(%host, holder = %holder.name, claimant = %new.name, "host is claimed twice, its holder keeps it");
                }
                _ => self.by_host.insert_mut(host.to_string(), Arc::clone(new)),
            }
        }
    }
}

impl Entry {
    /// Whether a document is the one that is served already, as after a watch was broken and all of them are listed again.
    fn holds(&self, found: &Found) -> bool {
        let serving = self.serving.as_ref().map(|snapshot| snapshot.revision.as_str());
        self.rejected.is_none() && found.revision.is_some() && serving == found.revision.as_deref()
    }

    fn report(&self, name: &str) -> Report {
        Report {
            tenant: name.to_owned(),
            revision: self.serving.as_ref().map(|snapshot| snapshot.revision.clone()),
            loaded_at: self.serving.as_ref().map(|snapshot| snapshot.loaded_at),
            rejected: self.rejected.clone(),
        }
    }
}

//! What the replicas of one Platform said. Pure.

use std::collections::{BTreeMap, HashMap};

use contract::Revision;

use super::source::{Refusal, Report};

/// What the ready replicas of a platform hold of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Replicas that serve the revision asked for.
    pub loaded: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// A replica that refused the revision, and why.
    pub rejected: Option<Rejection>,
    /// A replica that does not serve the revision, as far as is known, and does not answer.
    pub silent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub pod: String,
    pub error: String,
}

impl Loaded {
    /// Whether every ready replica, and at least one, serves it.
    pub fn everywhere(&self) -> bool {
        self.ready > 0 && self.loaded == self.ready
    }
}

/// What an answer was about.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It is the first one, or it says who is gone by leaving them out.
    Everything,
    About(Vec<String>),
}

#[derive(Debug, Default)]
pub struct Fleet {
    /// By pod.
    replicas: BTreeMap<String, Replica>,
}

#[derive(Debug, Default)]
struct Replica {
    /// It has answered once. Before that, or until it failed to, it counts as not there: a pod that has just become ready
    /// says within milliseconds what it serves, and nothing is to flicker meanwhile.
    heard: bool,
    silent: bool,
    /// Revisions by tenant, as the numbers that they are.
    serves: HashMap<Box<str>, u64>,
    refused: HashMap<Box<str>, Refusal>,
}

impl Fleet {
    pub fn join(&mut self, pod: &str) {
        self.replicas.insert(pod.to_owned(), Replica::default());
    }

    pub fn leave(&mut self, pod: &str) {
        self.replicas.remove(pod);
    }

    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Takes in an answer; gives what it was about.
    pub fn hear(&mut self, pod: &str, report: Report) -> Option<Said> {
        let replica = self.replicas.get_mut(pod)?;
        (replica.heard, replica.silent) = (true, false);
        let Report { cursor: _, whole, tenants, rejected, gone } = report;
        if whole {
            replica.serves =
                tenants.into_iter().filter_map(|(name, revision)| Some((name.into(), number(&revision)?))).collect();
            replica.refused = rejected.into_iter().map(|(name, refusal)| (name.into(), refusal)).collect();
            return Some(Said::Everything);
        }
        let mut names: Vec<String> = gone;
        names.extend(tenants.iter().map(|(name, _)| name.clone()));
        names.extend(rejected.iter().map(|(name, _)| name.clone()));
        for name in &names {
            replica.serves.remove(name.as_str());
            replica.refused.remove(name.as_str());
        }
        for (name, revision) in tenants {
            if let Some(revision) = number(&revision) {
                replica.serves.insert(name.into(), revision);
            }
        }
        replica.refused.extend(rejected.into_iter().map(|(name, refusal)| (name.into(), refusal)));
        names.sort_unstable();
        names.dedup();
        Some(Said::About(names))
    }

    /// A replica did not answer. What it said before goes on to count: it is ready, and nothing was taken from it. Says
    /// whether that is worth a look at every tenant.
    pub fn miss(&mut self, pod: &str) -> bool {
        let Some(replica) = self.replicas.get_mut(pod) else { return false };
        let news = !replica.heard && !replica.silent;
        replica.silent = true;
        news
    }

    pub fn loaded(&self, tenant: &str, revision: &Revision) -> Loaded {
        let mut loaded = Loaded::default();
        let wanted = number(revision.as_str());
        for (pod, replica) in self.replicas.iter().filter(|(_, replica)| replica.heard || replica.silent) {
            loaded.ready += 1;
            if replica.serves(tenant, wanted) {
                loaded.loaded += 1;
            } else if let Some(refusal) = replica.refused(tenant, revision) {
                loaded.rejected = Some(Rejection { pod: pod.clone(), error: refusal.error.clone() });
            } else if replica.silent {
                loaded.silent = Some(pod.clone());
            }
        }
        loaded
    }

    /// Whether nothing more is to be expected from those who answer.
    pub fn is_settled(&self, tenant: &str, revision: &Revision) -> bool {
        let wanted = number(revision.as_str());
        self.replicas.values().all(|replica| {
            replica.silent || replica.serves(tenant, wanted) || replica.refused(tenant, revision).is_some()
        })
    }

    /// How many there are, and how many of them do not answer.
    pub fn count(&self) -> (usize, usize) {
        (self.replicas.len(), self.replicas.values().filter(|replica| replica.silent).count())
    }
}

impl Replica {
    fn serves(&self, tenant: &str, revision: Option<u64>) -> bool {
        revision.is_some() && self.serves.get(tenant).copied() == revision
    }

    fn refused(&self, tenant: &str, revision: &Revision) -> Option<&Refusal> {
        self.refused.get(tenant).filter(|refusal| refusal.revision.as_deref() == Some(revision.as_str()))
    }
}

/// Revisions are 16 hexadecimal digits: eight bytes for each of ten thousand tenants and a few replicas.
fn number(revision: &str) -> Option<u64> {
    u64::from_str_radix(revision, 16).ok()
}

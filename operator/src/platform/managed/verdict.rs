//! What is said of the managed stores: pure, from what was found.

use crds::{
    conditions::reasons::{DEPENDENCY_MISSING, RUNNING, SETUP_FAILED, SINGLE_INSTANCE, STARTING},
    platform::{CredentialsStatus, ManagedPostgres},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    super::dereference::Dereferenced,
    build::{cluster, pod, postgres},
    dereference::FoundPostgres,
    facts,
    mode::{Mode, mode},
    names::Store,
    rotation::{Facts, Progress, Step, next},
};

/// A condition's worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub well: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn not(reason: &'static str, message: impl Into<String>) -> Self {
        Self { well: false, reason, message: message.into() }
    }
}

/// On managed PostgreSQL; `None` where it is external.
pub fn postgres_verdict(found: &Dereferenced) -> Option<Verdict> {
    let (managed, there) = (found.platform.spec.postgres.managed.as_ref()?, found.managed.postgres.as_ref()?);
    let facts = facts::postgres(found, there);
    Some(match mode(there) {
        Mode::StatefulSet => single(found, managed, there, &facts),
        Mode::Cluster => clustered(found, managed, there, &facts),
    })
}

fn single(found: &Dereferenced, managed: &ManagedPostgres, there: &FoundPostgres, facts: &Facts) -> Verdict {
    let name = Store::Postgres.name(&found.name);
    if !is_ready(there.stateful_set.as_deref()) {
        return Verdict::not(STARTING, format!("the pod of StatefulSet {name} does not take connections yet"));
    }
    if let Some(verdict) = set_up(facts, "the Job that makes role and database runs") {
        return verdict;
    }
    let mut message = format!("one instance in StatefulSet {name}, without failover");
    let mut add = |sentence: String| {
        message.push_str("; ");
        message.push_str(&sentence);
    };
    if managed.instances > 1 {
        add(format!("spec.postgres.managed.instances is {}, which needs CloudNativePG", managed.instances));
    }
    if let Some(running) = postgres::running_version(there).filter(|running| *running != managed.version) {
        add(format!(
            "it runs version {running} and not {}, because its files cannot be read by another: back up, delete the Platform, \
             the PersistentVolumeClaim data-{name}-0 and the Secrets {name}-*, create the Platform anew and restore",
            managed.version
        ));
    }
    if let Some(size) = too_small(managed, there) {
        add(format!("its volume has {size} and is being grown to {}", managed.storage.size));
    }
    if there.peers.clusters {
        add("CloudNativePG is installed by now, but data does not move by itself: to have it take over, back up, delete the \
             Platform, the volume and the Secrets, create the Platform anew and restore"
            .into());
    }
    if let Some(backup) = managed.backup.as_ref().filter(|backup| backup.destination.is_some()) {
        add(format!(
            "backups ({}) go to the PersistentVolumeClaim {}: backup.destination needs CloudNativePG",
            backup.schedule,
            super::names::backup(&found.name)
        ));
    }
    Verdict { well: true, reason: SINGLE_INSTANCE, message }
}

fn clustered(found: &Dereferenced, managed: &ManagedPostgres, there: &FoundPostgres, facts: &Facts) -> Verdict {
    let name = Store::Postgres.name(&found.name);
    if !there.peers.clusters {
        let message = format!(
            "the data is in CloudNativePG's Cluster {name}, and CloudNativePG's kinds are not installed any more: install it \
             again, or delete Secret {} to begin without that data",
            super::names::owner(&found.name)
        );
        return Verdict::not(DEPENDENCY_MISSING, message);
    }
    let Some(cluster) = &there.cluster else {
        return Verdict::not(STARTING, format!("Cluster {name} is being made"));
    };
    let (ready, state) = cluster::state(cluster);
    if let Some(verdict) = set_up(facts, &format!("CloudNativePG sets up the roles ({state})")) {
        return verdict;
    }
    if !ready {
        return Verdict::not(STARTING, format!("Cluster {name}: {state}"));
    }
    let mut message = format!("Cluster {name}: {state}");
    if managed.backup.as_ref().is_some_and(|backup| backup.destination.is_none()) {
        message.push_str("; no backup is made: CloudNativePG needs spec.postgres.managed.backup.destination");
    }
    Verdict { well: true, reason: if managed.instances > 1 { RUNNING } else { SINGLE_INSTANCE }, message }
}

/// On managed Redis; `None` where it is external.
pub fn redis_verdict(found: &Dereferenced) -> Option<Verdict> {
    let there = found.managed.redis.as_ref()?;
    found.platform.spec.redis.managed.as_ref()?;
    let name = Store::Redis.name(&found.name);
    if let Some(verdict) = set_up(&facts::redis(found, there), "its password is being made") {
        return Some(verdict);
    }
    if !is_ready(there.stateful_set.as_deref()) {
        return Some(Verdict::not(STARTING, format!("the pod of StatefulSet {name} does not take connections yet")));
    }
    Some(Verdict { well: true, reason: RUNNING, message: format!("StatefulSet {name} takes connections") })
}

/// Until there is a login, nothing can connect; a change of one that fails is said, though the old one still works.
fn set_up(facts: &Facts, doing: &str) -> Option<Verdict> {
    for progress in [&facts.prepared, &facts.retired] {
        if let Progress::Failed(message) = progress {
            return Some(Verdict::not(SETUP_FAILED, message.as_str()));
        }
    }
    facts.current.is_none().then(|| Verdict::not(STARTING, doing))
}

fn is_ready(set: Option<&StatefulSet>) -> bool {
    set.and_then(|set| set.status.as_ref()).and_then(|status| status.ready_replicas).unwrap_or(0) > 0
}

/// Size of the volume, where it is not yet what is asked for.
pub fn too_small(managed: &ManagedPostgres, there: &FoundPostgres) -> Option<String> {
    let size = there.volume.as_ref()?.status.as_ref()?.capacity.as_ref()?.get("storage")?.0.clone();
    (pod::bytes(&size)? < pod::bytes(&managed.storage.size)?).then_some(size)
}

/// What became of the wish for new passwords.
pub fn credentials_status(found: &Dereferenced, now: Timestamp) -> Option<CredentialsStatus> {
    let stores = stores(found);
    if stores.is_empty() {
        return None;
    }
    let before = found.managed.before.as_ref().and_then(|status| status.credentials.clone()).unwrap_or_default();
    let waiting: Vec<_> = stores.iter().filter_map(|(name, facts, _)| waiting(name, facts)).collect();
    if !waiting.is_empty() {
        return Some(CredentialsStatus { rotating: Some(waiting.join("; ")), ..before });
    }
    let done = stores.iter().map(|(_, _, app)| app.and_then(facts::made_for)).min().flatten().map(str::to_owned);
    if done.is_none() || done == before.rotated {
        return (before.rotated.is_some()).then_some(CredentialsStatus { rotating: None, ..before });
    }
    Some(CredentialsStatus { rotated: done, rotated_at: Some(Time(now)), rotating: None })
}

type Known<'a> = (&'static str, Facts, Option<&'a Secret>);

fn stores(found: &Dereferenced) -> Vec<Known<'_>> {
    let postgres = found.managed.postgres.as_ref();
    let postgres = postgres.map(|there| ("PostgreSQL", facts::postgres(found, there), there.app.as_ref()));
    let redis = found.managed.redis.as_ref();
    let redis = redis.map(|there| ("Redis", facts::redis(found, there), there.app.as_ref()));
    postgres.into_iter().chain(redis).collect()
}

/// What a change of password waits for; the first password is no change.
fn waiting(store: &str, facts: &Facts) -> Option<String> {
    facts.current.as_ref()?;
    let what = match next(facts) {
        Step::Rest => return None,
        Step::Finish if facts.pending.as_ref().is_some_and(|pending| pending.former.is_none()) => return None,
        Step::Draw => "a new password is made".to_owned(),
        Step::Prepare => "it learns the new password".to_owned(),
        Step::Switch => "the API is given the new password".to_owned(),
        Step::Replace => format!("{} pods still use the former password", facts.former_pods),
        Step::Retire | Step::Finish => "it is told to refuse the former password".to_owned(),
    };
    Some(match (&facts.prepared, &facts.retired) {
        (Progress::Failed(why), _) | (_, Progress::Failed(why)) => format!("{store}: {why}"),
        _ => format!("{store}: {what}"),
    })
}

/// Whether something is awaited that no watch tells of: other operators' objects are asked for.
pub fn is_waiting(found: &Dereferenced) -> bool {
    let Some(there) = &found.managed.postgres else { return false };
    mode(there) == Mode::Cluster
        && (there.rotation.is_some()
            || there.app.is_none()
            || !there.cluster.as_ref().is_some_and(|c| cluster::state(c).0))
}

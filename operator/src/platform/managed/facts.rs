//! What the Secrets, pods and Jobs say about a store's logins. Pure.

use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::ResourceExt;

use super::{
    super::{build::ANNOTATION_SECRETS, dereference::Dereferenced, validate},
    build::{
        cluster,
        job::{self, Task},
    },
    credentials::{redis_hash, users_acl},
    dereference::{FoundPostgres, FoundRedis, value},
    mode::{Mode, mode},
    names::{ANNOTATION_ROTATE, Store, USERS_ACL},
    rotation::{Facts, Pending, Progress},
};

/// On the Secret of a rotation: the login that is refused in the end.
pub const ANNOTATION_FORMER: &str = "tenantry.dev/former-login";

/// What the annotation on the Platform asks for.
pub fn wish(found: &Dereferenced) -> Option<&str> {
    found.platform.annotations().get(ANNOTATION_ROTATE).map(String::as_str).filter(|wish| !wish.is_empty())
}

/// The value that a Secret was made for.
pub fn made_for(secret: &Secret) -> Option<&str> {
    secret.annotations().get(ANNOTATION_ROTATE).map(String::as_str)
}

pub fn former(secret: &Secret) -> Option<String> {
    secret.annotations().get(ANNOTATION_FORMER).cloned()
}

pub fn postgres(found: &Dereferenced, there: &FoundPostgres) -> Facts {
    let login = |secret: &Secret| value(secret, "username").to_owned();
    let (current, pending) = (there.app.as_ref().map(login), pending(there.rotation.as_ref(), login));
    let (prepared, retired) = match (mode(there), there.rotation.as_ref()) {
        (_, None) => (Progress::Missing, Progress::Missing),
        (Mode::StatefulSet, Some(rotation)) => (
            progress(found, Store::Postgres, Task::Prepare, rotation),
            progress(found, Store::Postgres, Task::Retire, rotation),
        ),
        (Mode::Cluster, Some(rotation)) => (taken(there, rotation), refused(there, former(rotation))),
    };
    Facts {
        wished: wished(found, there.app.as_ref()),
        former_pods: former_pods(found, there.app.as_ref()),
        current,
        pending,
        prepared,
        retired,
    }
}

pub fn redis(found: &Dereferenced, there: &FoundRedis) -> Facts {
    let login = |secret: &Secret| redis_hash(value(secret, "password"));
    let rotation = there.rotation.as_ref();
    // A list that is up to date reaches a Redis that starts; one that runs is told by a Job.
    let listed = there.users.as_ref().is_some_and(|users| value(users, USERS_ACL) == users_wanted(found, there));
    let told = |task| match rotation {
        Some(rotation) if listed => progress(found, Store::Redis, task, rotation),
        _ => Progress::Missing,
    };
    let prepared = match &there.app {
        None if listed => Progress::Done,
        None => Progress::Missing,
        Some(_) => told(Task::Prepare),
    };
    Facts {
        wished: wished(found, there.app.as_ref()),
        current: there.app.as_ref().map(login),
        pending: pending(rotation, login),
        prepared,
        former_pods: former_pods(found, there.app.as_ref()),
        retired: told(Task::Retire),
    }
}

/// The access list as it should be: the former password is in it for as long as a pod may use it.
pub fn users_wanted(found: &Dereferenced, there: &FoundRedis) -> String {
    let hash = |secret: &Secret| redis_hash(value(secret, "password"));
    let (app, next) = (there.app.as_ref().map(hash), there.rotation.as_ref().map(hash));
    let gone = app.is_some() && app == next && former_pods(found, there.app.as_ref()) == 0;
    let former = there.rotation.as_ref().and_then(former).filter(|_| !gone);
    let hashes: Vec<_> = [app, next, former].into_iter().flatten().collect();
    users_acl(hashes.iter().map(String::as_str))
}

/// Pods of the API that were started with something else than this Secret says now.
pub fn former_pods(found: &Dereferenced, app: Option<&Secret>) -> usize {
    let Some(data) = app.and_then(|app| app.data.as_ref()) else { return 0 };
    let digest = validate::secret_digest(found, data);
    let current = |pod: &k8s_openapi::api::core::v1::Pod| {
        pod.annotations().get(ANNOTATION_SECRETS).is_some_and(|digests| digests.contains(&digest))
    };
    found.managed.pods.iter().filter(|pod| !current(pod)).count()
}

/// How far a Job is; `Missing` where there is none.
fn progress(found: &Dereferenced, store: Store, task: Task, rotation: &Secret) -> Progress {
    let name = job::name(&found.name, store, task, &rotation.uid().unwrap_or_default());
    let job = found.managed.jobs.iter().find(|job| job.name_any() == name);
    job.map_or(Progress::Missing, |job| of_job(&found.namespace, job))
}

/// A Job's conditions in our words; a failure with the cure.
pub fn of_job(namespace: &str, job: &Job) -> Progress {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut holding = conditions.filter(|condition| condition.status == "True");
    match holding.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed")) {
        None => Progress::Running,
        Some(condition) if condition.type_ == "Complete" => Progress::Done,
        Some(condition) => Progress::Failed(format!(
            "Job {name} failed ({}): read `kubectl logs -n {namespace} job/{name}`, cure it, then `kubectl delete -n \
             {namespace} job/{name}` to have it run again",
            condition.message.as_deref().unwrap_or_default(),
            name = job.name_any(),
        )),
    }
}

fn pending(rotation: Option<&Secret>, login: impl Fn(&Secret) -> String) -> Option<Pending> {
    rotation.map(|rotation| Pending { login: login(rotation), former: former(rotation) })
}

fn wished(found: &Dereferenced, app: Option<&Secret>) -> bool {
    wish(found).is_some_and(|wish| app.is_some_and(|app| made_for(app) != Some(wish)))
}

fn taken(there: &FoundPostgres, rotation: &Secret) -> Progress {
    let Some(cluster) = &there.cluster else { return Progress::Missing };
    let login = value(rotation, "username");
    if cluster::takes(cluster, rotation) {
        return Progress::Done;
    }
    match cluster::refuses(cluster, login) {
        Some(why) => Progress::Failed(format!("CloudNativePG cannot set up the role {login}: {why}")),
        None => Progress::Running,
    }
}

fn refused(there: &FoundPostgres, former: Option<String>) -> Progress {
    let (Some(cluster), Some(former)) = (&there.cluster, former) else { return Progress::Missing };
    match cluster::refuses(cluster, &former) {
        Some(why) => Progress::Failed(format!("CloudNativePG cannot lock the role {former}: {why}")),
        None if cluster::is_locked(cluster, &former) => Progress::Done,
        None => Progress::Running,
    }
}

//! Managed PostgreSQL and Redis: what a Platform stands on when nobody else runs it.
//!
//! The same five steps as everywhere, for two stores: *dereference* (which Secrets, pods and Jobs are there) → *mode* and
//! *verdict* (pure) → *build* (pure) → *apply* → the verdict again, as `PostgresReady` and `RedisReady`.
//!
//! | room | what it is for |
//! |---|---|
//! | [`mode`] | who runs PostgreSQL: CloudNativePG, or a StatefulSet of ours; decided once, remembered by a Secret |
//! | [`credentials`] | the keys of a Secret that says how to connect |
//! | [`facts`] | what Secrets, pods and Jobs say about the logins |
//! | [`rotation`] | one change of a password, step by step; the first password is a change from nothing |
//! | [`build`] | StatefulSets, Services, Cluster, backups, Jobs |
//!
//! Data is never owned, and neither is what opens it: the Secrets `<platform>-postgres-*` stay with the volumes unless
//! `deletionPolicy: Delete` says otherwise. So a Platform that is made again finds both.

pub mod apply;
pub mod build;
pub mod credentials;
pub mod dereference;
pub mod facts;
pub mod mode;
pub mod names;
pub mod rotation;
pub mod verdict;

#[cfg(test)]
pub mod published;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::dereference::Dereferenced;

pub use apply::{Refused, apply};
pub use dereference::{Found, dereference};
pub use verdict::{Verdict, credentials_status, is_waiting, postgres_verdict, redis_verdict};

/// How often other operators' objects are looked at while something of theirs is awaited, and at rest: nothing tells us
/// that their kinds came or went.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_AT_REST: Duration = Duration::from_mins(1);

/// When to look again without being told; `None` where everything that matters is watched.
pub fn look_again(found: &Dereferenced) -> Option<Duration> {
    found.managed.postgres.as_ref()?;
    Some(if is_waiting(found) { LOOK } else { LOOK_AT_REST })
}

/// Whether a Job belongs to this room.
pub fn is_ours(job: &Job) -> bool {
    job.labels().contains_key(names::LABEL_TASK)
}

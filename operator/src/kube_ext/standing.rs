//! What was applied and still stands. An apply that changes nothing writes nothing, but the API server has to find that
//! out each time, and a Platform is looked at whenever one of its pods, Secrets or hostnames changes.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Namespaced, Prepared, apply};
use crate::{
    error::ReconcileError,
    stores::{Kept, Shelf},
};

/// After this time an object is applied although it is as it was left: a net under the watches.
pub const ANEW: Duration = Duration::from_mins(10);

/// Kind, namespace, name.
type Key = (Cow<'static, str>, String, String);

/// Remembers what this process applied last.
#[derive(Debug, Default)]
pub struct Standing(Mutex<HashMap<Key, Left>>);

/// An object as it was left.
#[derive(Debug)]
struct Left {
    /// Of what was wished for.
    digest: [u8; 32],
    version: String,
    at: Instant,
}

impl Standing {
    /// Applies the object, unless the same was applied before and the watch knows no newer version than that made. A
    /// change that the watch has not told of yet is no matter: when it tells, the owner is looked at again.
    pub async fn apply<K: Namespaced, S: Kept>(
        &self,
        client: &Client,
        watched: &Shelf<S>,
        wished: Prepared<K>,
    ) -> Result<(), ReconcileError> {
        let known = watched.get(&wished.0.namespace().unwrap_or_default(), &wished.0.name_any());
        self.apply_over(client, known.as_ref().and_then(|object| object.version()), wished).await
    }

    /// The same for what is not watched: `known` is the object's version as it was just read, `None` where there is none.
    pub async fn apply_over<K: Namespaced>(
        &self,
        client: &Client,
        known: Option<&str>,
        wished: Prepared<K>,
    ) -> Result<(), ReconcileError> {
        let (namespace, name) = (wished.0.namespace().unwrap_or_default(), wished.0.name_any());
        let key = (K::kind(&()), namespace, name);
        // One that cannot be written as JSON is for the client to refuse.
        let digest = serde_json::to_vec(&wished).ok().map(|json| Sha256::digest(json).into());
        if self.stands(&key, digest.as_ref(), known) {
            return Ok(());
        }
        let applied = Box::pin(apply(client, wished)).await?;
        let mut left = self.0.lock();
        match (digest, applied.resource_version()) {
            (Some(digest), Some(version)) => drop(left.insert(key, Left { digest, version, at: Instant::now() })),
            _ => drop(left.remove(&key)),
        }
        Ok(())
    }

    fn stands(&self, key: &Key, digest: Option<&[u8; 32]>, known: Option<&str>) -> bool {
        self.0.lock().get(key).is_some_and(|left| {
            Some(&left.digest) == digest && Some(left.version.as_str()) == known && left.at.elapsed() < ANEW
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_differs_was_touched_or_is_old_does_not_stand() {
        let (standing, key) = (Standing::default(), ("Service".into(), "shop".into(), "main-api".into()));
        let left = Left { digest: [1; 32], version: "7".into(), at: Instant::now() };
        assert!(!standing.stands(&key, Some(&[1; 32]), Some("7")), "nothing was applied");
        standing.0.lock().insert(key.clone(), left);
        assert!(standing.stands(&key, Some(&[1; 32]), Some("7")));
        assert!(!standing.stands(&key, Some(&[2; 32]), Some("7")), "another is wished for");
        assert!(!standing.stands(&key, Some(&[1; 32]), Some("8")), "somebody touched it");
        assert!(!standing.stands(&key, Some(&[1; 32]), None), "it is gone");
        tokio::time::sleep(ANEW).await;
        assert!(!standing.stands(&key, Some(&[1; 32]), Some("7")), "it is long ago");
    }
}

//! The status of an object as it stands, also in the moment before the watch tells of what we wrote ourselves: a second
//! visit in that moment would begin from the status before its own last word, and write it once more.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use contract::names::STATUS_FIELD_MANAGER;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::object::HasStatus,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use crate::{
    error::{Doing, ReconcileError},
    kube_ext::Namespaced,
};

/// A watch that is behind by more than this has been interrupted, and tells everything anew.
const REMEMBERED: Duration = Duration::from_mins(1);

/// The statuses of one kind.
pub struct Statuses<K: HasStatus>(Mutex<HashMap<String, Written<K::Status>>>);

struct Written<S> {
    at: Instant,
    version: u64,
    status: S,
}

impl<K: HasStatus> Default for Statuses<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Statuses<K>
where
    K: Namespaced + HasStatus,
    K::Status: Clone + Default + PartialEq + Serialize,
{
    /// The newer of what the watch told and what was written here.
    pub fn of(&self, object: &K) -> K::Status {
        let written = self.0.lock();
        let newer = object
            .uid()
            .and_then(|uid| written.get(&uid))
            .filter(|written| version(object).is_some_and(|told| told < written.version));
        match newer {
            Some(written) => written.status.clone(),
            None => object.status().cloned().unwrap_or_default(),
        }
    }

    /// Writes the status, whole and as its one author, unless it stands already; says whether it wrote. An object that
    /// was deleted meanwhile needs no status any more.
    pub async fn write(&self, client: &Client, object: &K, wanted: &K::Status) -> Result<bool, ReconcileError> {
        if self.of(object) == *wanted {
            return Ok(false);
        }
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name, "namespace": namespace },
            "status": wanted,
        });
        let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
        let api = Api::<K>::namespaced(client.clone(), &namespace);
        match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
            Ok(stored) => {
                self.remember(&stored, wanted);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
            Err(error) => Err(error).doing(|| format!("write the status of {} {namespace}/{name}", K::kind(&()))),
        }
    }

    fn remember(&self, stored: &K, status: &K::Status) {
        let (Some(uid), Some(version)) = (stored.uid(), version(stored)) else {
            return;
        };
        let mut written = self.0.lock();
        written.retain(|_, entry| entry.at.elapsed() < REMEMBERED);
        written.insert(uid, Written { at: Instant::now(), version, status: status.clone() });
    }
}

/// Resource versions of one kind are numbers that grow (KEP-5504).
fn version(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use crds::{Tenant, TenantStatus};

    use super::*;

    fn tenant(version: &str, bindings: u32) -> Tenant {
        let mut tenant = Tenant::new_minimal("acme", "acme.example");
        tenant.metadata.uid = Some("u-1".into());
        tenant.metadata.resource_version = Some(version.into());
        tenant.status = Some(TenantStatus { bindings, ..TenantStatus::default() });
        tenant
    }

    #[test]
    fn what_was_written_counts_until_the_watch_is_as_far() {
        let statuses = Statuses::<Tenant>::default();
        assert_eq!(statuses.of(&tenant("9", 1)).bindings, 1);
        statuses.remember(&tenant("10", 2), &TenantStatus { bindings: 2, ..TenantStatus::default() });
        assert_eq!(statuses.of(&tenant("9", 1)).bindings, 2);
        assert_eq!(statuses.of(&tenant("10", 2)).bindings, 2);
        assert_eq!(statuses.of(&tenant("11", 3)).bindings, 3);
    }
}

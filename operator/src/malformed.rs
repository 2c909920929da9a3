//! Objects that cannot be read as their kind say so in `Ready`, which is all of a status that can be written without
//! knowing the rest: one condition, by server-side apply under a field manager of its own. The reconcilers take it over
//! again with the first status of a version that can be read.
//!
//! Every replica hears of such objects, and the leader writes.

use std::{borrow::Cow, collections::HashMap};

use contract::names::MALFORMED_FIELD_MANAGER;
use crds::conditions::{READY, reasons::MALFORMED};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::{NamespaceResourceScope, error_boundary::InvalidObject},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::kube_ext::State;

/// Longest message: what serde says of a large object may quote a part of it.
const MESSAGE_CHARS: usize = 1024;

/// What is to be said, and what was said already.
#[derive(Debug, Default)]
pub struct Malformed {
    /// By uid.
    known: Mutex<HashMap<String, Known>>,
    heard: Notify,
}

#[derive(Debug, Clone)]
struct Known {
    kind: ApiResource,
    namespace: String,
    name: String,
    generation: Option<i64>,
    error: String,
    /// The version that it is said of: a newer one may be well.
    version: Option<String>,
    said: bool,
}

impl Malformed {
    /// Notes what the watch told. What was said of this generation is not said again: the write itself is told of, too.
    pub fn note<K>(&self, object: &InvalidObject)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let meta = &object.metadata;
        let Some(uid) = meta.uid.clone() else { return };
        let fresh = Known {
            kind: ApiResource::erase::<K>(&()),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            generation: meta.generation,
            error: object.error.clone(),
            version: meta.resource_version.clone(),
            said: false,
        };
        let mut known = self.known.lock();
        let known = known.entry(uid).or_insert_with(|| fresh.clone());
        *known = Known { said: known.said && known.is_as(&fresh), ..fresh };
        self.heard.notify_one();
    }

    /// It can be read, or is gone.
    pub fn forget(&self, uid: Option<&str>) {
        if let Some(uid) = uid {
            self.known.lock().remove(uid);
        }
    }

    /// Says what is to be said, for ever; the leader's work.
    pub async fn run(&self, client: &Client, now: impl Fn() -> Timestamp) {
        loop {
            let unsaid: Vec<_> = {
                let known = self.known.lock();
                known.iter().filter(|(_, known)| !known.said).map(|(uid, known)| (uid.clone(), known.clone())).collect()
            };
            for (uid, known) in unsaid {
                self.say(client, &uid, &known, now()).await;
            }
            self.heard.notified().await;
        }
    }

    async fn say(&self, client: &Client, uid: &str, known: &Known, now: Timestamp) {
        let Known { kind, namespace, name, .. } = known;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
        let params = PatchParams::apply(MALFORMED_FIELD_MANAGER).force();
        match api.patch_status(name, &params, &Patch::Apply(known.status(uid, now))).await {
            Ok(_) => {}
            // A newer version is told of, and the turn is its.
            Err(kube::Error::Api(status)) if status.is_conflict() => return,
            Err(kube::Error::Api(status)) if status.is_not_found() => return self.forget(Some(uid)),
            // Where the schema refuses the object, too, nothing can be written into it: the event has to do.
            Err(error) => {
                tracing::warn!(kind = kind.kind, namespace, name, error = %error, "a malformed object cannot be told so");
            }
        }
        // The watch may have told of the write already: not the version counts, but what it was said of.
        if let Some(now) = self.known.lock().get_mut(uid).filter(|now| now.is_as(known)) {
            now.said = true;
        }
    }
}

impl Known {
    fn is_as(&self, other: &Self) -> bool {
        (self.generation, &self.error) == (other.generation, &other.error)
    }

    fn status(&self, uid: &str, now: Timestamp) -> Value {
        let Self { kind, namespace, name, generation, error, version, .. } = self;
        let message = format!(
            "this {} cannot be read, and what it last asked for stays in force: {error}: correct that field",
            kind.kind
        );
        let message = match message.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => Cow::Owned(format!("{}…", message.get(..end).unwrap_or_default())),
            None => Cow::Borrowed(message.as_str()),
        };
        json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version},
            "status": {"conditions": [{
                "type": READY, "status": State::False.as_str(), "reason": MALFORMED, "message": message,
                "observedGeneration": generation, "lastTransitionTime": now,
            }]},
        })
    }
}

#[cfg(test)]
mod tests {
    use crds::Tenant;

    use super::*;

    fn heard(generation: i64, version: &str, error: &str) -> InvalidObject {
        let metadata = json!({"name": "acme", "namespace": "shop", "uid": "u-1", "generation": generation, "resourceVersion": version});
        InvalidObject { error: error.into(), metadata: serde_json::from_value(metadata).unwrap() }
    }

    #[test]
    fn a_generation_is_told_of_once_and_another_mistake_anew() {
        let malformed = Malformed::default();
        let said = || malformed.known.lock()["u-1"].said;
        malformed.note::<Tenant>(&heard(2, "10", "no number"));
        malformed.known.lock().get_mut("u-1").unwrap().said = true;
        malformed.note::<Tenant>(&heard(2, "11", "no number"));
        assert!(said(), "that is our own write");
        assert_eq!(malformed.known.lock()["u-1"].version.as_deref(), Some("11"));
        malformed.note::<Tenant>(&heard(3, "12", "no number"));
        assert!(!said());
        malformed.forget(Some("u-1"));
        assert!(malformed.known.lock().is_empty());
    }

    #[test]
    fn a_message_has_an_end() {
        let known = {
            let malformed = Malformed::default();
            malformed.note::<Tenant>(&heard(2, "10", &"é".repeat(5_000)));
            malformed.known.lock()["u-1"].clone()
        };
        let status = known.status("u-1", Timestamp::UNIX_EPOCH);
        let condition = &status["status"]["conditions"][0];
        assert_eq!(condition["message"].as_str().unwrap().chars().count(), MESSAGE_CHARS + 1);
        assert_eq!((&condition["observedGeneration"], &condition["reason"]), (&json!(2), &json!("Malformed")));
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }
}

//! What the last reconcile of each Tenant made of the objects around it. A Tenant's reconcile is the one place that
//! judges them; the reconcilers of RoleBinding, PaymentProvider and RateLimitPolicy read their verdict here and write it
//! into their own status. Kept in memory: a new leader reconciles every Tenant first and knows all of it again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use contract::Revision;
use kube::{ResourceExt, api::ObjectMeta};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::{
    render::{limits::InForce, payments::Origin, verdict::Verdict},
    replicas::{Loaded, PlatformKey},
    stores::Kept,
};

/// Namespace and name of a Tenant.
pub type TenantKey = (String, String);

/// The verdicts on everything that belongs to one Tenant, and how far its configuration came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The Tenant's generation that this is about.
    pub generation: Option<i64>,
    /// The revision that was rendered from these objects, and what the replicas said of it. `None`: the Tenant has no
    /// configuration, for the reason in its own conditions.
    pub serving: Option<Serving>,
    pub bindings: BTreeMap<String, Verdict>,
    pub providers: BTreeMap<String, Verdict<Option<Origin>>>,
    pub policies: BTreeMap<String, Verdict<InForce>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The Platform that serves it, by name.
    pub platform: String,
    pub revision: Revision,
    pub loaded: Loaded,
}

/// What an object's own reconciler learns about it.
pub enum Standing<'a, T> {
    /// Its Tenant does not exist.
    NoTenant,
    /// This generation has not been judged yet; the Tenant's reconcile is about to.
    Pending,
    Judged {
        verdict: &'a Verdict<T>,
        serving: Option<&'a Serving>,
    },
}

impl Outcome {
    /// Where an object stands whose verdict is in `verdicts`.
    pub fn standing<'a, T>(
        outcome: Option<&'a Self>,
        verdicts: impl FnOnce(&'a Self) -> &'a BTreeMap<String, Verdict<T>>,
        meta: &ObjectMeta,
        tenant_exists: bool,
    ) -> Standing<'a, T> {
        if !tenant_exists {
            return Standing::NoTenant;
        }
        let name = meta.name.as_deref().unwrap_or_default();
        let verdict = outcome.and_then(|outcome| verdicts(outcome).get(name));
        match (verdict.filter(|verdict| verdict.generation == meta.generation), outcome) {
            (Some(verdict), Some(outcome)) => Standing::Judged { verdict, serving: outcome.serving.as_ref() },
            _ => Standing::Pending,
        }
    }
}

/// The outcomes of all Tenants.
#[derive(Debug, Default)]
pub struct Outcomes {
    known: RwLock<HashMap<TenantKey, Arc<Outcome>>>,
    listener: Mutex<Option<mpsc::UnboundedSender<TenantKey>>>,
    /// The version of each document as it was last written here, by namespace and name.
    written: Mutex<HashMap<(String, String), Option<String>>>,
}

impl Outcomes {
    pub fn get(&self, namespace: &str, tenant: &str) -> Option<Arc<Outcome>> {
        self.known.read().get(&(namespace.to_owned(), tenant.to_owned())).cloned()
    }

    /// The Tenants whose verdict depends on the replicas of this Platform.
    pub fn served_by(&self, (namespace, platform): &PlatformKey) -> Vec<String> {
        let known = self.known.read();
        let served = |outcome: &Outcome| outcome.serving.as_ref().is_some_and(|serving| serving.platform == *platform);
        let of_it = known.iter().filter(|((within, _), outcome)| within == namespace && served(outcome));
        of_it.map(|((_, name), _)| name.clone()).collect()
    }

    /// Forgets all: another leader's verdicts may be newer.
    pub fn clear(&self) {
        self.known.write().clear();
        self.written.lock().clear();
    }

    /// Remembers an outcome, and tells the listener if it is news.
    pub fn put(&self, tenant: TenantKey, outcome: Outcome) {
        let mut known = self.known.write();
        if known.get(&tenant).is_none_or(|before| **before != outcome) {
            known.insert(tenant.clone(), Arc::new(outcome));
            drop(known);
            self.tell(tenant);
        }
    }

    /// Forgets a Tenant that is gone.
    pub fn forget(&self, tenant: &TenantKey) {
        if self.known.write().remove(tenant).is_some() {
            self.tell(tenant.clone());
        }
    }

    /// The Tenants whose outcome changes from now on. There is one listener: who wires the controllers.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<TenantKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock() = Some(sender);
        receiver
    }

    /// Remembers a document as it was written, so that the watch's echo of it is known for what it is.
    pub fn remember_write(&self, document: &impl ResourceExt) {
        self.written.lock().insert(key(document), document.resource_version());
    }

    /// Whether this is the document as it was written here: no news for its Tenant.
    pub fn wrote<K: Kept>(&self, document: &K) -> bool {
        let (namespace, name) = document.id();
        let written = self.written.lock();
        let version = written.get(&(namespace.to_owned(), name.to_owned()));
        version.is_some_and(|version| version.as_deref() == document.version())
    }

    /// A document that is gone is nobody's echo.
    pub fn forget_write<K: Kept>(&self, document: &K) {
        let (namespace, name) = document.id();
        self.written.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn tell(&self, tenant: TenantKey) {
        if let Some(listener) = self.listener.lock().as_ref() {
            // A closed receiver means that the process is stopping.
            let _ = listener.send(tenant);
        }
    }
}

fn key(object: &impl ResourceExt) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_told() {
        let outcomes = Outcomes::default();
        let mut heard = outcomes.listen();
        let acme: TenantKey = ("prod".into(), "acme".into());
        outcomes.put(acme.clone(), Outcome::default());
        outcomes.put(acme.clone(), Outcome::default());
        assert!(outcomes.get("prod", "acme").is_some());
        outcomes.forget(&acme);
        outcomes.forget(&acme);
        assert_eq!(std::iter::from_fn(|| heard.try_recv().ok()).count(), 2);
        assert!(outcomes.get("prod", "acme").is_none());
    }
}

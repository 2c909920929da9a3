//! What the watches have told so far: one [`Shelf`] per kind, with the indexes that reconcilers and triggers need.
//!
//! A lookup costs what it finds and not what there is: with ten thousand tenants nothing may read a whole shelf for one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use contract::names::{LABEL_PLATFORM, LABEL_TENANT};
use crds::{PaymentProvider, Platform, PlatformSpec, RateLimitPolicy, RoleBinding, TargetKind, Tenant};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
    networking::v1::Ingress,
    policy::v1::PodDisruptionBudget,
    rbac::v1 as rbac,
};
use kube::{
    Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};
use parking_lot::Mutex;

use crate::peers::{HttpRoute, PodMonitor, ScaledObject};

/// What objects can be found by, besides their name. Namespaced: names of different namespaces never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Namespace(String),
    /// Belongs or refers to this Platform.
    Platform(String, String),
    /// Belongs or refers to this Tenant.
    Tenant(String, String),
    /// Refers to this Secret.
    Secret(String, String),
    /// Asks for this hostname.
    Hostname(String),
}

/// Everything known of one kind.
pub struct Shelf<K: Kept> {
    store: Store<K>,
    inner: Mutex<Inner<K>>,
    keys: fn(&K) -> Vec<Key>,
    /// Objects that are there, but could not be read as their kind since this process began.
    unreadable: Mutex<BTreeSet<(String, String)>>,
}

struct Inner<K: Kept> {
    writer: Writer<K>,
    index: HashMap<Key, BTreeSet<(String, String)>>,
}

/// What can be put on a shelf.
pub trait Kept: Resource<DynamicType = ()> + Clone + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Kept for K {}

impl<K: Kept> Shelf<K> {
    /// An empty shelf whose objects can be found by `keys` (and always by namespace).
    pub fn new(keys: fn(&K) -> Vec<Key>) -> Self {
        let mut writer = Writer::default();
        // Whether everything was listed once is the watches' to say ([`crate::watch`]), which serve several namespaces.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let store = writer.as_reader();
        let inner = Mutex::new(Inner { writer, index: HashMap::new() });
        Self { store, inner, keys, unreadable: Mutex::default() }
    }

    /// The kube-runtime store behind it.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// What is found under a key, oldest first; among objects of one second, by name. This is the order in which
    /// claims are honoured.
    pub fn find(&self, key: &Key) -> Vec<Arc<K>> {
        let names = self.inner.lock().index.get(key).cloned().unwrap_or_default();
        let mut found: Vec<_> = names.iter().filter_map(|(namespace, name)| self.get(namespace, name)).collect();
        found.sort_by_cached_key(|object| seniority(object.as_ref()));
        found
    }

    /// Everything in one namespace, oldest first.
    pub fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        self.find(&Key::Namespace(namespace.into()))
    }

    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// Names of this namespace's objects of which no version could be read.
    pub fn unreadable(&self, namespace: &str) -> BTreeSet<String> {
        let unreadable = self.unreadable.lock();
        unreadable.iter().filter(|(within, _)| within == namespace).map(|(_, name)| name.clone()).collect()
    }

    /// Remembers that an object is there which cannot be read. One that could be before stays as it was.
    pub fn put_unreadable(&self, namespace: &str, name: &str) {
        if self.get(namespace, name).is_none() {
            self.unreadable.lock().insert((namespace.to_owned(), name.to_owned()));
        }
    }

    /// An unreadable object went, or became readable.
    pub fn take_unreadable(&self, namespace: &str, name: &str) {
        self.unreadable.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// How many objects are there of which no version could be read.
    pub fn count_unreadable(&self) -> usize {
        self.unreadable.lock().len()
    }

    /// Puts an object in its place; returns the one that was there.
    pub fn put(&self, object: K) -> Option<Arc<K>> {
        self.take_unreadable(&namespace(&object), &object.name_any());
        let mut inner = self.inner.lock();
        let before = self.get(&namespace(&object), &object.name_any());
        if let Some(before) = &before {
            inner.forget(before, self.keys);
        }
        inner.remember(&object, self.keys);
        inner.writer.apply_watcher_event(&Event::Apply(object));
        before
    }

    /// Takes an object away; returns the one that was there.
    pub fn take(&self, object: &K) -> Option<Arc<K>> {
        let mut inner = self.inner.lock();
        let before = self.get(&namespace(object), &object.name_any())?;
        inner.forget(&before, self.keys);
        inner.writer.apply_watcher_event(&Event::Delete(before.as_ref().clone()));
        Some(before)
    }
}

impl<K: Kept> Inner<K> {
    fn remember(&mut self, object: &K, keys: fn(&K) -> Vec<Key>) {
        let id = (namespace(object), object.name_any());
        for key in all_keys(object, keys) {
            self.index.entry(key).or_default().insert(id.clone());
        }
    }

    fn forget(&mut self, object: &K, keys: fn(&K) -> Vec<Key>) {
        let id = (namespace(object), object.name_any());
        for key in all_keys(object, keys) {
            if let Some(names) = self.index.get_mut(&key) {
                names.remove(&id);
                if names.is_empty() {
                    self.index.remove(&key);
                }
            }
        }
    }
}

fn all_keys<K: Kept>(object: &K, keys: fn(&K) -> Vec<Key>) -> impl Iterator<Item = Key> {
    keys(object).into_iter().chain([Key::Namespace(namespace(object))])
}

fn namespace(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_default()
}

/// Who comes first where two objects claim one thing: the older, then the one whose namespace and name sort first.
pub fn seniority(object: &impl ResourceExt) -> (Option<jiff::Timestamp>, String, String) {
    (object.creation_timestamp().map(|time| time.0), namespace(object), object.name_any())
}

/// A shelf per kind.
pub struct Stores {
    pub platforms: Shelf<Platform>,
    pub tenants: Shelf<Tenant>,
    pub role_bindings: Shelf<RoleBinding>,
    pub payment_providers: Shelf<PaymentProvider>,
    pub rate_limit_policies: Shelf<RateLimitPolicy>,
    /// All Secrets by metadata: who refers to one is told of its changes; a value is read when it is needed.
    pub secrets: Shelf<PartialObjectMeta<Secret>>,
    /// The tenants' documents by metadata: enough to see that one was touched.
    pub documents: Shelf<PartialObjectMeta<ConfigMap>>,
    /// The API's pods.
    pub pods: Shelf<Pod>,
    /// What Platforms are made of. Progress is read from the first two; of the rest it is enough to see a touch.
    pub deployments: Shelf<Deployment>,
    pub jobs: Shelf<Job>,
    pub services: Shelf<PartialObjectMeta<Service>>,
    pub service_accounts: Shelf<PartialObjectMeta<ServiceAccount>>,
    pub roles: Shelf<PartialObjectMeta<rbac::Role>>,
    /// RoleBindings of Kubernetes' own RBAC.
    pub grants: Shelf<PartialObjectMeta<rbac::RoleBinding>>,
    pub ingresses: Shelf<PartialObjectMeta<Ingress>>,
    pub disruption_budgets: Shelf<PartialObjectMeta<PodDisruptionBudget>>,
    /// Whether it can scale is read from its status.
    pub autoscalers: Shelf<HorizontalPodAutoscaler>,
    /// Kinds of other projects; empty where they are not installed.
    pub routes: Shelf<HttpRoute>,
    pub pod_monitors: Shelf<PartialObjectMeta<PodMonitor>>,
    pub scaled_objects: Shelf<ScaledObject>,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            platforms: Shelf::new(platform_keys),
            tenants: Shelf::new(tenant_keys),
            role_bindings: Shelf::new(|binding| vec![tenant(binding, &binding.spec.tenant_ref.name)]),
            payment_providers: Shelf::new(provider_keys),
            rate_limit_policies: Shelf::new(|policy| {
                let target = &policy.spec.target_ref;
                vec![match target.kind {
                    TargetKind::Platform => platform(policy, &target.name),
                    TargetKind::Tenant => tenant(policy, &target.name),
                }]
            }),
            secrets: Shelf::new(labelled),
            documents: Shelf::new(labelled),
            pods: Shelf::new(labelled),
            deployments: Shelf::new(labelled),
            jobs: Shelf::new(labelled),
            services: Shelf::new(labelled),
            service_accounts: Shelf::new(labelled),
            roles: Shelf::new(labelled),
            grants: Shelf::new(labelled),
            ingresses: Shelf::new(labelled),
            disruption_budgets: Shelf::new(labelled),
            autoscalers: Shelf::new(labelled),
            routes: Shelf::new(labelled),
            pod_monitors: Shelf::new(labelled),
            scaled_objects: Shelf::new(labelled),
        }
    }
}

impl Stores {
    /// The Platform that serves this Tenant: the one it names, or the only one of its namespace.
    pub fn platform_of(&self, tenant: &Tenant) -> Option<Arc<Platform>> {
        let namespace = namespace(tenant);
        match &tenant.spec.platform_ref {
            Some(platform) => self.platforms.get(&namespace, &platform.name),
            None => match self.platforms.within(&namespace).as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
        }
    }

    /// The Tenants that this Platform serves, oldest first.
    pub fn tenants_of(&self, platform: &Platform) -> Vec<Arc<Tenant>> {
        let (namespace, name) = (namespace(platform), platform.name_any());
        let mut tenants = self.tenants.within(&namespace);
        tenants.retain(|tenant| self.platform_of(tenant).is_some_and(|serving| serving.name_any() == name));
        tenants
    }
}

fn platform(object: &impl ResourceExt, name: &str) -> Key {
    Key::Platform(namespace(object), name.into())
}

fn tenant(object: &impl ResourceExt, name: &str) -> Key {
    Key::Tenant(namespace(object), name.into())
}

fn secret(object: &impl ResourceExt, name: &str) -> Key {
    Key::Secret(namespace(object), name.into())
}

/// The owner by label, for what the operator made.
fn labelled<K: Kept>(object: &K) -> Vec<Key> {
    let label = |key: &str| object.labels().get(key).cloned();
    label(LABEL_PLATFORM)
        .map(|name| platform(object, &name))
        .into_iter()
        .chain(label(LABEL_TENANT).map(|name| tenant(object, &name)))
        .collect()
}

fn tenant_keys(object: &Tenant) -> Vec<Key> {
    let spec = &object.spec;
    let hostnames = spec.hostnames.iter().map(|name| Key::Hostname(name.clone()));
    let signing = spec.auth.signing.secret_ref.iter().map(|reference| secret(object, &reference.name));
    hostnames.chain(signing).collect()
}

fn platform_keys(object: &Platform) -> Vec<Key> {
    let PlatformSpec { postgres, redis, .. } = &object.spec;
    [postgres.external.as_ref(), redis.external.as_ref()]
        .into_iter()
        .flatten()
        .map(|external| secret(object, &external.secret_ref.name))
        .collect()
}

fn provider_keys(object: &PaymentProvider) -> Vec<Key> {
    let secrets = object.spec.secret_keys().map(|reference| secret(object, &reference.name));
    secrets.chain([tenant(object, &object.spec.tenant_ref.name)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosted(name: &str, seconds: i64, hostname: &str) -> Tenant {
        let mut tenant = Tenant::new_minimal(name, hostname);
        tenant.metadata.namespace = Some("shop".into());
        let created = jiff::Timestamp::from_second(seconds).unwrap();
        tenant.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        tenant
    }

    fn names(found: &[Arc<Tenant>]) -> Vec<String> {
        found.iter().map(|tenant| tenant.name_any()).collect()
    }

    #[test]
    fn claims_are_found_oldest_first() {
        let shelf = Shelf::new(tenant_keys);
        for (name, age) in [("b", 20), ("a", 20), ("z", 10)] {
            shelf.put(hosted(name, age, "api.example.com"));
        }
        assert_eq!(names(&shelf.find(&Key::Hostname("api.example.com".into()))), ["z", "a", "b"]);
    }

    #[test]
    fn an_index_follows_its_object() {
        let shelf = Shelf::new(tenant_keys);
        shelf.put(hosted("acme", 1, "old.example.com"));
        let before = shelf.put(hosted("acme", 1, "new.example.com")).unwrap();
        assert_eq!(before.spec.hostnames, ["old.example.com"]);
        assert!(shelf.find(&Key::Hostname("old.example.com".into())).is_empty());
        shelf.take(&hosted("acme", 1, "ignored.example.com"));
        assert!(shelf.find(&Key::Hostname("new.example.com".into())).is_empty());
        assert!(shelf.within("shop").is_empty());
    }

    #[test]
    fn a_tenant_without_a_reference_is_served_by_the_only_platform() {
        let stores = Stores::default();
        let tenant = hosted("acme", 1, "acme.example.com");
        assert!(stores.platform_of(&tenant).is_none());
        for (name, found) in [("one", true), ("two", false)] {
            let mut platform = Platform::new_minimal(name, "db", "redis");
            platform.metadata.namespace = Some("shop".into());
            stores.platforms.put(platform);
            assert_eq!(stores.platform_of(&tenant).is_some(), found, "{name}");
        }
    }
}

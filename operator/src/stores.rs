//! What the watches have told so far: one [`Shelf`] per kind, with the indexes that reconcilers and triggers need.
//!
//! A lookup costs what it finds and not what there is: with ten thousand tenants nothing may read a whole shelf for one.

use std::{
    borrow::{Borrow, Cow},
    cmp::Ordering,
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    slice,
    sync::Arc,
};

use contract::names::{LABEL_PLATFORM, LABEL_TENANT};
use crds::{PaymentProvider, Platform, PlatformSpec, RateLimitPolicy, RoleBinding, TargetKind, Tenant};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
    networking::v1::Ingress,
    policy::v1::PodDisruptionBudget,
    rbac::v1 as rbac,
};
use kube::{Resource, api::PartialObjectMeta};
use parking_lot::{Mutex, RwLock};

use crate::note::Note;

use crate::peers::{HttpRoute, PodMonitor, ScaledObject};

/// What objects can be found by, besides their name. Namespaced: names of different namespaces never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Belongs or refers to this Platform.
    Platform(String, String),
    /// Belongs or refers to this Tenant.
    Tenant(String, String),
    /// Refers to this Secret.
    Secret(String, String),
    /// Asks for this hostname.
    Hostname(String),
}

/// What can be put on a shelf: an object, or what is kept of one.
pub trait Kept: Clone + Send + Sync + 'static {
    fn kind_name() -> Cow<'static, str>;
    fn plural_name() -> Cow<'static, str>;
    /// Namespace and name.
    fn id(&self) -> (&str, &str);
    fn version(&self) -> Option<&str>;
    fn created(&self) -> Option<jiff::Timestamp>;
    fn label(&self, key: &str) -> Option<&str>;
    /// Drops what nobody asks for, before it is kept for long.
    fn trim(&mut self);
}

impl<K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Kept for K {
    fn kind_name() -> Cow<'static, str> {
        K::kind(&())
    }

    fn plural_name() -> Cow<'static, str> {
        K::plural(&())
    }

    fn id(&self) -> (&str, &str) {
        let meta = self.meta();
        (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    fn version(&self) -> Option<&str> {
        self.meta().resource_version.as_deref()
    }

    fn created(&self) -> Option<jiff::Timestamp> {
        self.meta().creation_timestamp.as_ref().map(|time| time.0)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Who owns which field is often half of an object, and `kubectl apply` leaves the object in an annotation once more.
    fn trim(&mut self) {
        let meta = self.meta_mut();
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|key, _| !key.starts_with("kubectl.kubernetes.io/"));
        }
        meta.annotations.take_if(|annotations| annotations.is_empty());
        // What was read from JSON has room for more.
        meta.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
        meta.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    }
}

/// Everything known of one kind.
pub struct Shelf<K: Kept> {
    inner: RwLock<Inner<K>>,
    keys: fn(&K) -> Vec<Key>,
    /// Objects that are there, but could not be read as their kind since this process began.
    unreadable: Mutex<BTreeSet<(String, String)>>,
}

struct Inner<K> {
    /// By namespace, then by name.
    objects: HashMap<Box<str>, HashSet<Named<K>>>,
    /// By the hash of a key: the keys of ten thousand tenants would take more than all that they lead to.
    index: HashMap<u64, Found<K>>,
    hasher: RandomState,
}

/// An object that is found by the name it has itself.
struct Named<K>(Arc<K>);

impl<K> Named<K> {
    fn object(&self) -> Arc<K> {
        self.0.clone()
    }
}

impl<K: Kept> Borrow<str> for Named<K> {
    fn borrow(&self) -> &str {
        self.0.id().1
    }
}

impl<K: Kept> Hash for Named<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id().1.hash(state);
    }
}

impl<K: Kept> PartialEq for Named<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.id().1 == other.0.id().1
    }
}

impl<K: Kept> Eq for Named<K> {}

/// What is under one hash; most keys lead to one object, for ever.
enum Found<K> {
    One(Arc<K>),
    More(Vec<Arc<K>>),
}

impl<K> Found<K> {
    fn objects(&self) -> &[Arc<K>] {
        match self {
            Self::One(object) => slice::from_ref(object),
            Self::More(objects) => objects,
        }
    }

    fn add(&mut self, object: &Arc<K>) {
        match self {
            Self::One(first) => *self = Self::More(vec![first.clone(), object.clone()]),
            Self::More(objects) => objects.push(object.clone()),
        }
    }
}

impl<K: Kept> Shelf<K> {
    /// An empty shelf whose objects can be found by `keys` (and always by namespace and name).
    pub fn new(keys: fn(&K) -> Vec<Key>) -> Self {
        let inner = Inner { objects: HashMap::new(), index: HashMap::new(), hasher: RandomState::new() };
        Self { inner: RwLock::new(inner), keys, unreadable: Mutex::default() }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.read().objects.get(namespace)?.get(name).map(|Named(object)| object.clone())
    }

    /// What is found under a key, oldest first; among objects of one second, by name. This is the order in which
    /// claims are honoured.
    pub fn find(&self, key: &Key) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let found = inner.index.get(&inner.hasher.hash_one(key)).map(Found::objects).unwrap_or_default();
        oldest_first(found.iter().filter(|object| (self.keys)(object).contains(key)).cloned().collect())
    }

    /// Everything in one namespace, oldest first.
    pub fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        oldest_first(self.inner.read().objects.get(namespace).into_iter().flatten().map(Named::object).collect())
    }

    /// The only object of a namespace; `None` where there is none, or more than one.
    pub fn only(&self, namespace: &str) -> Option<Arc<K>> {
        let inner = self.inner.read();
        let mut names = inner.objects.get(namespace)?.iter();
        names.next().filter(|_| names.len() == 0).map(Named::object)
    }

    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner.read().objects.values().flatten().map(Named::object).collect()
    }

    /// Looks at every object there is now. The shelf is not locked meanwhile: `look` may come back to it, and a watch need
    /// not wait until ten thousand objects have been looked at. (Whoever reads a lock that it holds already waits for ever
    /// once a writer is waiting in between.)
    pub fn each(&self, mut look: impl FnMut(&K)) {
        self.all().iter().for_each(|object| look(object));
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
        let (namespace, name) = object.id();
        self.take_unreadable(namespace, name);
        let namespace: Box<str> = namespace.into();
        let object = Arc::new(object);
        let mut inner = self.inner.write();
        let before = inner.objects.entry(namespace).or_default().replace(Named(object.clone()));
        if let Some(Named(before)) = &before {
            inner.forget(before, self.keys);
        }
        for key in (self.keys)(&object) {
            let hash = inner.hasher.hash_one(key);
            match inner.index.entry(hash) {
                Entry::Vacant(place) => drop(place.insert(Found::One(object.clone()))),
                Entry::Occupied(mut found) => {
                    // An object may have one key for two reasons.
                    if found.get().objects().last().is_none_or(|last| !Arc::ptr_eq(last, &object)) {
                        found.get_mut().add(&object);
                    }
                }
            }
        }
        before.map(|Named(before)| before)
    }

    /// Takes an object away; returns the one that was there.
    pub fn take(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let mut inner = self.inner.write();
        let names = inner.objects.get_mut(namespace)?;
        let Named(before) = names.take(name)?;
        if names.is_empty() {
            inner.objects.remove(namespace);
        }
        inner.forget(&before, self.keys);
        Some(before)
    }
}

impl<K: Kept> Inner<K> {
    fn forget(&mut self, object: &Arc<K>, keys: fn(&K) -> Vec<Key>) {
        for key in keys(object) {
            let Entry::Occupied(mut found) = self.index.entry(self.hasher.hash_one(key)) else { continue };
            let emptied = match found.get_mut() {
                Found::One(known) => Arc::ptr_eq(known, object),
                Found::More(known) => {
                    known.retain(|known| !Arc::ptr_eq(known, object));
                    known.is_empty()
                }
            };
            if emptied {
                found.remove();
            }
        }
    }
}

fn oldest_first<K: Kept>(mut found: Vec<Arc<K>>) -> Vec<Arc<K>> {
    found.sort_by(|one, other| seniority(one.as_ref(), other.as_ref()));
    found
}

fn namespace(object: &impl Kept) -> String {
    object.id().0.to_owned()
}

/// Who comes first where two objects claim one thing: the older, then the one whose namespace and name sort first.
pub fn seniority<K: Kept>(one: &K, other: &K) -> Ordering {
    (one.created(), one.id()).cmp(&(other.created(), other.id()))
}

/// A shelf per kind.
pub struct Stores {
    pub platforms: Shelf<Platform>,
    pub tenants: Shelf<Tenant>,
    pub role_bindings: Shelf<RoleBinding>,
    pub payment_providers: Shelf<PaymentProvider>,
    pub rate_limit_policies: Shelf<RateLimitPolicy>,
    /// All Secrets by their notes: who refers to one is told of its changes; a value is read when it is needed.
    pub secrets: Shelf<Note<Secret>>,
    /// The tenants' documents by their notes: enough to see that one was touched.
    pub documents: Shelf<Note<ConfigMap>>,
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
    /// Managed PostgreSQL and Redis, with their status.
    pub stateful_sets: Shelf<StatefulSet>,
    /// Backups.
    pub cron_jobs: Shelf<PartialObjectMeta<CronJob>>,
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
            stateful_sets: Shelf::new(labelled),
            cron_jobs: Shelf::new(labelled),
        }
    }
}

impl Stores {
    /// The Platform that serves this Tenant: the one it names, or the only one of its namespace.
    pub fn platform_of(&self, tenant: &Tenant) -> Option<Arc<Platform>> {
        let (namespace, _) = tenant.id();
        match &tenant.spec.platform_ref {
            Some(platform) => self.platforms.get(namespace, &platform.name),
            None => self.platforms.only(namespace),
        }
    }

    /// The Tenants that this Platform serves, oldest first.
    pub fn tenants_of(&self, platform: &Platform) -> Vec<Arc<Tenant>> {
        let (namespace, name) = platform.id();
        let mut tenants = self.tenants.within(namespace);
        tenants.retain(|tenant| self.platform_of(tenant).is_some_and(|serving| serving.id().1 == name));
        tenants
    }
}

fn platform(object: &impl Kept, name: &str) -> Key {
    Key::Platform(namespace(object), name.into())
}

fn tenant(object: &impl Kept, name: &str) -> Key {
    Key::Tenant(namespace(object), name.into())
}

fn secret(object: &impl Kept, name: &str) -> Key {
    Key::Secret(namespace(object), name.into())
}

/// The owners by label, for what the operator made.
fn labelled<K: Kept>(object: &K) -> Vec<Key> {
    let platform = object.label(LABEL_PLATFORM).map(|name| platform(object, name));
    platform.into_iter().chain(object.label(LABEL_TENANT).map(|name| tenant(object, name))).collect()
}

fn tenant_keys(object: &Tenant) -> Vec<Key> {
    let spec = &object.spec;
    let hostnames = spec.hostnames.iter().map(|name| Key::Hostname(name.clone()));
    let signing = spec.auth.signing.secret_ref.iter().map(|reference| secret(object, &reference.name));
    let providers = spec.auth.client_secrets().map(|reference| secret(object, &reference.name));
    hostnames.chain(signing).chain(providers).collect()
}

fn platform_keys(object: &Platform) -> Vec<Key> {
    let PlatformSpec { postgres, redis, mail, .. } = &object.spec;
    let mail = mail.iter().filter_map(|mail| mail.smtp.secret_ref.as_ref());
    [postgres.external.as_ref(), redis.external.as_ref()]
        .into_iter()
        .flatten()
        .map(|external| &external.secret_ref)
        .chain(mail)
        .map(|reference| secret(object, &reference.name))
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

    fn names(found: &[Arc<Tenant>]) -> Vec<&str> {
        found.iter().map(|tenant| tenant.id().1).collect()
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
        shelf.take("shop", "acme").unwrap();
        assert!(shelf.find(&Key::Hostname("new.example.com".into())).is_empty());
        assert!(shelf.within("shop").is_empty());
    }

    #[test]
    fn a_shelf_can_be_written_while_its_objects_are_looked_at() {
        let shelf = Shelf::new(tenant_keys);
        for name in ["a", "b"] {
            shelf.put(hosted(name, 1, "api.example.com"));
        }
        let mut seen = 0;
        shelf.each(|_| {
            assert!(shelf.inner.try_write().is_some());
            seen += 1;
        });
        assert_eq!(seen, 2);
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

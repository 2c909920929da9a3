//! The status of an object as it stands, also in the moment before the watch tells of what we wrote ourselves, and for a
//! visit that began in that moment: from the status before its own last word it would write that word once more.

mod said;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use contract::names::STATUS_FIELD_MANAGER;
use crds::{
    PaymentProvider, Platform, RateLimitPolicy, RoleBinding, Tenant,
    conditions::{READY, of, reasons::RECONCILING},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::object::HasStatus,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use self::said::Said;
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{Conditions, Namespaced, State, Uid, find},
    metrics::Metrics,
    stores::{Kept, Shelf, Stores},
};

/// How long a new generation may take to be worked through before its `Ready` says that it is: nearly all take less, on a
/// busy machine too, and are written once. Until then `observedGeneration` says that the verdicts are about the one before.
pub const OPENING: Duration = Duration::from_secs(1);

/// A kind whose status is one author's verdict in conditions.
pub trait Judged:
    Namespaced + HasStatus<Status: Clone + Default + PartialEq + Serialize + Send + Sync> + 'static
{
    /// All condition types, in their order.
    const CONDITIONS: &'static [&'static str];

    fn statuses(ctx: &Ctx) -> &Statuses<Self>;
    fn observed(status: &Self::Status) -> Option<i64>;
    fn conditions(status: &Self::Status) -> &[Condition];
    fn state(status: &mut Self::Status, observed: Option<i64>, conditions: Vec<Condition>);
}

macro_rules! judged {
    ($($kind:ty, $conditions:expr, $statuses:ident;)*) => {$(
        impl Judged for $kind {
            const CONDITIONS: &'static [&'static str] = $conditions;

            fn statuses(ctx: &Ctx) -> &Statuses<Self> {
                &ctx.$statuses
            }

            fn observed(status: &Self::Status) -> Option<i64> {
                status.observed_generation
            }

            fn conditions(status: &Self::Status) -> &[Condition] {
                &status.conditions
            }

            fn state(status: &mut Self::Status, observed: Option<i64>, conditions: Vec<Condition>) {
                (status.observed_generation, status.conditions) = (observed, conditions);
            }
        }
    )*};
}

judged! {
    Platform, of::PLATFORM, platform_statuses;
    Tenant, of::TENANT, tenant_statuses;
    RoleBinding, of::ROLE_BINDING, binding_statuses;
    PaymentProvider, of::PAYMENT_PROVIDER, provider_statuses;
    RateLimitPolicy, of::RATE_LIMIT_POLICY, policy_statuses;
}

/// The statuses of one kind.
pub struct Statuses<K: Judged> {
    known: Mutex<Known<K::Status>>,
    metrics: Metrics,
    stores: Arc<Stores>,
    shelf: fn(&Stores) -> &Shelf<K>,
}

struct Known<S> {
    /// Written, and not told of by the watch yet; by uid.
    written: HashMap<String, Written<S>>,
    /// Being written now.
    writing: HashSet<String>,
    /// Generations that wait for a verdict of somebody else, and since when.
    waiting: HashMap<String, (Option<i64>, Instant)>,
    /// The conditions of what is on the shelf.
    said: Said,
}

#[derive(Clone)]
struct Written<S> {
    version: u64,
    status: S,
}

impl<K: Judged> Statuses<K> {
    /// The statuses of the objects on this shelf.
    pub fn new(metrics: &Metrics, stores: &Arc<Stores>, shelf: fn(&Stores) -> &Shelf<K>) -> Self {
        let known =
            Known { written: HashMap::new(), writing: HashSet::new(), waiting: HashMap::new(), said: Said::default() };
        Self { known: Mutex::new(known), metrics: metrics.clone(), stores: stores.clone(), shelf }
    }

    /// The newest of what was written here, what the watch told, and what `object` says, which may be of a while ago.
    pub fn of(&self, object: &K) -> K::Status {
        // Before the shelf: what is remembered no more is there already.
        let written = object.uid().and_then(|uid| self.known.lock().written.get(&uid).cloned());
        let (namespace, name) = object.id();
        let shelved = (self.shelf)(&self.stores).get(namespace, name);
        let shelved = shelved.as_deref().filter(|shelved| shelved.uid() == object.uid());
        let told = shelved.filter(|shelved| version(*shelved) > version(object)).unwrap_or(object);
        if let Some(written) = written.filter(|written| version(told).is_some_and(|told| told < written.version)) {
            return written.status;
        }
        let mut status = told.status().cloned().unwrap_or_default();
        let observed = K::observed(&status);
        K::state(&mut status, observed, self.conditions(told));
        status
    }

    /// The conditions of an object from the shelf.
    pub fn conditions(&self, object: &K) -> Vec<Condition> {
        match object.status().map(K::conditions) {
            Some(list) if !list.is_empty() => list.to_vec(),
            _ => object.meta().uid.as_deref().map(|uid| self.known.lock().said.get(&uid.into())).unwrap_or_default(),
        }
    }

    /// Takes the conditions out of an object that is to be kept: nobody reads them there, and they are half of it.
    pub fn shelve(&self, object: &mut K) {
        let Some(uid) = object.meta().uid.as_deref().map(Uid::from) else { return };
        let list = object.status().map(K::conditions).unwrap_or_default();
        self.known.lock().said.put(uid, list);
        if let Some(status) = object.status_mut() {
            let observed = K::observed(status);
            K::state(status, observed, Vec::new());
        }
    }

    /// The watch tells of the object, as it is now or as it was in the end: what it is as new as need not be remembered.
    pub fn told(&self, object: &K, gone: bool) {
        let Some(uid) = object.uid() else { return };
        let mut known = self.known.lock();
        if gone {
            known.waiting.remove(&uid);
            known.said.forget(&uid.as_str().into());
        }
        if known
            .written
            .get(&uid)
            .is_some_and(|written| gone || version(object).is_none_or(|told| written.version <= told))
        {
            known.written.remove(&uid);
        }
    }

    /// Writes the status, whole and as its one author, unless it stands already; says whether it wrote. An object that
    /// was deleted meanwhile needs no status any more.
    pub async fn write(&self, client: &Client, object: &K, wanted: &K::Status) -> Result<bool, ReconcileError> {
        let uid = object.uid().unwrap_or_default();
        self.known.lock().waiting.remove(&uid);
        if self.of(object) == *wanted {
            return Ok(false);
        }
        self.known.lock().writing.insert(uid.clone());
        let _done = Writing { statuses: self, uid };
        self.patch(client, object, wanted).await
    }

    async fn patch(&self, client: &Client, object: &K, wanted: &K::Status) -> Result<bool, ReconcileError> {
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // A namesake that came after it is not meant.
            "metadata": { "name": name, "namespace": namespace, "uid": object.uid() },
            "status": wanted,
        });
        let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
        let api = Api::<K>::namespaced(client.clone(), &namespace);
        match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
            Ok(stored) => {
                self.metrics.status_written(&K::kind(&()));
                self.remember(&stored, wanted);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
            Err(error) => Err(error).doing(|| format!("write the status of {} {namespace}/{name}", K::kind(&()))),
        }
    }

    /// Says in `Ready` that this generation is being worked through, and why that did not succeed so far. Nothing where
    /// there is a verdict on it, or where one is being written this very moment.
    pub async fn open(
        &self,
        client: &Client,
        object: &K,
        why: Option<&ReconcileError>,
        now: Timestamp,
    ) -> Result<bool, ReconcileError> {
        let uid = object.uid().unwrap_or_default();
        if object.meta().deletion_timestamp.is_some() || self.known.lock().writing.contains(&uid) {
            return Ok(false);
        }
        match opened::<K>(&self.of(object), object.meta().generation, why, now) {
            Some(status) => self.write(client, object, &status).await,
            None => Ok(false),
        }
    }

    /// How long to wait yet before [`Self::open`], for an object that waits for the verdict of somebody else.
    pub fn patience(&self, object: &K) -> Option<Duration> {
        let generation = object.meta().generation;
        let status = self.of(object);
        if K::observed(&status) == generation && !K::conditions(&status).is_empty() {
            return None;
        }
        let mut known = self.known.lock();
        let (waits, since) =
            known.waiting.entry(object.uid().unwrap_or_default()).or_insert_with(|| (generation, Instant::now()));
        if *waits != generation {
            (*waits, *since) = (generation, Instant::now());
        }
        Some(OPENING.saturating_sub(since.elapsed())).filter(|left| !left.is_zero())
    }

    fn remember(&self, stored: &K, status: &K::Status) {
        let (Some(uid), Some(version)) = (stored.uid(), version(stored)) else {
            return;
        };
        self.known.lock().written.insert(uid.clone(), Written { version, status: status.clone() });
        // Where the watch was faster than the answer it tells nothing more, and this would be remembered for ever. Looked at
        // after the insertion: what the watch tells from then on takes it away itself.
        let (namespace, name) = stored.id();
        let shelved = (self.shelf)(&self.stores).get(namespace, name);
        if let Some(shelved) = shelved.filter(|shelved| shelved.uid().as_ref() == Some(&uid)) {
            self.told(shelved.as_ref(), false);
        }
    }
}

/// A write under way, also one that is given up.
struct Writing<'a, K: Judged> {
    statuses: &'a Statuses<K>,
    uid: String,
}

impl<K: Judged> Drop for Writing<'_, K> {
    fn drop(&mut self) {
        self.statuses.known.lock().writing.remove(&self.uid);
    }
}

/// The status of a generation that has no verdict yet: what was said of the one before stays, with the generation that
/// it was said of, but `Ready` is open. `None` when there is a verdict, or nothing new to say.
fn opened<K: Judged>(
    before: &K::Status,
    generation: Option<i64>,
    why: Option<&ReconcileError>,
    now: Timestamp,
) -> Option<K::Status> {
    let list = K::conditions(before);
    let known = K::observed(before) == generation && !list.is_empty();
    let open = find(list, READY).is_some_and(|ready| ready.reason == RECONCILING);
    if known && !(open && why.is_some()) {
        return None;
    }
    let mut conditions = Conditions::new(K::CONDITIONS, list, generation, now);
    let message = match why {
        None => "this generation is being worked through".to_owned(),
        Some(error) => format!("this generation could not be worked through so far, and is tried again: {error}"),
    };
    conditions.set(READY, State::Unknown, RECONCILING, message);
    let fresh = conditions.into_vec().into_iter();
    let conditions =
        fresh.map(|new| find(list, &new.type_).filter(|_| new.type_ != READY).cloned().unwrap_or(new)).collect();
    let mut status = before.clone();
    K::state(&mut status, generation, conditions);
    Some(status)
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

    fn statuses() -> Statuses<Tenant> {
        Statuses::new(&Metrics::default(), &Arc::default(), |stores| &stores.tenants)
    }

    #[test]
    fn a_visit_that_began_before_the_watch_told_goes_on_from_what_was_told() {
        let statuses = statuses();
        let began_with = tenant("9", 1);
        statuses.remember(&tenant("10", 2), &TenantStatus { bindings: 2, ..TenantStatus::default() });
        statuses.stores.tenants.put(tenant("10", 2));
        statuses.told(&tenant("10", 2), false);
        assert_eq!(statuses.of(&began_with).bindings, 2);
        let mut namesake = tenant("11", 3);
        namesake.metadata.uid = Some("u-2".into());
        statuses.stores.tenants.put(namesake);
        assert_eq!(statuses.of(&began_with).bindings, 1, "a namesake that came after it is another");
    }

    #[test]
    fn what_was_written_counts_until_the_watch_is_as_far() {
        let statuses = statuses();
        assert_eq!(statuses.of(&tenant("9", 1)).bindings, 1);
        statuses.remember(&tenant("10", 2), &TenantStatus { bindings: 2, ..TenantStatus::default() });
        assert_eq!(statuses.of(&tenant("9", 1)).bindings, 2);
        assert_eq!(statuses.of(&tenant("10", 2)).bindings, 2);
        assert_eq!(statuses.of(&tenant("11", 3)).bindings, 3);
        for (told, gone, left) in [("9", false, 1), ("10", false, 0), ("9", true, 0)] {
            statuses.remember(&tenant("10", 2), &TenantStatus::default());
            statuses.told(&tenant(told, 1), gone);
            assert_eq!(statuses.known.lock().written.len(), left, "{told} {gone}");
        }
    }

    #[test]
    fn what_the_watch_told_before_the_answer_came_is_not_remembered() {
        let statuses = statuses();
        for (told, left) in [("9", 1), ("10", 0), ("11", 0)] {
            statuses.stores.tenants.put(tenant(told, 1));
            statuses.told(&tenant(told, 1), false);
            statuses.remember(&tenant("10", 2), &TenantStatus::default());
            assert_eq!(statuses.known.lock().written.len(), left, "{told}");
        }
    }

    #[test]
    fn what_is_shelved_says_what_it_said() {
        let (statuses, list) = (statuses(), |message: &str| {
            let mut conditions = Conditions::new(of::TENANT, &[], Some(1), Timestamp::UNIX_EPOCH);
            conditions.set(READY, State::True, "Ready", message);
            conditions.into_vec()
        });
        let mut object = tenant("9", 1);
        object.status.as_mut().unwrap().conditions = list("one");
        let whole = object.status.clone().unwrap();
        statuses.shelve(&mut object);
        assert!(object.status.as_ref().unwrap().conditions.is_empty());
        assert_eq!((statuses.of(&object), statuses.conditions(&object)), (whole, list("one")));
        statuses.stores.tenants.put(object.clone());
        statuses.told(&object, true);
        assert_eq!(statuses.conditions(&object), []);
    }

    #[test]
    fn a_new_generation_opens_ready_and_leaves_the_other_verdicts_with_their_generation() {
        let now = Timestamp::UNIX_EPOCH;
        let mut conditions = Conditions::new(of::TENANT, &[], Some(1), now);
        conditions.set(READY, State::True, "Ready", "").set("Programmed", State::True, "Programmed", "");
        let before =
            TenantStatus { observed_generation: Some(1), conditions: conditions.into_vec(), ..TenantStatus::default() };
        assert!(opened::<Tenant>(&before, Some(1), None, now).is_none(), "there is a verdict");
        let open = opened::<Tenant>(&before, Some(2), None, now).unwrap();
        let said = |status: &TenantStatus, type_| {
            let condition = find(&status.conditions, type_).unwrap();
            (condition.status.clone(), condition.observed_generation)
        };
        assert_eq!(open.observed_generation, Some(2));
        assert_eq!(said(&open, READY), ("Unknown".into(), Some(2)));
        assert_eq!(said(&open, "Programmed"), ("True".into(), Some(1)));
        assert!(opened::<Tenant>(&open, Some(2), None, now).is_none(), "it is open already");
        let error = ReconcileError::waiting("Refused", "no");
        let failing = opened::<Tenant>(&open, Some(2), Some(&error), now).unwrap();
        let message = &find(&failing.conditions, READY).unwrap().message;
        assert!(message.ends_with("is tried again: no"), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_is_opened_after_a_while() {
        let statuses = statuses();
        let object = tenant("1", 0);
        assert_eq!(statuses.patience(&object), Some(OPENING));
        tokio::time::sleep(OPENING / 2).await;
        assert_eq!(statuses.patience(&object), Some(OPENING / 2));
        tokio::time::sleep(OPENING / 2).await;
        assert_eq!(statuses.patience(&object), None);
    }
}

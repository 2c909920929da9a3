//! Numbers about the operator's own work, named for an alert: is it slow, failing, stuck, behind, leading?

mod census;
mod labels;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

pub use self::census::Census;
use self::labels::{Failure, Kind, Object, PlatformVerdict, Request, Unready, Verdict};
use crate::{
    error::API_SERVER_REASONS,
    replicas::Replicas,
    stores::{Kept, Stores},
};

/// Most objects that are named as failing at a time, those that have been for the longest: ten thousand that fail for one
/// reason are one alert and not ten thousand series.
const NAMED: usize = 100;

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Handles to every metric of the process.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    errors: Family<Failure, Counter>,
    last_success: Family<Kind, Gauge>,
    queue_depth: Family<Kind, Gauge>,
    malformed: Family<Kind, Counter>,
    unreadable: Family<Kind, Gauge>,
    leader: Gauge,
    leader_transitions: Counter,
    in_progress: Family<Object, Seconds>,
    failing_for: Family<Object, Seconds>,
    failing_objects: Family<Kind, Gauge>,
    objects: Family<Verdict, Gauge>,
    platforms: Family<PlatformVerdict, Gauge>,
    unready: Family<Unready, Gauge>,
    status_writes: Family<Kind, Counter>,
    requests: Family<Request, Counter>,
    watch_restarts: Family<Kind, Counter>,
    events_dropped: Counter,
    replicas: Gauge,
    silent_replicas: Gauge,
    running: Mutex<HashMap<Object, Instant>>,
    /// Since when they have failed without a success.
    failing: Mutex<HashMap<Object, Instant>>,
}

/// Shown as 0 from the start: from nothing to 1 is no increase to Prometheus. What a kind's own steps find wrong is in the
/// conditions of its objects too, which have alerts of their own.
fn errors_from_zero() -> Family<Failure, Counter> {
    let errors = Family::<Failure, Counter>::default();
    for kind in ["Platform", "Tenant", "RoleBinding", "PaymentProvider", "RateLimitPolicy"] {
        for reason in API_SERVER_REASONS {
            drop(errors.get_or_create(&Failure { kind: kind.into(), reason: reason.into() }));
        }
    }
    errors
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tenantry_operator");
        let buckets =
            || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        let mut inner = Inner {
            durations: Family::new_with_constructor(buckets),
            errors: errors_from_zero(),
            last_success: Family::default(),
            queue_depth: Family::default(),
            malformed: Family::default(),
            unreadable: Family::default(),
            leader: Gauge::default(),
            leader_transitions: Counter::default(),
            in_progress: Family::default(),
            failing_for: Family::default(),
            failing_objects: Family::default(),
            objects: Family::default(),
            platforms: Family::default(),
            unready: Family::default(),
            status_writes: Family::default(),
            requests: Family::default(),
            watch_restarts: Family::default(),
            events_dropped: Counter::default(),
            replicas: Gauge::default(),
            silent_replicas: Gauge::default(),
            running: Mutex::default(),
            failing: Mutex::default(),
            registry: Registry::default(),
        };
        registry.register("reconcile_duration_seconds", "How long reconciles took", inner.durations.clone());
        registry.register("reconcile_errors", "Reconciles that failed, by reason", inner.errors.clone());
        registry.register(
            "reconcile_last_success_timestamp_seconds",
            "When an object of the kind was last reconciled without an error",
            inner.last_success.clone(),
        );
        registry.register(
            "reconcile_in_progress_seconds",
            "How long the objects that are being reconciled now have been",
            inner.in_progress.clone(),
        );
        registry.register("queue_depth", "Objects that wait to be reconciled", inner.queue_depth.clone());
        registry.register("malformed_objects", "Objects that could not be read as their kind", inner.malformed.clone());
        registry.register(
            "objects_unreadable",
            "Objects of which no version could be read as their kind",
            inner.unreadable.clone(),
        );
        registry.register("objects", "Objects by the status of each condition", inner.objects.clone());
        registry.register(
            "platform_condition",
            "1 for the status and reason that each condition of a Platform has now",
            inner.platforms.clone(),
        );
        telemetry::register_build(&mut registry);
        registry.register("leader", "1 while this replica holds the Lease", inner.leader.clone());
        registry.register(
            "leader_transitions",
            "How often this replica became the leader",
            inner.leader_transitions.clone(),
        );
        registry.register(
            "reconcile_failing_seconds",
            "How long the objects whose last reconcile failed have not been reconciled; the 100 longest",
            inner.failing_for.clone(),
        );
        registry.register(
            "reconcile_failing_objects",
            "Objects whose last reconcile failed",
            inner.failing_objects.clone(),
        );
        registry.register(
            "objects_not_ready",
            "Objects that are not Ready, or not for their newest generation, by the reason that they give",
            inner.unready.clone(),
        );
        registry.register("status_writes", "Statuses that were written", inner.status_writes.clone());
        registry.register("api_requests", "Requests to the API server", inner.requests.clone());
        registry.register("watch_restarts", "Watches that broke and were begun anew", inner.watch_restarts.clone());
        registry.register(
            "events_dropped",
            "Kubernetes events that were not published because too many waited",
            inner.events_dropped.clone(),
        );
        registry.register("replicas", "Ready pods of the API that are asked what they serve", inner.replicas.clone());
        registry.register(
            "replicas_silent",
            "Ready pods of the API that do not answer what they serve",
            inner.silent_replicas.clone(),
        );
        inner.registry = registry;
        Self(Arc::new(inner))
    }
}

impl Metrics {
    /// Times one reconcile from now on.
    pub fn begin<K: Kept>(&self, object: &K) -> Reconciling {
        let (namespace, name) = object.id();
        let object = self::object::<K>(namespace, name);
        let began = Instant::now();
        self.0.running.lock().insert(object.clone(), began);
        Reconciling { metrics: self.clone(), object, began }
    }

    /// A reconcile failed.
    pub fn failed<K: Kept>(&self, namespace: &str, name: &str, reason: &str) {
        let object = object::<K>(namespace, name);
        self.0.errors.get_or_create(&Failure { kind: object.kind.clone(), reason: reason.into() }).inc();
        self.0.failing.lock().entry(object).or_insert_with(Instant::now);
    }

    /// A reconcile succeeded after others failed, or there is nothing to reconcile any more.
    pub fn recovered<K: Kept>(&self, namespace: &str, name: &str) {
        self.0.failing.lock().remove(&object::<K>(namespace, name));
    }

    pub fn status_written(&self, kind: &str) {
        self.0.status_writes.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// A request was answered with this HTTP status, or not at all.
    pub fn requested(&self, verb: &str, resource: &str, code: Option<u16>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.0.requests.get_or_create(&Request { verb: verb.into(), resource: resource.into(), code }).inc();
    }

    pub fn watch_restarted(&self, kind: &str) {
        self.0.watch_restarts.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    pub fn event_dropped(&self) {
        self.0.events_dropped.inc();
    }

    pub fn succeeded(&self, kind: &str, now: jiff::Timestamp) {
        self.0.last_success.get_or_create(&Kind { kind: kind.into() }).set(now.as_second());
    }

    pub fn malformed(&self, kind: &str) {
        self.0.malformed.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    pub fn queued(&self, kind: &str, depth: usize) {
        self.0.queue_depth.get_or_create(&Kind { kind: kind.into() }).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    pub fn leading(&self, leading: bool) {
        self.0.leader.set(leading.into());
        if leading {
            self.0.leader_transitions.inc();
        } else {
            // Whoever leads now knows better.
            self.0.failing.lock().clear();
        }
    }

    /// Everything in the OpenMetrics text format; what is counted from state is counted now.
    pub fn render(&self, stores: &Stores, census: &Census, replicas: &Replicas) -> Result<String, fmt::Error> {
        self.observe_running();
        self.observe_failing();
        self.observe_unreadable(stores);
        self.observe_statuses(census);
        let (all, silent) = replicas.count();
        self.0.replicas.set(i64::try_from(all).unwrap_or(i64::MAX));
        self.0.silent_replicas.set(i64::try_from(silent).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    fn observe_running(&self) {
        let running = self.0.running.lock();
        self.0.in_progress.clear();
        for (object, began) in running.iter() {
            self.0.in_progress.get_or_create(object).set(began.elapsed().as_secs_f64());
        }
    }

    fn observe_failing(&self) {
        let failing = self.0.failing.lock();
        self.0.failing_for.clear();
        self.0.failing_objects.clear();
        for object in failing.keys() {
            self.0.failing_objects.get_or_create(&Kind { kind: object.kind.clone() }).inc();
        }
        let mut longest: Vec<_> = failing.iter().collect();
        longest.sort_by_key(|(_, since)| **since);
        for (object, since) in longest.into_iter().take(NAMED) {
            self.0.failing_for.get_or_create(object).set(since.elapsed().as_secs_f64());
        }
    }

    fn observe_unreadable(&self, stores: &Stores) {
        let unreadable = [
            ("Platform", stores.platforms.count_unreadable()),
            ("Tenant", stores.tenants.count_unreadable()),
            ("RoleBinding", stores.role_bindings.count_unreadable()),
            ("PaymentProvider", stores.payment_providers.count_unreadable()),
            ("RateLimitPolicy", stores.rate_limit_policies.count_unreadable()),
        ];
        for (kind, number) in unreadable {
            let kind = Kind { kind: kind.into() };
            self.0.unreadable.get_or_create(&kind).set(i64::try_from(number).unwrap_or(i64::MAX));
            // Counted from zero, or Prometheus would see no increase in the first one.
            self.0.malformed.get_or_create(&kind).inc_by(0);
        }
    }

    fn observe_statuses(&self, census: &Census) {
        self.0.platforms.clear();
        self.0.objects.clear();
        self.0.unready.clear();
        for (verdict, number) in &census.verdicts {
            self.0.objects.get_or_create(verdict).set(*number);
        }
        for (unready, number) in &census.unready {
            self.0.unready.get_or_create(unready).set(*number);
        }
        for verdict in &census.platforms {
            self.0.platforms.get_or_create(verdict).set(1);
        }
    }
}

fn object<K: Kept>(namespace: &str, name: &str) -> Object {
    Object { kind: K::kind_name().into_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A reconcile under way; it ends when this is dropped, also by cancellation.
pub struct Reconciling {
    metrics: Metrics,
    object: Object,
    began: Instant,
}

impl Reconciling {
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Reconciling {
    fn drop(&mut self) {
        self.metrics.0.running.lock().remove(&self.object);
        let kind = Kind { kind: self.object.kind.clone() };
        self.metrics.0.durations.get_or_create(&kind).observe(self.began.elapsed().as_secs_f64());
    }
}

//! Numbers about the operator's own work, named for an alert: is it slow, failing, stuck, behind, leading?

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::version;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::stores::Stores;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: String,
    reason: String,
}

/// One object, in metrics only while it is being worked on: few at any time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Object {
    kind: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Verdict {
    kind: String,
    condition: String,
    status: String,
}

/// A Platform is named where a Tenant is only counted: there are few, and an alert should say which.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlatformVerdict {
    namespace: String,
    name: String,
    condition: String,
    status: String,
    reason: String,
}

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
    in_progress: Family<Object, Gauge<f64, std::sync::atomic::AtomicU64>>,
    objects: Family<Verdict, Gauge>,
    platforms: Family<PlatformVerdict, Gauge>,
    running: Mutex<HashMap<Object, Instant>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tenantry_operator");
        let buckets =
            || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        let mut inner = Inner {
            durations: Family::new_with_constructor(buckets),
            errors: Family::default(),
            last_success: Family::default(),
            queue_depth: Family::default(),
            malformed: Family::default(),
            unreadable: Family::default(),
            leader: Gauge::default(),
            in_progress: Family::default(),
            objects: Family::default(),
            platforms: Family::default(),
            running: Mutex::default(),
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
        let build = Info::new([("version", version::VERSION), ("commit", version::COMMIT)]);
        registry.register("build", "Which build this is", build);
        registry.register("leader", "1 while this replica holds the Lease", inner.leader.clone());
        inner.registry = registry;
        Self(Arc::new(inner))
    }
}

impl Metrics {
    /// Times one reconcile from now on.
    pub fn begin<K: Resource<DynamicType = ()>>(&self, object: &K) -> Reconciling {
        let object = Object {
            kind: K::kind(&()).into_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        };
        let began = Instant::now();
        self.0.running.lock().insert(object.clone(), began);
        Reconciling { metrics: self.clone(), object, began }
    }

    pub fn failed(&self, kind: &str, reason: &str) {
        self.0.errors.get_or_create(&Failure { kind: kind.into(), reason: reason.into() }).inc();
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
    }

    /// Everything in the OpenMetrics text format; what is counted from state is counted now.
    pub fn render(&self, stores: &Stores) -> Result<String, fmt::Error> {
        self.observe_running();
        self.observe_objects(stores);
        self.observe_platforms(stores);
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

    fn observe_objects(&self, stores: &Stores) {
        let mut counts = BTreeMap::new();
        let mut count = |kind: &str, conditions: Option<&Vec<Condition>>| {
            for condition in conditions.into_iter().flatten() {
                let (condition, status) = (condition.type_.clone(), condition.status.clone());
                *counts.entry(Verdict { kind: kind.into(), condition, status }).or_insert(0) += 1;
            }
        };
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
        for o in stores.platforms.all() {
            count("Platform", o.status.as_ref().map(|status| &status.conditions));
        }
        for o in stores.tenants.all() {
            count("Tenant", o.status.as_ref().map(|status| &status.conditions));
        }
        for o in stores.role_bindings.all() {
            count("RoleBinding", o.status.as_ref().map(|status| &status.conditions));
        }
        for o in stores.payment_providers.all() {
            count("PaymentProvider", o.status.as_ref().map(|status| &status.conditions));
        }
        for o in stores.rate_limit_policies.all() {
            count("RateLimitPolicy", o.status.as_ref().map(|status| &status.conditions));
        }
        self.0.objects.clear();
        for (verdict, number) in counts {
            self.0.objects.get_or_create(&verdict).set(number);
        }
    }

    fn observe_platforms(&self, stores: &Stores) {
        self.0.platforms.clear();
        for platform in stores.platforms.all() {
            for condition in platform.status.iter().flat_map(|status| &status.conditions) {
                let verdict = PlatformVerdict {
                    namespace: platform.namespace().unwrap_or_default(),
                    name: platform.name_any(),
                    condition: condition.type_.clone(),
                    status: condition.status.clone(),
                    reason: condition.reason.clone(),
                };
                self.0.platforms.get_or_create(&verdict).set(1);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use crds::{Platform, Tenant, conditions};

    use super::*;

    #[test]
    fn a_reconcile_is_visible_while_it_runs_and_counted_when_it_ends() {
        let (metrics, stores) = (Metrics::default(), Stores::default());
        let running = metrics.begin(&Tenant::new_minimal("acme", "acme.example"));
        assert!(
            metrics
                .render(&stores)
                .unwrap()
                .contains("reconcile_in_progress_seconds{kind=\"Tenant\",namespace=\"\",name=\"acme\"}")
        );
        drop(running);
        let text = metrics.render(&stores).unwrap();
        assert!(!text.contains("name=\"acme\""), "{text}");
        assert!(text.contains("tenantry_operator_reconcile_duration_seconds_count{kind=\"Tenant\"} 1"), "{text}");
    }

    #[test]
    fn objects_are_counted_by_condition() {
        let (metrics, stores) = (Metrics::default(), Stores::default());
        let mut tenant = Tenant::new_minimal("acme", "acme.example");
        let ready = serde_json::json!({ "conditions": [{
            "type": conditions::READY, "status": "False", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        tenant.status = Some(serde_json::from_value(ready).unwrap());
        stores.tenants.put(tenant);
        let text = metrics.render(&stores).unwrap();
        assert!(
            text.contains("tenantry_operator_objects{kind=\"Tenant\",condition=\"Ready\",status=\"False\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn a_platform_is_named_with_the_reason_of_each_condition_it_has_now() {
        let (metrics, stores) = (Metrics::default(), Stores::default());
        let mut platform = Platform::new_minimal("main", "postgres", "redis");
        for (status, reason) in [("True", "Paused"), ("False", "NotPaused")] {
            platform.status = Some(
                serde_json::from_value(serde_json::json!({ "conditions": [{
                    "type": conditions::PAUSED, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }] }))
                .unwrap(),
            );
            stores.platforms.put(platform.clone());
            let text = metrics.render(&stores).unwrap();
            let lines: Vec<_> = text.lines().filter(|line| line.contains("platform_condition{")).collect();
            let labels = format!("name=\"main\",condition=\"Paused\",status=\"{status}\",reason=\"{reason}\"");
            assert!(lines.len() == 1 && lines[0].contains(&labels) && lines[0].ends_with(" 1"), "{text}");
        }
    }
}

//! What Prometheus reads. Labels are of low cardinality: a route's pattern, never a path; no tenant, no user.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode, encode_eof, encode_registry},
    },
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    features::{mail::metrics::MailMetrics, payments::metrics::PaymentMetrics, realtime::metrics::SocketMetrics},
    limits::metrics::LimitMetrics,
};

/// All metrics of the process.
pub struct Metrics {
    /// About the process alone: fit for everybody.
    public: Registry,
    /// With the names of policies and providers: for who runs the platform.
    internal: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram>,
    pub in_flight: Gauge,
    pub panics: Counter,
    pub limits: LimitMetrics,
    pub payments: PaymentMetrics,
    pub mail: MailMetrics,
    pub sockets: SocketMetrics,
    pub tenants: Gauge,
    pub config_loaded: Counter,
    pub config_rejected: Counter,
    pub config_source_up: Gauge,
    pub hash_waiting: Gauge,
    pub hash_wait: Histogram,
    pub hashes: Counter,
    pub hash_refused: Counter,
    pub logins_throttled: Counter,
    pub stuffing: StuffingMetrics,
    pub redis_failures: Counter,
    pub dependencies: DependencyMetrics,
    pub db_connections: Gauge,
    pub started_at: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

/// `tenantry_api_dependency_up{dependency}`: what the last look at the stores saw. A scrape of the management port looks.
#[derive(Clone, Debug, Default)]
pub struct DependencyMetrics(Family<DependencyLabels, Gauge>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabels {
    dependency: &'static str,
}

impl DependencyMetrics {
    pub fn seen(&self, dependency: &'static str, up: bool) {
        self.0.get_or_create(&DependencyLabels { dependency }).set(up.into());
    }
}

/// `tenantry_api_credential_stuffing_total{kind}`; the audit tells which tenant.
#[derive(Clone, Debug, Default)]
pub struct StuffingMetrics(Family<StuffingLabels, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StuffingLabels {
    kind: &'static str,
}

impl StuffingMetrics {
    pub fn rings(&self, kind: &'static str) {
        self.0.get_or_create(&StuffingLabels { kind }).inc();
    }

    /// Shown as 0 from the start: from nothing to 1 is no increase to Prometheus.
    fn begin(self) -> Self {
        for kind in ["many_accounts", "many_addresses"] {
            drop(self.0.get_or_create(&StuffingLabels { kind }));
        }
        self
    }

    pub fn rung(&self, kind: &'static str) -> u64 {
        self.0.get_or_create(&StuffingLabels { kind }).get()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut public = Registry::default();
        let mut metrics = Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 15))),
            in_flight: Gauge::default(),
            panics: Counter::default(),
            limits: LimitMetrics::default(),
            payments: PaymentMetrics::default(),
            mail: MailMetrics::default(),
            sockets: SocketMetrics::default(),
            tenants: Gauge::default(),
            config_loaded: Counter::default(),
            config_rejected: Counter::default(),
            config_source_up: Gauge::default(),
            hash_waiting: Gauge::default(),
            hash_wait: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            hashes: Counter::default(),
            hash_refused: Counter::default(),
            logins_throttled: Counter::default(),
            stuffing: StuffingMetrics::default().begin(),
            redis_failures: Counter::default(),
            dependencies: DependencyMetrics::default(),
            db_connections: Gauge::default(),
            started_at: Gauge::default(),
            public: Registry::default(),
            internal: Registry::default(),
        };
        // The name that autoscalers read; it is not only this program's.
        let http = public.sub_registry_with_prefix("tenantry_http");
        http.register("requests_in_flight", "Requests being worked on", metrics.in_flight.clone());
        let registry = public.sub_registry_with_prefix("tenantry_api");
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit("request_duration", "Time to answer", Unit::Seconds, metrics.latency.clone());
        registry.register("panics", "Requests that ended in a panic", metrics.panics.clone());
        registry.register("tenants", "Tenants known", metrics.tenants.clone());
        registry.register(
            "config_revisions_loaded",
            "Tenant documents taken into service",
            metrics.config_loaded.clone(),
        );
        registry.register("config_rejected", "Tenant documents refused", metrics.config_rejected.clone());
        registry.register(
            "config_source_up",
            "Whether the source of documents answers",
            metrics.config_source_up.clone(),
        );
        registry.register("password_hashes_waiting", "Password hashes in the queue", metrics.hash_waiting.clone());
        registry.register_with_unit(
            "password_hash_wait",
            "Time in the queue",
            Unit::Seconds,
            metrics.hash_wait.clone(),
        );
        registry.register("password_hashes", "Password hashes that were worked out", metrics.hashes.clone());
        registry.register(
            "password_hashes_refused",
            "Password hashes that waited too long",
            metrics.hash_refused.clone(),
        );
        registry.register("dependency_up", "Whether it answered when last asked", metrics.dependencies.0.clone());
        registry.register(
            "logins_throttled",
            "Attempts to sign in that came too soon after failed ones",
            metrics.logins_throttled.clone(),
        );
        registry.register(
            "credential_stuffing",
            "Alarms that somebody tries stolen passwords: on many accounts from an address, or on a tenant from many addresses",
            metrics.stuffing.0.clone(),
        );
        registry.register("redis_failures", "Redis commands that failed", metrics.redis_failures.clone());
        registry.register("db_connections", "Open database connections", metrics.db_connections.clone());
        registry.register_with_unit(
            "process_start_time",
            "Unix time of the start",
            Unit::Seconds,
            metrics.started_at.clone(),
        );
        telemetry::register_build(registry);
        let mut internal = Registry::with_prefix("tenantry_api");
        metrics.limits.register(&mut internal);
        metrics.payments.register(&mut internal);
        metrics.mail.register(&mut internal);
        metrics.sockets.register(&mut internal);
        (metrics.public, metrics.internal) = (public, internal);
        metrics
    }

    /// One request was answered.
    pub fn answered(&self, method: &http::Method, route: &str, status: u16, seconds: f64) {
        let (method, route) = (known(method), route.to_owned());
        self.latency.get_or_create(&RouteLabels { method, route: route.clone() }).observe(seconds);
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// The OpenMetrics text of everything.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.public)?;
        encode_registry(&mut text, &self.internal)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    /// The OpenMetrics text of what names no tenant's affairs.
    pub fn encode_public(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.public)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A caller may invent methods; a label may not.
fn known(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        http::Method::HEAD => "HEAD",
        http::Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read, not included: an image is built without the chart.
    const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/tenantry/files/alerts.yaml");
    /// Begin when they first count: their labels are not known before, and what is alerted is no single occurrence.
    const BEGIN_LATER: [(&str, &str); 3] = [
        ("tenantry_api_requests_total", "a share of all requests is alerted"),
        ("tenantry_api_request_duration_seconds_bucket", "a quantile of many requests is alerted"),
        (
            "tenantry_api_rate_limit_decisions_total",
            "minutes of errors are alerted; a limit's first decision begins all of its outcomes",
        ),
    ];

    /// What an alert sees the increase of: the name, and of each label the values that it asks for.
    fn counted(alerts: &str) -> Vec<(String, Vec<String>)> {
        let calls = ["increase(", "rate("].into_iter().flat_map(|call| alerts.split(call).skip(1));
        let selectors = calls.map(|rest| rest.split('[').next().unwrap());
        let parsed = selectors.map(|selector| {
            let (name, matchers) = selector.trim_end_matches('}').split_once('{').unwrap_or((selector, ""));
            let values =
                matchers.split(',').filter_map(|matcher| matcher.split_once('=')).flat_map(|(label, value)| {
                    let values = value.trim_start_matches('~').trim_matches('"').split('|');
                    values.map(|value| format!("{label}=\"{value}\"")).collect::<Vec<_>>()
                });
            (name.to_owned(), values.collect())
        });
        parsed.filter(|(name, _)| name.starts_with("tenantry_api_")).collect()
    }

    #[test]
    fn what_alerts_count_is_there_before_it_first_happens() {
        let counted = counted(&std::fs::read_to_string(ALERTS).unwrap());
        assert!(counted.iter().any(|(_, values)| values.contains(&"outcome=\"mismatch\"".to_owned())), "{counted:?}");
        assert!(counted.len() >= 8, "{counted:?}");
        let first_scrape = Metrics::new().encode().unwrap();
        for (name, values) in counted.iter().filter(|(name, _)| BEGIN_LATER.iter().all(|(later, _)| later != name)) {
            let lines: Vec<_> =
                first_scrape.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(" 0")), "{name}: {lines:?}");
            for value in values {
                assert!(lines.iter().any(|line| line.contains(value)), "{name} with {value}: {lines:?}");
            }
        }
        assert_eq!(first_scrape.matches("tenantry_api_credential_stuffing_total{").count(), 2);
    }
}

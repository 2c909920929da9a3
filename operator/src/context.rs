//! What every reconciler is given.

use std::{collections::HashMap, sync::Arc};

use crds::{PaymentProvider, Platform, RateLimitPolicy, RoleBinding, Tenant};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use parking_lot::Mutex;

use crate::{
    cli::Settings,
    clock::Clock,
    events::Events,
    kube_ext::{Installed, Standing},
    malformed::Malformed,
    metrics::Metrics,
    platform::rollout::prometheus::Prometheus,
    replicas::Replicas,
    statuses::Statuses,
    stores::Stores,
    tenant::outcome::Outcomes,
};

/// The outside world, as the reconcilers see it. Cheap to clone handles behind one `Arc<Ctx>`.
pub struct Ctx {
    pub client: Client,
    pub events: Events,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    /// What is in the cluster, as far as the watches have told: read here first, ask the API server second.
    pub stores: Arc<Stores>,
    /// What was applied and still stands.
    pub standing: Standing,
    /// Which kinds of other projects are there.
    pub installed: Installed,
    /// The API's pods, asked which configuration they serve.
    pub replicas: Replicas,
    /// Asked about a release that is tried.
    pub prometheus: Prometheus,
    /// The sealing keys as they were read last, by namespace and name of their Secret.
    pub sealing_keys: Mutex<HashMap<(String, String), Secret>>,
    /// What each Tenant's reconcile made of the objects around it.
    pub outcomes: Outcomes,
    /// Objects that cannot be read as their kind.
    pub malformed: Malformed,
    pub platform_statuses: Statuses<Platform>,
    pub tenant_statuses: Statuses<Tenant>,
    pub binding_statuses: Statuses<RoleBinding>,
    pub provider_statuses: Statuses<PaymentProvider>,
    pub policy_statuses: Statuses<RateLimitPolicy>,
}

impl Ctx {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

//! What every reconciler is given.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;

use crate::{cli::Settings, clock::Clock, events::Events, metrics::Metrics, replicas::Replicas, stores::Stores};

/// The outside world, as the reconcilers see it. Cheap to clone handles behind one `Arc<Ctx>`.
pub struct Ctx {
    pub client: Client,
    pub events: Events,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    /// What is in the cluster, as far as the watches have told: read here first, ask the API server second.
    pub stores: Stores,
    /// The API's pods, asked which configuration they serve.
    pub replicas: Replicas,
}

impl Ctx {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

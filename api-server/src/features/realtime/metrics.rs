//! Figures of the open sockets of this process.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::End;

#[derive(Clone, Debug)]
pub struct SocketMetrics {
    pub open: Gauge,
    pub refused: Counter,
    closed: Family<ClosedLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

impl Default for SocketMetrics {
    /// Every reason is shown as 0 from the start: from nothing to 1 is no increase to Prometheus.
    fn default() -> Self {
        let closed = Family::<ClosedLabels, Counter>::default();
        for end in End::ALL {
            drop(closed.get_or_create(&ClosedLabels { reason: end.as_str() }));
        }
        Self { open: Gauge::default(), refused: Counter::default(), closed }
    }
}

impl SocketMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("sockets_open", "Connections of Socket.IO that are open", self.open.clone());
        registry.register("sockets_refused", "Connections for which there was no place", self.refused.clone());
        registry.register("sockets_closed", "Connections that ended, by the reason", self.closed.clone());
    }

    pub fn closed(&self, end: End) {
        self.closed.get_or_create(&ClosedLabels { reason: end.as_str() }).inc();
    }

    #[cfg(test)]
    pub fn ended_by(&self, end: End) -> u64 {
        self.closed.get_or_create(&ClosedLabels { reason: end.as_str() }).get()
    }
}

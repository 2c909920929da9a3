//! How often each limit was asked, and what it said.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::policy::CompiledRate;

/// `tenantry_api_rate_limit_decisions_total{limit, outcome}`.
#[derive(Clone, Debug, Default)]
pub struct LimitMetrics {
    decisions: Family<Decided, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    limit: String,
    outcome: &'static str,
}

/// One rate's counters, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    /// The limit had room.
    pub allowed: Counter,
    /// The limit refused the request.
    pub limited: Counter,
    /// The limit would have refused the request, but only watches.
    pub shadow: Counter,
    /// The counters did not answer; the limit's failure mode spoke.
    pub error: Counter,
}

impl LimitMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("rate_limit_decisions", "Decisions by limit and outcome", self.decisions.clone());
    }

    pub(super) fn of<'a>(&self, rate: &'a CompiledRate) -> &'a Meters {
        rate.meters.get_or_init(|| {
            let counter = |outcome| self.decisions.get_or_create_owned(&Decided { limit: rate.name.clone(), outcome });
            Meters {
                allowed: counter("allowed"),
                limited: counter("limited"),
                shadow: counter("shadow"),
                error: counter("error"),
            }
        })
    }
}

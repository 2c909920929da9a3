//! How often each limit was asked, and what it said.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::policy::CompiledRate;

/// `tenantry_rate_limit_decisions_total{limit, outcome}`.
#[derive(Clone, Debug, Default)]
pub struct LimitMetrics {
    decisions: Family<Decided, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    limit: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    /// The limit had room.
    Allowed,
    /// The limit refused the request.
    Limited,
    /// The limit would have refused the request, but only watches.
    Shadow,
    /// The counters did not answer; the limit's failure mode spoke.
    Error,
}

/// One rate's counters, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    pub allowed: Counter,
    pub limited: Counter,
    pub shadow: Counter,
    pub error: Counter,
}

impl LimitMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("rate_limit_decisions", "Decisions by limit and outcome", self.decisions.clone());
    }

    pub(super) fn of<'a>(&self, rate: &'a CompiledRate) -> &'a Meters {
        rate.meters.get_or_init(|| {
            let counter = |outcome| {
                self.decisions.get_or_create_owned(&Decided { limit: rate.name.clone(), outcome })
            };
            Meters {
                allowed: counter(Outcome::Allowed),
                limited: counter(Outcome::Limited),
                shadow: counter(Outcome::Shadow),
                error: counter(Outcome::Error),
            }
        })
    }
}

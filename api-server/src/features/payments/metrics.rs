//! What became of the providers' webhooks.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// `tenantry_api_payment_webhooks_total{outcome}`.
#[derive(Clone, Debug, Default)]
pub struct PaymentMetrics {
    webhooks: Family<Label, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    outcome: &'static str,
}

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It moved a payment.
    Applied,
    /// It was here before.
    Repeated,
    /// It is of a kind that we do not need.
    Ignored,
    /// It told what was known, or came too late.
    Stale,
    /// It is about a payment that this tenant does not have.
    Unknown,
    /// It is about other money than our payment.
    Mismatch,
    /// Nobody whom we know has signed it.
    Refused,
}

impl Outcome {
    const ALL: [Self; 7] =
        [Self::Applied, Self::Repeated, Self::Ignored, Self::Stale, Self::Unknown, Self::Mismatch, Self::Refused];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Repeated => "repeated",
            Self::Ignored => "ignored",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Mismatch => "mismatch",
            Self::Refused => "refused",
        }
    }
}

impl PaymentMetrics {
    pub fn register(&self, registry: &mut Registry) {
        // Shown as 0 from the start: from nothing to 1 is no increase to Prometheus.
        for outcome in Outcome::ALL {
            drop(self.webhooks.get_or_create(&Label { outcome: outcome.as_str() }));
        }
        registry.register("payment_webhooks", "Webhooks of payment providers by outcome", self.webhooks.clone());
    }

    pub fn webhook(&self, outcome: Outcome) {
        self.webhooks.get_or_create(&Label { outcome: outcome.as_str() }).inc();
    }
}

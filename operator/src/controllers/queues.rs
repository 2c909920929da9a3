//! The queues of all kinds.

use crds::{PaymentProvider, Platform, RateLimitPolicy, RoleBinding, Tenant};

use crate::{metrics::Metrics, queue::Queue};

/// Who waits to be looked at.
pub struct Queues {
    pub platforms: Queue<Platform>,
    pub tenants: Queue<Tenant>,
    pub role_bindings: Queue<RoleBinding>,
    pub payment_providers: Queue<PaymentProvider>,
    pub rate_limit_policies: Queue<RateLimitPolicy>,
}

impl Queues {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            platforms: Queue::new(metrics.clone()),
            tenants: Queue::new(metrics.clone()),
            role_bindings: Queue::new(metrics.clone()),
            payment_providers: Queue::new(metrics.clone()),
            rate_limit_policies: Queue::new(metrics.clone()),
        }
    }

    /// Takes nothing more; what is being reconciled may finish.
    pub fn close(&self) {
        let Self { platforms, tenants, role_bindings, payment_providers, rate_limit_policies } = self;
        platforms.close();
        tenants.close();
        role_bindings.close();
        payment_providers.close();
        rate_limit_policies.close();
    }
}

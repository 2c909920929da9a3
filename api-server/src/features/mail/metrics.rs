//! Figures of the outbox. Queue and dead letters are of all tenants and shared by all replicas: read one replica's, or the
//! largest, and not their sum.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, Default)]
pub struct MailMetrics {
    pub queued: Gauge,
    pub oldest: Gauge,
    pub dead: Gauge,
    pub sent: Counter,
    pub put_back: Counter,
    pub given_up: Counter,
}

impl MailMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mail_queued", "Mails that wait to be sent, of all tenants", self.queued.clone());
        registry.register_with_unit(
            "mail_oldest",
            "Age of the oldest mail that waits",
            Unit::Seconds,
            self.oldest.clone(),
        );
        registry.register("mail_dead", "Mails that were given up, of all tenants", self.dead.clone());
        registry.register("mails_sent", "Mails that the server took from this process", self.sent.clone());
        registry.register("mails_put_back", "Tries that the server refused for now", self.put_back.clone());
        registry.register("mails_given_up", "Mails that this process gave up", self.given_up.clone());
    }
}

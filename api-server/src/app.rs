//! What every handler can reach, built once in the order in which one thing needs another.

use std::{ops::Deref, sync::Arc};

use contract::seal::SealingKey;
use jiff::Timestamp;

use crate::{
    features::{
        api_keys::ApiKeys,
        auth::Auth,
        factors::Factors,
        health::Health,
        identities::Identities,
        mail::{Mail, Smtp},
        payments::{Payments, Transport},
        realtime::Realtime,
        recovery::Recovery,
        users::Users,
    },
    infra::{Clock, Db, Outbound, Redis},
    limits::RateLimiter,
    metrics::Metrics,
    settings::Http,
    tenancy::Tenants,
};

/// The state of the router. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts, by name.
pub struct Parts {
    pub http: Http,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub db: Db,
    pub redis: Redis,
    pub tenants: Tenants,
    pub health: Health,
    pub limiter: RateLimiter,
    pub mail: Mail,
    pub auth: Auth,
    pub api_keys: ApiKeys,
    pub factors: Factors,
    pub recovery: Recovery,
    pub users: Users,
    pub identities: Identities,
    pub payments: Payments,
    pub realtime: Realtime,
    pub started_at: Timestamp,
}

/// What an [`App`] is made of.
pub struct Foundation {
    pub http: Http,
    pub clock: Clock,
    pub db: Db,
    pub redis: Redis,
    pub sealing_key: SealingKey,
    pub metrics: Arc<Metrics>,
    /// Reaches providers of identity.
    pub outbound: Outbound,
    /// Reaches the payment providers.
    pub transport: Transport,
    /// Takes mail; nothing is sent without.
    pub smtp: Option<Smtp>,
}

impl App {
    pub fn new(foundation: Foundation) -> Self {
        let Foundation { http, clock, db, redis, sealing_key, metrics, outbound, transport, smtp } = foundation;
        let started_at = clock.now();
        let tenants = Tenants::new(sealing_key.clone(), clock.clone(), Arc::clone(&metrics), db.own());
        let health = Health::new(db.clone(), redis.clone(), clock.clone(), metrics.dependencies.clone());
        let limiter = RateLimiter::new(redis.clone(), clock.clone(), metrics.limits.clone());
        let mail = Mail::new(db.clone(), clock.clone(), sealing_key.clone(), smtp, metrics.mail.clone());
        let auth = Auth::new(db.clone(), redis.clone(), clock.clone(), Arc::clone(&metrics), &http, mail.clone());
        let api_keys = ApiKeys::new(db.clone(), clock.clone());
        let factors = Factors::new(db.clone(), clock.clone(), sealing_key.clone(), auth.clone());
        let recovery =
            Recovery::new(db.clone(), clock.clone(), auth.clone(), mail.clone(), limiter.clone(), sealing_key);
        let users = Users::new(db.clone(), clock.clone(), auth.clone(), mail.clone(), recovery.clone());
        let identities = Identities::new(db.clone(), clock.clone(), auth.clone(), outbound);
        let payments = Payments::new(db.clone(), clock.clone(), transport, metrics.payments.clone());
        let realtime = Realtime::new(http.max_sockets, metrics.sockets.clone());
        Self(Arc::new(Parts {
            http,
            clock,
            metrics,
            db,
            redis,
            tenants,
            health,
            limiter,
            mail,
            auth,
            api_keys,
            factors,
            recovery,
            users,
            identities,
            payments,
            realtime,
            started_at,
        }))
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

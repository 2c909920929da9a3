//! What the service stands on, and whether it is there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::{
    infra::{Clock, Db, Redis},
    metrics::DependencyMetrics,
};

/// How long a look at the others is good for: `/health` is public, and may not become a way to busy the database.
const FRESH: SignedDuration = SignedDuration::from_millis(500);

/// Cheap to clone.
#[derive(Clone)]
pub struct Health {
    db: Db,
    redis: Redis,
    clock: Clock,
    metrics: DependencyMetrics,
    draining: Arc<AtomicBool>,
    tried: Arc<AtomicBool>,
    seen: Arc<AtomicBool>,
    last: Arc<Mutex<Option<(Timestamp, Standing)>>>,
}

/// Why something is not there; `None` when it is.
#[derive(Debug, Clone)]
pub struct Standing {
    pub database: Option<String>,
    pub redis: Option<String>,
}

impl Health {
    pub fn new(db: Db, redis: Redis, clock: Clock, metrics: DependencyMetrics) -> Self {
        Self {
            db,
            redis,
            clock,
            metrics,
            draining: Arc::default(),
            tried: Arc::default(),
            seen: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Looks at all of them at once, or remembers the last look.
    pub async fn standing(&self) -> Standing {
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        if let Some((at, standing)) = &*last
            && now.duration_since(*at) < FRESH
        {
            return standing.clone();
        }
        let (database, redis) = tokio::join!(self.db.check(), self.redis.check());
        let standing = Standing {
            database: database.err().map(|error| error.to_string()),
            redis: redis.err().map(|error| format!("Redis: {error}")),
        };
        self.metrics.seen("postgres", standing.database.is_none());
        self.metrics.seen("redis", standing.redis.is_none());
        *last = Some((now, standing.clone()));
        standing
    }

    /// Why the database cannot be served from; `None` once it was seen with the schema that this binary needs.
    ///
    /// It is not asked again after that: replicas share it, so to leave the Service would only exchange an honest 503
    /// with `Retry-After` for a load balancer's, for all of them at once, and would make them all come back at once.
    pub async fn database_awaited(&self) -> Option<String> {
        if self.seen.load(Ordering::Relaxed) {
            return None;
        }
        let database = self.standing().await.database;
        self.seen.store(database.is_none(), Ordering::Relaxed);
        database
    }

    /// Everything that a start looks for was tried once, with or without success.
    pub fn tried(&self) {
        self.tried.store(true, Ordering::Relaxed);
    }

    pub fn was_tried(&self) -> bool {
        self.tried.load(Ordering::Relaxed)
    }

    /// From now on the process is not ready: it is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

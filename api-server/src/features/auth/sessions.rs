//! Whether a session still counts, asked on every request.
//!
//! PostgreSQL knows; Redis remembers for a minute, for all replicas; this process remembers for [`FRESH`]. Whoever ends a
//! session writes the end into the database and then over the memory in Redis, so every replica refuses it within
//! `FRESH`, the ending one at once. A memory that is lost is looked up again: a flushed Redis revives nobody.

use std::sync::Arc;

use contract::TenantId;
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use super::repo;
use crate::{
    extract::{SessionId, User},
    infra::{Clock, Db, Redis},
    metrics::Metrics,
};

/// How long an answer is used without asking anyone.
const FRESH: SignedDuration = SignedDuration::from_secs(1);
/// How long Redis remembers.
const REMEMBERED_SECONDS: u64 = 60;
const SESSIONS_HERE: u64 = 100_000;

/// What a session is at this moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    Live(Arc<User>),
    /// Ended, unknown, or its user is deactivated or gone.
    Ended,
}

#[derive(Clone)]
pub struct Sessions {
    here: Cache<(TenantId, SessionId), (Timestamp, State)>,
    db: Db,
    redis: Redis,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Sessions {
    pub fn new(db: Db, redis: Redis, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { here: Cache::new(SESSIONS_HERE), db, redis, clock, metrics }
    }

    pub async fn state(&self, tenant: TenantId, session: SessionId) -> Result<State, sqlx::Error> {
        let now = self.clock.now();
        if let Some((asked, state)) = self.here.get(&(tenant, session))
            && now.duration_since(asked) < FRESH
        {
            return Ok(state);
        }
        let state = match self.recall(tenant, session).await {
            Some(state) => state,
            None => self.look_up(tenant, session, now).await?,
        };
        self.here.insert((tenant, session), (now, state.clone()));
        Ok(state)
    }

    /// Makes ends known everywhere. Call it after the commit: before, a look-up could bring the session back.
    pub async fn end(&self, tenant: TenantId, sessions: &[SessionId]) {
        self.tell(tenant, sessions, &State::Ended).await;
    }

    /// Makes a changed user known to their sessions everywhere, after the commit. Written over the memory, not taken out of
    /// it: a look-up that read the database before the commit must find the place taken.
    pub async fn renew(&self, tenant: TenantId, sessions: &[SessionId], user: &User) {
        self.tell(tenant, sessions, &State::Live(Arc::new(user.clone()))).await;
    }

    async fn tell(&self, tenant: TenantId, sessions: &[SessionId], state: &State) {
        let Ok(text) = serde_json::to_string(state) else { return };
        let mut pipe = redis::pipe();
        for session in sessions {
            self.here.invalidate(&(tenant, *session));
            pipe.set_ex(self.key(tenant, *session), &text, REMEMBERED_SECONDS).ignore();
        }
        if !sessions.is_empty()
            && let Err(error) = self.redis.pipeline(&pipe).await
        {
            self.metrics.redis_failures.inc();
            tracing::warn!(%error, "other replicas may serve sessions as they were for {REMEMBERED_SECONDS} s more");
        }
    }

    /// From Redis. What cannot be read there is asked of the database.
    async fn recall(&self, tenant: TenantId, session: SessionId) -> Option<State> {
        match self.redis.query::<Option<String>>(&redis::Cmd::get(self.key(tenant, session))).await {
            Ok(text) => serde_json::from_str(&text?).ok(),
            Err(error) => {
                self.metrics.redis_failures.inc();
                tracing::debug!(%error, "session looked up in the database");
                None
            }
        }
    }

    async fn look_up(&self, tenant: TenantId, session: SessionId, now: Timestamp) -> Result<State, sqlx::Error> {
        let mut tx = self.db.begin(tenant).await?;
        let state = repo::user_of_session(&mut tx, session, now)
            .await?
            .map_or(State::Ended, |user| State::Live(Arc::new(user)));
        tx.commit().await?;
        if let Ok(text) = serde_json::to_string(&state) {
            // NX: an end that was written since our look at the database must stand.
            let mut set = redis::cmd("SET");
            set.arg(self.key(tenant, session)).arg(text).arg("EX").arg(REMEMBERED_SECONDS).arg("NX");
            if self.redis.query::<redis::Value>(&set).await.is_err() {
                self.metrics.redis_failures.inc();
            }
        }
        Ok(state)
    }

    fn key(&self, tenant: TenantId, session: SessionId) -> String {
        self.redis.key(format_args!("t:{tenant}:session:{session}"))
    }
}

//! Whether a session still counts, asked on every request.
//!
//! PostgreSQL knows; Redis remembers for a minute, for all replicas; this process remembers for [`FRESH`], and requests that
//! come meanwhile share one look: a page that opens with thirty of them costs one connection, not thirty. Whoever ends a
//! session writes the end into the database and then over the memory in Redis, so every replica refuses it within
//! `FRESH`, the ending one at once. A memory that is lost is looked up again: a flushed Redis revives nobody.
//!
//! Of a user who changed nothing is written there but that they did: PostgreSQL is asked for a while. Whoever brings such word
//! late, after another change or the session's end, so changes nothing.

use std::{collections::HashMap, sync::Arc};

use contract::TenantId;
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::repo;
use crate::{
    extract::{SessionId, User},
    infra::{Clock, Db, Redis, gate::is_away},
    metrics::Metrics,
};

/// How long an answer is used without asking anyone.
const FRESH: SignedDuration = SignedDuration::from_secs(1);
/// How long Redis remembers.
const REMEMBERED_SECONDS: u64 = 60;
/// Stands in Redis for a session whose user has changed: no state, so it is looked up.
const CHANGED: &str = "changed";
/// For so long after a change nothing is remembered: longer than a look-up takes that read what was before.
const CHANGING_SECONDS: u64 = 30;
const SESSIONS_HERE: u64 = 100_000;

/// What a session is at this moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    Live(Arc<User>),
    /// Ended, unknown, or its user is deactivated or gone.
    Ended,
}

/// One look at a session, for all who ask within [`FRESH`] of its beginning: the answer is never older than that.
struct Look {
    began: Timestamp,
    answer: OnceCell<Result<State, Arc<sqlx::Error>>>,
}

impl Look {
    fn begun(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { began: now, answer: OnceCell::new() })
    }

    /// A failure is told to those who wait for it, and to nobody who comes later.
    fn is_over(&self, now: Timestamp) -> bool {
        // By its distance, so that a clock that is set back makes nothing last.
        now.duration_since(self.began).abs() >= FRESH || matches!(self.answer.get(), Some(Err(_)))
    }
}

#[derive(Clone)]
pub struct Sessions {
    here: Cache<(TenantId, SessionId), Arc<Look>>,
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
        let key = (tenant, session);
        let look = match self.here.get(&key).filter(|look| !look.is_over(now)) {
            Some(look) => look,
            None => self.here.entry(key).or_insert_with_if(|| Look::begun(now), |look| look.is_over(now)).into_value(),
        };
        // Where the request that looks is given up, one of those who wait looks in its place.
        let answer = look.answer.get_or_init(|| async { self.ask(tenant, session, now).await.map_err(Arc::new) }).await;
        answer.clone().map_err(|error| as_told(&error))
    }

    async fn ask(&self, tenant: TenantId, session: SessionId, now: Timestamp) -> Result<State, sqlx::Error> {
        match self.recall(tenant, session).await {
            Some(state) => Ok(state),
            None => self.look_up(tenant, session, now).await,
        }
    }

    /// What many sessions are, whatever was known here before: in one question to Redis, and one to the database for those
    /// that Redis does not know.
    pub async fn states(
        &self,
        tenant: TenantId,
        sessions: &[SessionId],
    ) -> Result<HashMap<SessionId, State>, sqlx::Error> {
        let now = self.clock.now();
        let recalled = self.recall_many(tenant, sessions).await;
        let redis_answers = recalled.is_some();
        let mut states = recalled.unwrap_or_default();
        let unknown: Vec<_> = sessions.iter().filter(|session| !states.contains_key(session)).copied().collect();
        if unknown.is_empty() {
            return Ok(states);
        }
        let mut tx = self.db.begin(tenant).await?;
        let live = repo::users_of_sessions(&mut tx, &unknown, now).await?;
        tx.commit().await?;
        let mut found: HashMap<_, _> = unknown.into_iter().map(|session| (session, State::Ended)).collect();
        found.extend(live.into_iter().map(|(session, user)| (session, State::Live(Arc::new(user)))));
        let mut pipe = redis::pipe();
        for set in found.iter().filter_map(|(session, state)| self.remember(tenant, *session, state)) {
            pipe.add_command(set).ignore();
        }
        // One that did not answer a moment ago would only be waited for.
        if redis_answers && self.redis.pipeline(&pipe).await.is_err() {
            self.metrics.redis_failures.inc();
        }
        states.extend(found);
        Ok(states)
    }

    /// Makes ends known everywhere. Call it after the commit: before, a look-up could bring the session back.
    pub async fn end(&self, tenant: TenantId, sessions: &[SessionId]) {
        let Ok(ended) = serde_json::to_string(&State::Ended) else { return };
        self.tell(tenant, sessions, &ended, REMEMBERED_SECONDS).await;
    }

    /// Makes it known everywhere that the user of these sessions has changed, after the commit. Written over the memory, not
    /// taken out of it: a look-up that read the database before the commit must find the place taken.
    pub async fn renew(&self, tenant: TenantId, sessions: &[SessionId]) {
        self.tell(tenant, sessions, CHANGED, CHANGING_SECONDS).await;
    }

    async fn tell(&self, tenant: TenantId, sessions: &[SessionId], text: &str, seconds: u64) {
        let mut pipe = redis::pipe();
        for session in sessions {
            pipe.set_ex(self.key(tenant, *session), text, seconds).ignore();
        }
        if !sessions.is_empty()
            && let Err(error) = self.redis.pipeline(&pipe).await
        {
            self.metrics.redis_failures.inc();
            tracing::warn!(%error, "other replicas may serve sessions as they were for {REMEMBERED_SECONDS} s more");
        }
        // Last, or somebody could meanwhile have read in Redis how it was. A look under way, which may have begun before,
        // keeps its answer to those who wait for it already.
        for session in sessions {
            self.here.invalidate(&(tenant, *session));
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
        if let Some(set) = self.remember(tenant, session, &state)
            && self.redis.query::<redis::Value>(&set).await.is_err()
        {
            self.metrics.redis_failures.inc();
        }
        Ok(state)
    }

    /// Keeps in Redis what the database said.
    fn remember(&self, tenant: TenantId, session: SessionId, state: &State) -> Option<redis::Cmd> {
        let text = serde_json::to_string(state).ok()?;
        // NX: an end that was written since our look at the database must stand.
        let mut set = redis::cmd("SET");
        set.arg(self.key(tenant, session)).arg(text).arg("EX").arg(REMEMBERED_SECONDS).arg("NX");
        Some(set)
    }

    /// From Redis, those that it knows; nothing where it does not answer.
    async fn recall_many(&self, tenant: TenantId, sessions: &[SessionId]) -> Option<HashMap<SessionId, State>> {
        let keys: Vec<_> = sessions.iter().map(|session| self.key(tenant, *session)).collect();
        match self.redis.query::<Vec<Option<String>>>(redis::cmd("MGET").arg(keys)).await {
            Ok(texts) => {
                let known = |text: Option<String>| serde_json::from_str(&text?).ok();
                Some(sessions.iter().zip(texts).filter_map(|(session, text)| Some((*session, known(text)?))).collect())
            }
            Err(error) => {
                self.metrics.redis_failures.inc();
                tracing::debug!(%error, "sessions looked up in the database");
                None
            }
        }
    }

    fn key(&self, tenant: TenantId, session: SessionId) -> String {
        self.redis.key(format_args!("t:{tenant}:session:{session}"))
    }
}

/// The same failure for one more, who gets the same status.
fn as_told(error: &sqlx::Error) -> sqlx::Error {
    if is_away(error) { sqlx::Error::PoolTimedOut } else { sqlx::Error::Protocol(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use http::StatusCode;
    use serde_json::{Value, json};

    use crate::testing::{TestApp, seconds};

    const ME: &str = "/api/v1/auth/me";

    fn token(login: &Value) -> &str {
        login["accessToken"].as_str().unwrap()
    }

    async fn run(app: &TestApp, statement: &'static str) {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        sqlx::query(statement).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn thirty_two_requests_of_one_session_look_it_up_once() {
        let app = TestApp::new().await;
        let ada = app.register("ada@acme.test").await;
        // Without Redis each look goes to the database, and a new replica has no connection yet.
        let replica = app.without_redis();
        replica.serve(&replica.tenant("acme"));
        for _ in 0..3 {
            let answers = join_all((0..32).map(|_| replica.get(ME).bearer(token(&ada)).send())).await;
            assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
            replica.clock.advance(seconds(1));
        }
        assert_eq!(replica.app.db.connections(), 1);
    }

    #[tokio::test]
    async fn a_look_that_fails_is_told_to_those_who_wait_and_not_remembered() {
        let app = TestApp::new().await;
        let ada = app.register("ada@acme.test").await;
        let replica = app.without_redis();
        replica.serve(&replica.tenant("acme"));
        run(&app, "ALTER TABLE auth.sessions RENAME TO elsewhere").await;
        let answers = join_all((0..8).map(|_| replica.get(ME).bearer(token(&ada)).send())).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::INTERNAL_SERVER_ERROR));
        run(&app, "ALTER TABLE auth.elsewhere RENAME TO sessions").await;
        let answer = replica.get(ME).bearer(token(&ada)).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_does_not_make_a_session_last() {
        let app = TestApp::new().await;
        let ada = app.register("ada@acme.test").await;
        let replica = app.replica();
        replica.serve(&replica.tenant("acme"));
        assert_eq!(replica.get(ME).bearer(token(&ada)).send().await.status, StatusCode::OK);
        app.clock.advance(-seconds(20));
        let out = app.post("/api/v1/auth/logout", &json!({})).bearer(token(&ada)).send().await;
        assert!(out.status.is_success(), "{}", out.text);
        let answer = replica.get(ME).bearer(token(&ada)).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
    }
}

//! Refreshes at the same moment, from many tabs and over several replicas, some of which are given up in the middle: a family
//! never forks, and nobody is signed out by it.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    proof::{Method, Proof},
    repo,
    tokens::RefreshSecret,
};
use crate::{
    extract::{SessionId, UserId},
    testing::{Answer, TestApp, seconds},
};

/// Set it for a longer run: how many families.
const FAMILIES: &str = "TENANTRY_TEST_FAMILIES";
const PER_PUSH: usize = 60;
/// Refreshes of one family at once.
const AT_ONCE: usize = 8;
/// Of these, so many are given up in the middle.
const GIVEN_UP: usize = 3;

/// As a client does it: who is told to come again does so, with the same token. On a slow machine a storm outlasts the wait
/// for a connection.
async fn refresh(app: &TestApp, token: &str) -> Answer {
    let body = json!({ "refreshToken": token });
    for _ in 0..100 {
        let answer = app.post("/api/v1/auth/refresh", &body).send().await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("a hundred times there was no connection");
}

fn given(answer: &Answer) -> String {
    answer.json["data"]["refreshToken"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// A future that is dropped after so many polls, wherever it is then.
struct Doomed<F>(Option<Pin<Box<F>>>, usize);

impl<F: Future> Future for Doomed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = self.0.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(done) = inner.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if self.1 == 0 {
            self.0 = None;
            return Poll::Ready(None);
        }
        self.1 -= 1;
        Poll::Pending
    }
}

/// Three replicas, and somebody who is signed in.
struct Platform {
    replicas: Vec<TestApp>,
    user: UserId,
}

/// What is in the database of one family.
#[derive(Debug, PartialEq)]
struct Family {
    tokens: i64,
    unused: i64,
    live: bool,
}

impl Platform {
    async fn start() -> Self {
        let app = TestApp::new().await;
        let ada = app.register("ada@acme.test").await;
        let user = UserId(ada["user"]["id"].as_str().unwrap().parse().unwrap());
        let mut replicas = vec![app.replica(), app.replica()];
        for replica in &replicas {
            replica.serve(&replica.tenant("acme"));
        }
        replicas.push(app);
        Self { replicas, user }
    }

    fn replica(&self, at: usize) -> &TestApp {
        &self.replicas[at % self.replicas.len()]
    }

    /// A sign-in, without the hash that a password would cost.
    async fn family(&self) -> (SessionId, RefreshSecret) {
        let app = self.replica(0);
        let (now, secret) = (app.clock.now(), RefreshSecret::random());
        let until = now + seconds(604_800);
        let device = super::Device {
            ip: "192.0.2.1".into(),
            behind_proxy: false,
            user_agent: None,
            request_id: None,
            api_key: None,
        };
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let proof = Proof::by(Method::Password);
        let new = repo::NewSession { user: self.user, proof: &proof, limited: false, expires_at: until };
        let (session, _) = repo::insert_session(&mut tx, &new, &device, now).await.unwrap();
        repo::insert_token(&mut tx, Uuid::now_v7(), session, &secret.digest(), None, now, until).await.unwrap();
        tx.commit().await.unwrap();
        (session, secret)
    }

    async fn look(&self, session: SessionId) -> Family {
        let app = self.replica(0);
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let (tokens, unused, live) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE t.used_at IS NULL), bool_and(s.revoked_at IS NULL)
             FROM auth.sessions s JOIN auth.refresh_tokens t ON t.tenant_id = s.tenant_id AND t.session_id = s.id WHERE s.id = $1",
        )
        .bind(session.0)
        .fetch_one(tx.conn())
        .await
        .unwrap();
        Family { tokens, unused, live }
    }

    /// One family's storm, its lost answers, its next refresh, and the theft of its first token. Gives how many were given up.
    async fn storm(&self, seed: u64) -> usize {
        let mut random = StdRng::seed_from_u64(seed);
        let (session, first) = self.family().await;
        let first = first.expose();
        let doomed: BTreeSet<usize> = (0..GIVEN_UP).map(|_| random.random_range(0..AT_ONCE)).collect();
        let shift: usize = random.random_range(0..3);
        let calls = (0..AT_ONCE).map(|n| {
            let polls = if doomed.contains(&n) { random.random_range(0..12) } else { usize::MAX };
            Doomed(Some(Box::pin(refresh(self.replica(n + shift), first))), polls)
        });
        let answers = join_all(calls).await;
        let given_up = answers.iter().filter(|answer| answer.is_none()).count();
        let mut successors = BTreeSet::new();
        for answer in answers.iter().flatten() {
            assert_eq!(answer.status, StatusCode::OK, "seed {seed}: {}", answer.text);
            successors.insert(given(answer));
        }
        // Who lost every answer asks again, elsewhere.
        successors.insert(given(&refresh(self.replica(random.random_range(0..3)), first).await));
        assert_eq!(successors.len(), 1, "seed {seed}: the family forked");
        assert_eq!(self.look(session).await, Family { tokens: 2, unused: 1, live: true }, "seed {seed}");

        let second = successors.pop_first().unwrap();
        let next = refresh(self.replica(shift + 1), &second).await;
        assert_eq!(next.status, StatusCode::OK, "seed {seed}: {}", next.text);
        let stolen = refresh(self.replica(shift + 2), first).await;
        assert_eq!(stolen.code(), "TOKEN_REUSED", "seed {seed}: {}", stolen.text);
        for at in 0..3 {
            assert_eq!(refresh(self.replica(at), &given(&next)).await.status, StatusCode::UNAUTHORIZED, "seed {seed}");
        }
        assert_eq!(self.look(session).await, Family { tokens: 3, unused: 1, live: false }, "seed {seed}");
        given_up
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_family_forks_over_three_replicas_whatever_is_given_up() {
    let families = std::env::var(FAMILIES).ok().and_then(|n| n.parse().ok()).unwrap_or(PER_PUSH);
    let platform = Platform::start().await;
    let given_up: usize = stream::iter(0..families as u64)
        .map(|seed| platform.storm(seed))
        .buffer_unordered(4)
        .fold(0, |sum, n| async move { sum + n })
        .await;
    println!(
        "{families} families, {AT_ONCE} refreshes at once each over 3 replicas, {given_up} given up in the middle: no fork"
    );
    assert!(given_up > families / 4, "only {given_up} were given up: the storm is none");
}

#[tokio::test]
async fn fifty_tabs_that_refresh_at_once_stay_signed_in_as_one_family() {
    let platform = Platform::start().await;
    let (session, first) = platform.family().await;
    let answers = join_all((0..50).map(|n| refresh(platform.replica(n), first.expose()))).await;
    let successors: BTreeSet<_> = answers.iter().map(given).collect();
    assert_eq!(successors.len(), 1);
    assert_eq!(platform.look(session).await, Family { tokens: 2, unused: 1, live: true });
    // Every tab goes on with what it was given, and with the access token that came along.
    for answer in answers.iter().step_by(10) {
        let access = answer.json["data"]["accessToken"].as_str().unwrap();
        assert_eq!(platform.replica(1).get("/api/v1/auth/me").bearer(access).send().await.status, StatusCode::OK);
    }
    assert_eq!(refresh(platform.replica(2), successors.first().unwrap()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn in_strict_mode_one_of_many_wins_and_the_family_ends() {
    let platform = Platform::start().await;
    for replica in &platform.replicas {
        let mut strict = replica.tenant("acme");
        strict.auth.refresh_reuse_seconds = 0;
        replica.serve(&strict);
    }
    let (session, first) = platform.family().await;
    let answers = join_all((0..AT_ONCE).map(|n| refresh(platform.replica(n), first.expose()))).await;
    let count = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
    let won: Vec<&Value> = answers.iter().filter(|a| a.status == StatusCode::OK).map(|a| &a.json["data"]).collect();
    assert_eq!((won.len(), count("TOKEN_REUSED"), count("INVALID_REFRESH_TOKEN")), (1, 1, AT_ONCE - 2));
    assert_eq!(platform.look(session).await, Family { tokens: 2, unused: 1, live: false });
    let next = refresh(platform.replica(0), won[0]["refreshToken"].as_str().unwrap()).await;
    assert_eq!(next.status, StatusCode::UNAUTHORIZED);
}

//! Contenders against an API server of one object: create, get and replace with compare-and-swap.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{client::Body, core::Status};
use parking_lot::Mutex;
use tower::service_fn;

use super::*;
use crate::clock::SystemClock;

const TIMING: Timing = Timing { duration: Duration::from_secs(5), renew: Duration::from_secs(1) };

#[derive(Clone, Default)]
struct OneLease {
    lease: Arc<Mutex<Option<Lease>>>,
    silent: Arc<AtomicBool>,
}

impl OneLease {
    fn client(&self) -> Client {
        let this = self.clone();
        Client::new(
            service_fn(move |request: Request<Body>| {
                let this = this.clone();
                async move { this.answer(request).await }
            }),
            "default",
        )
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut stored = self.lease.lock();
        let version = stored.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let refused = |code: u16, reason: &str| {
            let status = Status::failure(reason, reason).with_code(code);
            (StatusCode::from_u16(code).unwrap(), serde_json::to_vec(&status).unwrap())
        };
        let (code, bytes) = match method {
            Method::GET if stored.is_none() => refused(404, "NotFound"),
            Method::GET => (StatusCode::OK, serde_json::to_vec(stored.as_ref().unwrap()).unwrap()),
            Method::POST if stored.is_some() => refused(409, "AlreadyExists"),
            _ => {
                let mut lease: Lease = serde_json::from_slice(&body).unwrap();
                if lease.metadata.resource_version == version {
                    let next = version.map_or(1, |version| version.parse::<u64>().unwrap() + 1);
                    lease.metadata.resource_version = Some(next.to_string());
                    *stored = Some(lease.clone());
                    (StatusCode::OK, serde_json::to_vec(&lease).unwrap())
                } else {
                    refused(409, "Conflict")
                }
            }
        };
        Ok(Response::builder().status(code).body(Body::from(bytes)).unwrap())
    }

    fn contender(&self, pod: &str) -> Election {
        Election::new(self.client(), "default", pod, TIMING, Arc::new(SystemClock))
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_contenders_one_leads_and_the_other_waits() {
    let api = OneLease::default();
    let (mut a, mut b) = (api.contender("a"), api.contender("b"));
    let mut term = a.acquire().await;
    tokio::select! {
        _ = b.acquire() => panic!("two leaders"),
        () = a.keep(&mut term) => panic!("lost the Lease without a rival"),
        () = sleep(Duration::from_mins(5)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn stepping_down_hands_over_at_the_next_look() {
    let api = OneLease::default();
    let (mut a, mut b) = (api.contender("a"), api.contender("b"));
    let term = a.acquire().await;
    let waiting = tokio::spawn(async move { b.acquire().await });
    sleep(Duration::from_millis(2500)).await;
    let released = Instant::now();
    a.release(term).await;
    waiting.await.unwrap();
    assert!(released.elapsed() <= TIMING.renew / 4, "{:?}", released.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_nobody_waited_for_does_not_keep_a_leader_from_stepping_down() {
    let api = OneLease::default();
    let mut a = api.contender("a");
    let term = a.acquire().await;
    a.replace(&a.claim(Some(&term.lease))).await.unwrap();
    a.release(term).await;
    assert_eq!(holder(api.lease.lock().as_ref().unwrap()), "");
}

#[tokio::test(start_paused = true)]
async fn who_steps_down_takes_nothing_from_a_successor() {
    let api = OneLease::default();
    let (mut a, mut b) = (api.contender("a"), api.contender("b"));
    let term = a.acquire().await;
    let _successor = b.acquire().await;
    a.release(term).await;
    assert_eq!(holder(api.lease.lock().as_ref().unwrap()), b.me);
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_followed_after_the_duration_and_not_before() {
    let api = OneLease::default();
    let (mut a, mut b) = (api.contender("a"), api.contender("b"));
    let _dead = a.acquire().await;
    let began = Instant::now();
    let term = b.acquire().await;
    assert!(began.elapsed() >= TIMING.duration && began.elapsed() <= TIMING.duration + TIMING.renew);
    assert_eq!(term.lease.spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_the_others_may_begin() {
    let api = OneLease::default();
    let mut a = api.contender("a");
    let mut term = a.acquire().await;
    api.silent.store(true, Ordering::SeqCst);
    let began = Instant::now();
    a.keep(&mut term).await;
    assert!(began.elapsed() < TIMING.duration, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops_at_once() {
    let api = OneLease::default();
    let mut a = api.contender("a");
    let mut term = a.acquire().await;
    if let Some(lease) = api.lease.lock().as_mut() {
        lease.metadata.resource_version = Some("77".into());
        lease.spec.as_mut().unwrap().holder_identity = Some("thief".into());
    }
    let began = Instant::now();
    a.keep(&mut term).await;
    assert!(began.elapsed() <= TIMING.renew, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_of_the_same_pod_is_another_contender() {
    let api = OneLease::default();
    let (before, after) = (api.contender("operator-0"), api.contender("operator-0"));
    assert_ne!(before.me, after.me);
}

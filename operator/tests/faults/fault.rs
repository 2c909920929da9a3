//! What can go wrong between the operator and its control plane, and the wire on which it does.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::sleep};
use tower::ServiceExt;

use crate::{guard::Guard, world::DELAY};

/// One disturbance of one run. Writes and events are counted from nought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Write(usize, OnWrite),
    Event(usize, OnEvent),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWrite {
    /// The operator dies before it writes, and is started anew.
    DiesBefore,
    /// It dies when it has written, and never learns of it.
    DiesAfter,
    Conflict,
    TooManyRequests,
    ServerError,
    /// The write takes effect, and the answer says that it timed out.
    TimesOutAfter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEvent {
    /// It is never told; the watch ends with 410 Gone, and all is listed again.
    Lost,
    Twice,
    /// It and all that follows on its watch come later than what other watches tell.
    Late,
    /// The connection breaks in its place.
    Cut,
}

impl Fault {
    pub fn all(writes: usize, events: usize) -> Vec<Self> {
        use {OnEvent as E, OnWrite as W};
        let on_write = [W::DiesBefore, W::DiesAfter, W::Conflict, W::TooManyRequests, W::ServerError, W::TimesOutAfter];
        let writes = (0..writes).flat_map(|at| on_write.map(|how| Self::Write(at, how)));
        let events = (0..events).flat_map(|at| [E::Lost, E::Twice, E::Late, E::Cut].map(|how| Self::Event(at, how)));
        writes.chain(events).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(at, how) => write!(f, "write-{at}-{how:?}"),
            Self::Event(at, how) => write!(f, "event-{at}-{how:?}"),
        }
    }
}

/// How long a write takes.
const WRITE: Duration = Duration::from_millis(1);

/// The operator's connection to the control plane.
pub struct Wire {
    router: Router,
    fault: Option<Fault>,
    counted: Mutex<Counted>,
    /// How long every read takes.
    lag: Mutex<Duration>,
    /// The kind whose ends are not told.
    ends_untold: Mutex<Option<&'static str>>,
    /// The operator is to die now.
    pub dies: Notify,
    pub guard: Guard,
}

#[derive(Debug, Default)]
struct Counted {
    writes: usize,
    events: usize,
    /// Every request but those for Kubernetes events and watches, as `GET secrets/db`.
    requests: Vec<String>,
}

impl Wire {
    pub fn new(router: Router, fault: Option<Fault>, guard: Guard) -> Arc<Self> {
        Arc::new(Self {
            router,
            fault,
            counted: Mutex::default(),
            lag: Mutex::default(),
            ends_untold: Mutex::default(),
            dies: Notify::new(),
            guard,
        })
    }

    pub fn client(self: &Arc<Self>) -> Client {
        client(self.clone(), |wire, request| async move { wire.send(request).await })
    }

    pub fn counted(&self) -> (usize, usize) {
        let counted = self.counted.lock();
        (counted.writes, counted.events)
    }

    /// The requests since the last time this was asked.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.counted.lock().requests)
    }

    pub fn lags(&self, lag: Duration) {
        *self.lag.lock() = lag;
    }

    /// From now on no watch tells that an object of this kind is gone.
    pub fn hides_ends_of(&self, kind: &'static str) {
        *self.ends_untold.lock() = Some(kind);
    }

    pub fn count(&self) -> usize {
        self.counted.lock().requests.len()
    }

    async fn send(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if method == Method::GET {
            let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            if !watch {
                self.note(&method, &path);
                let lag = *self.lag.lock();
                sleep(lag).await;
            }
            let answer = pass(&self.router, request).await;
            return if watch && answer.status().is_success() { self.disturb(answer) } else { answer };
        }
        // An event is a courtesy: nothing depends on it.
        if path.contains("/events") {
            return pass(&self.router, request).await;
        }
        self.note(&method, &path);
        let at = {
            let mut counted = self.counted.lock();
            counted.writes += 1;
            counted.writes - 1
        };
        let how = match self.fault {
            Some(Fault::Write(wanted, how)) if wanted == at => Some(how),
            _ => None,
        };
        match how {
            None => self.write(&method, &path, request).await,
            Some(OnWrite::DiesBefore) => self.die().await,
            Some(OnWrite::DiesAfter) => {
                self.write(&method, &path, request).await;
                self.die().await
            }
            Some(OnWrite::Conflict) => refusal(StatusCode::CONFLICT, "Conflict"),
            Some(OnWrite::TooManyRequests) => refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Some(OnWrite::ServerError) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Some(OnWrite::TimesOutAfter) => {
                self.write(&method, &path, request).await;
                refusal(StatusCode::GATEWAY_TIMEOUT, "Timeout")
            }
        }
    }

    fn note(&self, method: &Method, path: &str) {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let from = parts.iter().position(|part| *part == "namespaces").map_or(0, |at| at + 2).min(parts.len());
        self.counted.lock().requests.push(format!("{method} {}", parts[from..].join("/")));
    }

    async fn die(&self) -> ! {
        self.dies.notify_one();
        std::future::pending().await
    }

    async fn write(&self, method: &Method, path: &str, request: Request<Body>) -> Response<Body> {
        // A real API server looks up the Role that a binding names when it is asked, and every write takes a while: what
        // is asked for at the same time as the binding is not there yet. Our bindings bear their Role's name.
        if path.contains("/rbac.authorization.k8s.io/") {
            let role = path.replace("/rolebindings/", "/roles/");
            if role != path && read(&self.router, &role).await.is_none() {
                return refusal(StatusCode::NOT_FOUND, "NotFound");
            }
        }
        sleep(WRITE).await;
        let before = self.guard.before(&self.router, method, path).await;
        let answer = pass(&self.router, request).await;
        if answer.status().is_success() {
            self.guard.after(&self.router, method, path, before).await;
        }
        answer
    }

    /// The same stream of events, and one of them disturbed if it is among these.
    fn disturb(self: Arc<Self>, answer: Response<Body>) -> Response<Body> {
        let (parts, body) = answer.into_parts();
        let lines =
            stream::unfold((body.into_data_stream(), Vec::new()), async |(mut body, mut rest): (_, Vec<u8>)| {
                loop {
                    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        return Some((line, (body, rest)));
                    }
                    rest.extend_from_slice(&body.next().await?.ok()?);
                }
            });
        let told = lines.then(move |line| {
            let wire = self.clone();
            async move { wire.tell(line).await }
        });
        // A line that is the last one ends the stream behind it.
        let told = told.scan(false, |ended, (lines, last)| {
            let go_on = !std::mem::replace(ended, last);
            std::future::ready(go_on.then_some(Ok::<_, Infallible>(lines)))
        });
        Response::from_parts(parts, Body::from_stream(told))
    }

    fn is_hidden(&self, line: &[u8]) -> bool {
        let Some(kind) = *self.ends_untold.lock() else { return false };
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        event["type"] == "DELETED" && event["object"]["kind"] == kind
    }

    /// What is told in place of an event, and whether that is the end.
    async fn tell(&self, line: Vec<u8>) -> (Vec<u8>, bool) {
        if line.starts_with(b"{\"type\":\"BOOKMARK\"") {
            return (line, false);
        }
        if self.is_hidden(&line) {
            return (Vec::new(), false);
        }
        let at = {
            let mut counted = self.counted.lock();
            counted.events += 1;
            counted.events - 1
        };
        match self.fault {
            Some(Fault::Event(wanted, how)) if wanted == at => match how {
                OnEvent::Lost => {
                    let status = status(StatusCode::GONE, "Expired");
                    let mut line = serde_json::to_vec(&json!({"type": "ERROR", "object": status})).unwrap();
                    line.push(b'\n');
                    (line, true)
                }
                OnEvent::Twice => ([line.clone(), line].concat(), false),
                OnEvent::Late => {
                    sleep(DELAY).await;
                    (line, false)
                }
                OnEvent::Cut => (Vec::new(), true),
            },
            _ => (line, false),
        }
    }
}

/// A client whose requests go where `send` takes them.
pub fn client<T, F>(target: T, send: impl Fn(T, Request<Body>) -> F + Clone + Send + 'static) -> Client
where
    T: Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let answer = send(target.clone(), request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    Client::new(service, "default")
}

/// Straight to the control plane.
pub async fn pass(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// An object as the control plane has it.
pub async fn read(router: &Router, path: &str) -> Option<Value> {
    let answer = pass(router, Request::get(path).body(Body::empty()).unwrap()).await;
    let found = answer.status().is_success();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    found.then(|| serde_json::from_slice(&bytes).unwrap())
}

fn status(code: StatusCode, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "as the test says", "reason": reason, "code": code.as_u16(),
    })
}

fn refusal(code: StatusCode, reason: &str) -> Response<Body> {
    let body = Body::from(status(code, reason).to_string());
    Response::builder().status(code).header(CONTENT_TYPE, "application/json").body(body).unwrap()
}

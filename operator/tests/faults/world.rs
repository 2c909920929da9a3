//! One control plane, and runs of the script against it, each in a namespace of its own.

use std::{sync::Arc, time::Duration};

use apiserver::{Handle, Options, Server};
use axum::{Router, body::Body};
use clap::Parser;
use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use jiff::Timestamp;
use operator::{Parts, cli::Cli, clock::Clock, metrics::Metrics, replicas::Replicas};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fault::{Fault, Wire, client, pass},
    guard::Guard,
    image::{self, Image},
    node::{self, Replica},
    script::{Deed, SCRIPT},
};

/// How late a late event is: later than anything that follows from the others.
pub const DELAY: Duration = Duration::from_secs(3);
/// A state that lasts this long is the end of a step.
const QUIET: Duration = Duration::from_secs(8);
/// Longer than every back-off: what has not come by then does not come.
const PATIENCE: Duration = Duration::from_mins(15);
const LOOK: Duration = Duration::from_millis(500);

pub struct World {
    runtime: Runtime,
    control_plane: Handle,
}

/// What came of a run.
pub struct Outcome {
    /// What the namespace looked like at the end of each step.
    pub states: Vec<Vec<String>>,
    pub writes: usize,
    pub events: usize,
    violations: Vec<String>,
    /// Of a disturbed run that did not come to where the undisturbed one was.
    astray: Option<String>,
}

impl Outcome {
    pub fn assert_safe(&self, what: &str) {
        assert!(self.violations.is_empty(), "{what}: {}", self.violations.join("; "));
    }

    /// What is wrong with it, beside the undisturbed run.
    pub fn difference(&self) -> Option<String> {
        let unsafe_ = (!self.violations.is_empty()).then(|| format!("NOT SAFE: {}", self.violations.join("; ")));
        let found: Vec<_> = unsafe_.into_iter().chain(self.astray.clone()).collect();
        (!found.is_empty()).then(|| found.join("\n"))
    }
}

impl World {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let control_plane = runtime.block_on(async {
            let control_plane = Server::start(Options::default()).await.unwrap();
            for crd in crds::all_crds() {
                let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
                send(&control_plane.router(), Method::POST, path, &serde_json::to_value(crd).unwrap()).await;
            }
            control_plane
        });
        Self { runtime, control_plane }
    }

    /// An undisturbed operator, and what is to be found out about it.
    pub fn with_operator<T>(&mut self, test: impl AsyncFnOnce(&mut Run<'_>) -> T) -> T {
        self.runtime.block_on(async {
            let mut run = Run::prepare(self.control_plane.router(), "counted".to_owned(), None).await;
            let outcome = test(&mut run).await;
            run.operator.die().await;
            outcome
        })
    }

    /// The script from the beginning to the end, disturbed by one fault or by none.
    pub fn run(&mut self, number: usize, fault: Option<(Fault, &[Vec<String>])>) -> Outcome {
        let namespace = format!("run-{number:05}x");
        self.runtime.block_on(Run::begin(self.control_plane.router(), namespace, fault))
    }
}

/// An operator in a namespace.
pub struct Run<'a> {
    router: Router,
    namespace: String,
    pub wire: Arc<Wire>,
    pub replica: Replica,
    operator: Operator,
    expected: Option<&'a [Vec<String>]>,
    _node: JoinSet<()>,
}

impl<'a> Run<'a> {
    async fn prepare(router: Router, namespace: String, fault: Option<(Fault, &'a [Vec<String>])>) -> Self {
        send(&router, Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await;
        let people = client(router.clone(), |router, request| async move { pass(&router, request).await });
        let replica = Replica::new();
        let node = node::play(&people, &namespace, &replica);
        let wire = Wire::new(router.clone(), fault.map(|(fault, _)| fault), Guard::new(&namespace));
        let operator = Operator::start(&wire, &namespace, &replica);
        let expected = fault.map(|(_, expected)| expected);
        Run { router, namespace, wire, replica, operator, expected, _node: node }
    }

    async fn begin(router: Router, namespace: String, fault: Option<(Fault, &'a [Vec<String>])>) -> Outcome {
        let mut run = Self::prepare(router, namespace, fault).await;
        let (mut states, mut astray) = (Vec::new(), None);
        for (step, (what, deeds)) in SCRIPT.iter().enumerate() {
            for deed in *deeds {
                run.does(*deed).await;
            }
            match run.settles(step).await {
                Ok(state) => states.push(state),
                Err(difference) => {
                    astray = Some(format!("after \"{what}\":\n{difference}"));
                    break;
                }
            }
        }
        run.operator.die().await;
        let (writes, events) = run.wire.counted();
        Outcome { states, writes, events, violations: run.wire.guard.violations(), astray }
    }

    pub async fn does(&self, deed: Deed) {
        match deed {
            Deed::Apply(yaml) => self.apply(yaml).await,
            Deed::Delete(kind, name) => {
                send(&self.router, Method::DELETE, &self.path(kind, name), &Value::Null).await;
            }
        }
    }

    pub async fn apply(&self, yaml: &str) {
        for text in yaml.split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(text).unwrap();
            let kind = object["kind"].as_str().unwrap().to_owned();
            object["apiVersion"] = if kind == "Secret" { "v1" } else { "tenantry.dev/v1alpha1" }.into();
            let path = self.path(&kind, object["metadata"]["name"].as_str().unwrap());
            send(&self.router, Method::PATCH, &format!("{path}?fieldManager=people&force=true"), &object).await;
        }
    }

    fn path(&self, kind: &str, name: &str) -> String {
        let (group, plural) = match kind {
            "Secret" => ("api/v1", "secrets"),
            "Platform" => ("apis/tenantry.dev/v1alpha1", "platforms"),
            "Tenant" => ("apis/tenantry.dev/v1alpha1", "tenants"),
            "RoleBinding" => ("apis/tenantry.dev/v1alpha1", "rolebindings"),
            "PaymentProvider" => ("apis/tenantry.dev/v1alpha1", "paymentproviders"),
            "RateLimitPolicy" => ("apis/tenantry.dev/v1alpha1", "ratelimitpolicies"),
            other => panic!("no kind {other}"),
        };
        format!("/{group}/namespaces/{}/{plural}/{name}", self.namespace)
    }

    /// Waits until nothing moves.
    pub async fn rests(&mut self) {
        self.settles(0).await.unwrap();
    }

    /// The operator is killed and started anew; gives how long it was busy then.
    pub async fn restarts(&mut self) -> Duration {
        self.operator.die().await;
        self.wire.requests();
        self.operator = Operator::start(&self.wire, &self.namespace, &self.replica);
        let (began, mut count, mut last) = (Instant::now(), 0, Instant::now());
        while last.elapsed() < QUIET {
            sleep(Duration::from_millis(1)).await;
            let now = self.wire.count();
            if now != count {
                (count, last) = (now, Instant::now());
            }
        }
        last - began
    }

    /// Waits until the namespace looks as it did in the undisturbed run, and goes on to; without one, until nothing moves.
    /// An operator that dies meanwhile is started anew.
    async fn settles(&mut self, step: usize) -> Result<Vec<String>, String> {
        let began = Instant::now();
        let (mut seen, mut image, mut state, mut since) = (None, None, Vec::new(), began);
        loop {
            tokio::select! {
                () = self.wire.dies.notified() => {
                    self.operator.die().await;
                    self.operator = Operator::start(&self.wire, &self.namespace, &self.replica);
                }
                () = sleep(LOOK) => {}
            }
            self.operator.assert_alive();
            // Nothing is read again while no object of any kind was written.
            let revision = image::revision(&self.router).await;
            if seen.as_ref() != Some(&revision) {
                let now = Image::take(&self.router, &self.namespace).await;
                if image.as_ref() != Some(&now) {
                    (state, since) = (now.lines(&self.namespace), Instant::now());
                }
                (seen, image) = (Some(revision), Some(now));
            }
            let expected = self.expected.map(|states| &states[step]);
            let arrived = expected.is_none_or(|expected| *expected == state);
            match expected {
                _ if arrived && since.elapsed() >= QUIET => return Ok(state),
                Some(expected) if began.elapsed() >= PATIENCE => return Err(image::difference(expected, &state)),
                None if began.elapsed() >= PATIENCE => panic!("the undisturbed run never comes to rest"),
                _ => {}
            }
        }
    }
}

/// The operator, as one process.
struct Operator(JoinHandle<anyhow::Result<()>>);

impl Operator {
    fn start(wire: &Arc<Wire>, namespace: &str, replica: &Replica) -> Self {
        let watch = format!("--watch-namespaces={namespace}");
        let flags = ["tenantry-operator", "--leader-election=false", "--listen=127.0.0.1:0", &watch];
        let parts = Parts {
            settings: Cli::parse_from(flags).settings,
            client: wire.client(),
            metrics: Metrics::default(),
            clock: Arc::new(VirtualClock),
            replicas: Replicas::new(replica.clone()),
        };
        Self(tokio::spawn(operator::run_with(parts, CancellationToken::new())))
    }

    async fn die(&mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }

    fn assert_alive(&self) {
        assert!(!self.0.is_finished(), "the operator ended by itself");
    }
}

/// The hour, as the control plane has it.
#[derive(Debug)]
struct VirtualClock;

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        apiserver::now()
    }
}

async fn send(router: &Router, method: Method, path: &str, object: &Value) {
    let apply = method == Method::PATCH;
    let kind = if apply { "application/apply-patch+yaml" } else { "application/json" };
    let body = if object.is_null() { Body::empty() } else { Body::from(object.to_string()) };
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind).body(body).unwrap();
    let answer = pass(router, request).await;
    let status = answer.status();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&text));
}

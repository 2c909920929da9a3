//! An API whose dependencies can be taken away, and what a caller then sees.

use std::{collections::HashMap, net::SocketAddr, num::NonZeroU32, time::Duration};

use axum::{Json, Router, extract::Query, response::IntoResponse, routing::get};
use contract::{
    Hostname, TenantConfig, codec,
    limits::{Algorithm, Counter, FailureMode, Limit, LimitMode, PathMatch, PathMatchKind, Rate},
    names,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use super::proxy::{Fault, Proxy};
use crate::{
    features::{
        mail::tests::{server::Server, write_and_send},
        payments::{
            providers::stripe::signature::sign,
            tests::{SIGNING_SECRET, event_body, stripe::Stripe, with_stripe},
        },
    },
    tenancy::{Found, cache::Cache, source_kube},
    testing::{Answer, PASSWORD, TestApp, redis_url, seconds},
};

/// No answer is waited for longer than this; it is a bound against hanging, and no measurement.
const ANSWERED: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    Postgres,
    Redis,
    Kubernetes,
    Provider,
    Operator,
    Mail,
}

impl Gone {
    pub const ALL: [Self; 6] =
        [Self::Postgres, Self::Redis, Self::Kubernetes, Self::Provider, Self::Operator, Self::Mail];

    /// The head of its column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Kubernetes => "Kubernetes API",
            Self::Provider => "payment provider",
            Self::Operator => "operator",
            Self::Mail => "mail server",
        }
    }

    /// Ways to be gone, all of which look the same from outside.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Operator => &[Fault::None],
            _ => &[Fault::Refuses, Fault::IsSilent],
        }
    }
}

pub struct World {
    app: TestApp,
    /// Makes databases and tenants; keeps both for as long as the world is there.
    base: TestApp,
    stripe: Stripe,
    /// One that was made while all was well.
    payment: String,
    postgres: Proxy,
    redis: Proxy,
    kubernetes: Proxy,
    provider: Proxy,
    mail: Proxy,
    mails: Server,
    documents: Documents,
    folder: TempDir,
    tasks: Vec<JoinHandle<()>>,
    token: String,
    users: u32,
}

impl World {
    pub const REQUESTS: &'static [&'static str] = &[
        "`/livez`",
        "`/readyz`",
        "`/readyz` after a cold start",
        "`GET /auth/me`",
        "the same, a minute later",
        "`POST /auth/login`",
        "`POST /auth/register`",
        "`POST /auth/forgot-password`",
        "a mail",
        "`POST /payments`",
        "`GET /payments`",
        "the provider's webhook",
        "a limit with `failureMode: Open`",
        "… `Closed`",
        "… `Local`",
        "a document that changes",
    ];

    pub fn knows(request: &str) -> bool {
        Self::REQUESTS.contains(&request)
    }

    pub async fn new() -> Self {
        let base = TestApp::empty().await;
        let postgres = Proxy::before(base.database_address()).await;
        let redis = Proxy::before(address(&redis_url())).await;
        let (documents, kubernetes) = kubernetes_api().await;
        let kubernetes = Proxy::before(kubernetes).await;
        let stripe = Stripe::start().await;
        let provider = Proxy::before(address(&stripe.url)).await;
        let mails = Server::start();
        let mail = Proxy::before(SocketAddr::from(([127, 0, 0, 1], mails.port))).await;
        let app = base.through(postgres.address, redis.address, mail.address);

        documents.put(document(&acme(&app, provider.address)));
        let mut world = Self {
            app,
            base,
            stripe,
            payment: String::new(),
            postgres,
            redis,
            kubernetes,
            provider,
            mail,
            mails,
            documents,
            folder: tempfile::tempdir().unwrap(),
            tasks: vec![],
            token: String::new(),
            users: 0,
        };
        world.follow();
        world.until_served().await;
        world.token = world.app.register("ada@acme.test").await["accessToken"].as_str().unwrap().to_owned();
        let paid = world.post("/api/v1/payments", &ten_euros()).await;
        world.payment = paid.json["data"]["id"].as_str().unwrap().to_owned();
        // Ready once: what comes later is about a replica that serves.
        assert_eq!(world.app.manage("/readyz").await, StatusCode::OK);
        world
    }

    /// Follows the documents, as `serve` does.
    fn follow(&mut self) {
        let (app, cache) = (self.app.app.clone(), Cache::new(self.folder.path()));
        let client = self.client();
        self.tasks.push(tokio::spawn(async move { source_kube::run(app, client, "shop", "main", cache).await }));
    }

    fn client(&self) -> kube::Client {
        let url = format!("http://{}", self.kubernetes.address).parse().unwrap();
        kube::Client::try_from(kube::Config::new(url)).unwrap()
    }

    async fn until_served(&self) {
        let served = async {
            while self.app.app.tenants.by_host("acme.test").is_none() {
                tokio::task::yield_now().await;
            }
            // The disk is not waited for by whoever is served, but by who starts from it.
            while Cache::new(self.folder.path()).load().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(ANSWERED, served).await.expect("the documents are taken in and kept");
    }

    pub async fn lose(&mut self, gone: Gone, fault: Fault) {
        match gone {
            Gone::Postgres => self.postgres.set(fault).await,
            Gone::Redis => self.redis.set(fault).await,
            Gone::Kubernetes => self.kubernetes.set(fault).await,
            Gone::Provider => self.provider.set(fault).await,
            Gone::Mail => self.mail.set(fault).await,
            Gone::Operator => {}
        }
    }

    /// What a caller sees, in the words of the table.
    pub async fn observe(&mut self, request: &str) -> String {
        let observed = timeout(ANSWERED, Box::pin(self.see(request))).await;
        observed.unwrap_or_else(|_| "hangs".to_owned())
    }

    async fn see(&mut self, request: &str) -> String {
        self.users += 1;
        let someone = format!("user{}@acme.test", self.users);
        match request {
            "`/livez`" => self.app.manage("/livez").await.as_str().to_owned(),
            "`/readyz`" => self.app.manage("/readyz").await.as_str().to_owned(),
            "`/readyz` after a cold start" => self.cold_start().await,
            "`GET /auth/me`" => told(&self.me().await),
            "the same, a minute later" => {
                // Neither this process nor Redis remembers the session any more.
                self.app.clock.advance(seconds(2));
                self.base.forget("session").await;
                told(&self.me().await)
            }
            "`POST /auth/login`" => {
                told(&self.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": PASSWORD })).await)
            }
            "`POST /auth/register`" => {
                let body = json!({ "email": someone, "password": PASSWORD, "name": "Some One" });
                told(&self.post("/api/v1/auth/register", &body).await)
            }
            "`POST /auth/forgot-password`" => {
                told(&self.post("/api/v1/auth/forgot-password", &json!({ "email": someone })).await)
            }
            "a mail" => {
                // An error is a database that is away: then it is not even written down, as nothing is.
                let _ = write_and_send(&self.app, &someone).await;
                let sent = self.mails.took().iter().any(|mail| mail["to"][0] == someone.as_str());
                if sent { "sent" } else { "waits" }.to_owned()
            }
            "`POST /payments`" => told(&self.post("/api/v1/payments", &ten_euros()).await),
            "`GET /payments`" => told(&self.problem(Method::GET, "/api/v1/payments").send().await),
            "the provider's webhook" => {
                let session = self.stripe.session_of(&self.payment);
                let body = event_body(&format!("evt_{}", self.users), "checkout.session.completed", &session);
                let signature = sign(body.as_bytes(), SIGNING_SECRET, self.app.clock.now());
                let call =
                    self.problem(Method::POST, "/api/v1/payments/webhook").header("stripe-signature", &signature);
                told(&call.body(body).send().await)
            }
            "a limit with `failureMode: Open`" => self.limited("open").await,
            "… `Closed`" => self.limited("closed").await,
            "… `Local`" => self.limited("local").await,
            "a document that changes" => self.change().await,
            other => panic!("the table has a row that nobody observes: {other:?}"),
        }
    }

    async fn me(&self) -> Answer {
        self.problem(Method::GET, "/api/v1/auth/me").send().await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.problem(Method::POST, path).json(body).send().await
    }

    fn problem(&self, method: Method, path: &str) -> crate::testing::Call<'_> {
        self.app.request(method, path).bearer(&self.token).header("accept", "application/problem+json")
    }

    /// A new process: nothing in memory, and the folder of documents only where its pod had one before.
    async fn cold_start(&self) -> String {
        let mut words = vec![];
        for folder in [tempfile::tempdir().unwrap().path().to_owned(), self.folder.path().to_owned()] {
            let app = self.base.through(self.postgres.address, self.redis.address, self.mail.address);
            let (following, client) = (app.app.clone(), self.client());
            let follows =
                tokio::spawn(
                    async move { source_kube::run(following, client, "shop", "main", Cache::new(folder)).await },
                );
            let started = async {
                while app.manage("/startupz").await != StatusCode::OK {
                    tokio::task::yield_now().await;
                }
            };
            timeout(ANSWERED, started).await.expect("a start comes to an end, whatever is away");
            words.push(app.manage("/readyz").await.as_str().to_owned());
            follows.abort();
        }
        match words.as_slice() {
            [new, again] if new == again => new.clone(),
            [new, again] => format!("{new}; restarted in its pod {again}"),
            _ => unreachable!("two starts"),
        }
    }

    /// Asks three times where two are allowed, and then another replica once.
    async fn limited(&self, name: &str) -> String {
        let ask = async |app: &TestApp| {
            app.get(&format!("/api/v1/{name}"))
                .bearer(&self.token)
                .header("accept", "application/problem+json")
                .send()
                .await
        };
        let answers = [ask(&self.app).await, ask(&self.app).await, ask(&self.app).await];
        let other = self.base.through(self.postgres.address, self.redis.address, self.mail.address);
        let text = self.documents.get()["data"][names::DOCUMENT_KEY].as_str().unwrap().to_owned();
        assert!(other.app.tenants.apply(&Found { tenant: "acme".into(), revision: None, text }));
        let elsewhere = ask(&other).await.status;
        let statuses = answers.each_ref().map(|answer| answer.status.as_u16());
        self.base.forget(name).await;
        match (statuses, elsewhere.as_u16()) {
            // There is nothing at this path: 404 is what is behind the limit.
            ([404, 404, 429], 429) => "counted".to_owned(),
            ([404, 404, 429], _) => "counted by each replica".to_owned(),
            ([404, 404, 404], _) => "lets through".to_owned(),
            ([503, 503, 503], _) => told(&answers[0]),
            other => format!("{other:?}"),
        }
    }

    async fn change(&self) -> String {
        let before = self.documents.get();
        let mut changed = acme(&self.app, self.provider.address);
        changed.hostnames.push(Hostname::new("new.test").unwrap());
        self.documents.put(document(&changed));
        let arrived = async {
            while self.app.app.tenants.by_host("new.test").is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let arrived = timeout(Duration::from_secs(2), arrived).await.is_ok();
        self.documents.put(before);
        if arrived { "taken in".to_owned() } else { "waits".to_owned() }
    }

    /// What was away is there again: so is everything else, and nothing was restarted.
    pub async fn recovers(&mut self) {
        let mut last = String::new();
        let well = async {
            loop {
                self.users += 1;
                let register =
                    json!({ "email": format!("again{}@acme.test", self.users), "password": PASSWORD, "name": "A" });
                let registers = self.post("/api/v1/auth/register", &register).await.status;
                let pays = self.post("/api/v1/payments", &ten_euros()).await.status;
                let health = self.app.get("/health").send().await.status;
                if (registers, pays, health) == (StatusCode::CREATED, StatusCode::CREATED, StatusCode::OK) {
                    return;
                }
                // A look at the stores is remembered for half a second.
                self.app.clock.advance(seconds(1));
                last = format!("register {registers}, pay {pays}, health {health}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let well = timeout(ANSWERED, well).await;
        assert!(well.is_ok(), "everything is well again without a restart: {last}");
        // The watch may still be waiting for its next attempt.
        let arrives = async { while self.change().await != "taken in" {} };
        timeout(ANSWERED, arrives).await.expect("documents are taken in again");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The status; a 503 also has to be a problem document that says when to come again.
fn told(answer: &Answer) -> String {
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text);
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        assert!(!answer.json["detail"].as_str().unwrap().is_empty());
    }
    answer.status.as_str().to_owned()
}

/// acme with its Stripe account behind `provider`, and a limit of each failure mode.
fn acme(app: &TestApp, provider: SocketAddr) -> TenantConfig {
    let mut acme = with_stripe(app, "acme", &format!("http://{provider}"), &[SIGNING_SECRET]);
    acme.limits = vec![
        limit("open", FailureMode::Open),
        limit("closed", FailureMode::Closed),
        limit("local", FailureMode::Local),
    ];
    acme
}

fn ten_euros() -> Value {
    json!({ "amount": 10, "currency": "EUR", "type": "payment" })
}

fn limit(name: &str, failure_mode: FailureMode) -> Limit {
    Limit {
        name: name.into(),
        methods: vec![],
        paths: vec![PathMatch { kind: PathMatchKind::Exact, value: format!("/{name}") }],
        when: vec![],
        counters: vec![Counter::Tenant],
        rates: vec![Rate { limit: NonZeroU32::new(2).unwrap(), window_seconds: NonZeroU32::new(3600).unwrap() }],
        algorithm: Algorithm::FixedWindow,
        burst: None,
        cost: NonZeroU32::MIN,
        mode: LimitMode::Enforce,
        failure_mode,
    }
}

fn address(url: &str) -> SocketAddr {
    let url = url::Url::parse(url).unwrap();
    url.socket_addrs(|| Some(6379)).unwrap()[0]
}

fn document(tenant: &TenantConfig) -> Value {
    let encoded = codec::encode(tenant).unwrap();
    json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": names::config_map(tenant.name.as_str()), "namespace": "shop",
            "labels": { names::LABEL_TENANT: tenant.name.as_str() },
            "annotations": { names::ANNOTATION_REVISION: encoded.revision.as_str() },
        },
        "data": { names::DOCUMENT_KEY: encoded.text } })
}

/// As much of a Kubernetes API as one watch of ConfigMaps sees: each change is a version, and a watch that began before
/// it is told at once.
async fn kubernetes_api() -> (Documents, SocketAddr) {
    let (documents, held) = watch::channel((0, vec![]));
    let answer = move |Query(query): Query<HashMap<String, String>>| {
        let mut held = held.clone();
        async move {
            if !query.contains_key("watch") {
                let (version, documents) = &*held.borrow();
                let items: Vec<_> = documents.iter().map(|document| stamped(document, *version)).collect();
                let metadata = json!({ "resourceVersion": version.to_string() });
                return Json(
                    json!({ "apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items }),
                )
                .into_response();
            }
            let since: u64 = query["resourceVersion"].parse().unwrap();
            // One event, and the watch ends; the client then begins another.
            let now = held.wait_for(|(version, _)| *version > since).await.unwrap();
            json!({ "type": "MODIFIED", "object": stamped(&now.1[0], now.0) }).to_string().into_response()
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/api/v1/namespaces/shop/configmaps", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (Documents(documents), address)
}

fn stamped(object: &Value, version: u64) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object
}

/// The documents that the Kubernetes API holds.
struct Documents(watch::Sender<(u64, Vec<Value>)>);

impl Documents {
    fn put(&self, document: Value) {
        self.0.send_modify(|(version, documents)| {
            *version += 1;
            *documents = vec![document];
        });
    }

    fn get(&self) -> Value {
        self.0.borrow().1[0].clone()
    }
}

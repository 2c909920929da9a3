//! A whole API for one test: the real router, a database and Redis keys of its own, a clock that stands still.
//!
//! Needs PostgreSQL at `TENANTRY_TEST_DATABASE_URL` (a role with CREATEDB that row-level security binds) and Redis at
//! `TENANTRY_TEST_REDIS_URL`; `cargo dev test` starts both. Without them the tests fail and say so.

mod locks;

use std::{env, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{
    Hostname, RoleName, Secret, TenantConfig, TenantId, TenantName,
    access::{Binding, Subject, SubjectKind, built_in},
    auth::{Argon2, SigningAlgorithm, SigningKey},
    codec,
    seal::SealingKey,
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    app::{App, Foundation},
    features::{mail::Smtp, payments::Transport},
    infra::{Db, Outbound, Redis, clock::FakeClock, db},
    metrics::Metrics,
    router,
    settings::{self, Cli, Command, Http, Serve},
    tenancy::Found,
};

pub const PASSWORD: &str = "Correct-Horse-7";
/// A mail server that is never there: mails are written down and stay. Its port comes last.
const NOBODYS_SERVER: &[&str] = &[
    "--mail-from",
    "Platform <no-reply@platform.test>",
    "--smtp-tls",
    "none",
    "--smtp-host",
    "127.0.0.1",
    "--smtp-port",
    "1",
];

pub struct TestApp {
    pub app: App,
    pub clock: FakeClock,
    pub key: SealingKey,
    router: Router,
    database: Arc<Database>,
    redis_prefix: String,
}

impl TestApp {
    /// An API with one tenant, `acme` at `acme.test`, served and ready.
    pub async fn new() -> Self {
        let app = Self::empty().await;
        app.serve(&app.tenant("acme"));
        app
    }

    /// An API that knows no tenant yet.
    pub async fn empty() -> Self {
        let database = Arc::new(Database::create().await);
        let clock = FakeClock::at("2026-03-01T12:00:00Z".parse().unwrap());
        Self::on(database, format!("test-{}:", Uuid::new_v4()), clock)
    }

    /// Another replica of the same platform: same database, same Redis, same time, its own memory.
    pub fn replica(&self) -> Self {
        Self::on(Arc::clone(&self.database), self.redis_prefix.clone(), self.clock.clone())
    }

    /// A replica that cannot reach Redis.
    pub fn without_redis(&self) -> Self {
        Self::with(
            Arc::clone(&self.database),
            self.redis_prefix.clone(),
            self.clock.clone(),
            "redis://127.0.0.1:1",
            &[],
        )
    }

    /// A replica with other flags.
    pub fn with_flags(&self, flags: &[&str]) -> Self {
        Self::with(Arc::clone(&self.database), self.redis_prefix.clone(), self.clock.clone(), &redis_url(), flags)
    }

    /// A replica that reaches its stores through these addresses.
    pub fn through(&self, postgres: SocketAddr, redis: SocketAddr, mail: SocketAddr) -> Self {
        let mut url = url::Url::parse(&redis_url()).unwrap();
        url.set_ip_host(redis.ip()).unwrap();
        url.set_port(Some(redis.port())).unwrap();
        let mut app =
            Self::with(Arc::clone(&self.database), self.redis_prefix.clone(), self.clock.clone(), url.as_str(), &[]);
        let options = self.database.options.clone().host(&postgres.ip().to_string()).port(postgres.port());
        let port = mail.port().to_string();
        let flags = [&NOBODYS_SERVER[..NOBODYS_SERVER.len() - 1], &[port.as_str()]].concat();
        app.rebuild(Db::lazy(options, 4), url.as_str(), &flags);
        app
    }

    fn rebuild(&mut self, db: Db, redis_url: &str, mail: &[&str]) {
        self.app = App::new(Foundation {
            http: self.app.http.clone(),
            clock: self.clock.clock(),
            db,
            redis: Redis::lazy(redis_url, self.redis_prefix.clone()).unwrap(),
            sealing_key: self.key.clone(),
            metrics: Arc::new(Metrics::new()),
            outbound: Outbound::new().unwrap(),
            transport: Transport::new(Outbound::new().unwrap(), Duration::from_millis(1)),
            smtp: Smtp::new(&mail_settings(mail)).unwrap(),
        });
        self.router = router::router(self.app.clone());
    }

    /// Where the database is.
    pub fn database_address(&self) -> SocketAddr {
        let (host, port) = (self.database.options.get_host(), self.database.options.get_port());
        std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).unwrap().next().unwrap()
    }

    /// Makes Redis forget everything of this platform that has `word` in its name.
    pub async fn forget(&self, word: &str) {
        let keys: Vec<String> =
            self.app.redis.query(redis::cmd("KEYS").arg(format!("{}*{word}*", self.redis_prefix))).await.unwrap();
        if !keys.is_empty() {
            self.app.redis.query::<i64>(&redis::Cmd::del(keys)).await.unwrap();
        }
    }

    /// Asks the management port.
    pub async fn manage(&self, path: &str) -> StatusCode {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        crate::management::router(self.app.clone()).oneshot(request).await.unwrap().status()
    }

    fn on(database: Arc<Database>, redis_prefix: String, clock: FakeClock) -> Self {
        Self::with(database, redis_prefix, clock, &redis_url(), &[])
    }

    fn with(database: Arc<Database>, redis_prefix: String, clock: FakeClock, redis_url: &str, flags: &[&str]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = SealingKey::new(&[7; 32]).unwrap();
        let app = App::new(Foundation {
            http: http_settings(flags),
            clock: clock.clock(),
            db: Db::lazy(database.options.clone(), 4),
            redis: Redis::lazy(redis_url, redis_prefix.clone()).unwrap(),
            sealing_key: key.clone(),
            metrics: Arc::new(Metrics::new()),
            outbound: Outbound::new().unwrap(),
            transport: Transport::new(Outbound::new().unwrap(), Duration::from_millis(1)),
            smtp: Smtp::new(&mail_settings(if flags.contains(&"--mail-from") { flags } else { NOBODYS_SERVER }))
                .unwrap(),
        });
        Self { router: router::router(app.clone()), app, clock, key, database, redis_prefix }
    }

    /// A tenant at `<name>.test` with a signing key of its own and the lowest hash parameters allowed.
    pub fn tenant(&self, name: &str) -> TenantConfig {
        let id = TenantId::derive("test", name);
        let mut tenant = TenantConfig::new(id, TenantName::new(name).unwrap());
        tenant.hostnames = vec![Hostname::new(format!("{name}.test")).unwrap()];
        tenant.auth.password.argon2 = Argon2::FLOOR;
        let field = SigningKey::seal_field("key");
        let key = self.key.seal(id, &field, &Secret::new(ed25519_pem(id.as_uuid().as_bytes()))).unwrap();
        tenant.auth.signing_keys = vec![SigningKey { id: "key".into(), algorithm: SigningAlgorithm::EdDSA, key }];
        tenant
    }

    /// Takes a tenant's document into service, as a watch would.
    pub fn serve(&self, tenant: &TenantConfig) {
        let text = codec::encode(tenant).unwrap().text;
        let found = Found { tenant: tenant.name.to_string(), revision: None, text };
        assert!(self.app.tenants.apply(&found), "{:?}", self.app.tenants.report(tenant.name.as_str()));
    }

    /// Answers at a port of this machine for as long as the test lives.
    pub async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    pub fn request(&self, method: Method, path: &str) -> Call<'_> {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "acme.test");
        Call { app: self, request, body: Body::empty(), peer: [192, 0, 2, 1] }
    }

    pub fn get(&self, path: &str) -> Call<'_> {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str, body: &Value) -> Call<'_> {
        self.request(Method::POST, path).json(body)
    }

    /// Registers somebody at acme and gives what they got: `user`, `accessToken`, `refreshToken`.
    pub async fn register(&self, email: &str) -> Value {
        self.register_at("acme.test", email).await
    }

    pub async fn register_at(&self, host: &str, email: &str) -> Value {
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada Lovelace" });
        let answer = self.post("/api/v1/auth/register", &body).host(host).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
        answer.json["data"].clone()
    }

    /// Registers somebody who is ADMIN of acme by a role binding, and gives their access token.
    pub async fn admin(&self) -> String {
        let admin = self.register("admin@acme.test").await;
        let mut acme = self.tenant("acme");
        acme.bindings.push(binding("admins", "ADMIN", "admin@acme.test"));
        self.serve(&acme);
        admin["accessToken"].as_str().unwrap().to_owned()
    }
}

/// Gives a built-in role to a user by address.
pub fn binding(name: &str, role: &str, user: &str) -> Binding {
    let role = RoleName::new(role).unwrap();
    Binding {
        name: name.into(),
        permissions: built_in(&role).unwrap(),
        role,
        subjects: vec![Subject { kind: SubjectKind::User, name: user.into() }],
        expires_at: None,
        when: None,
    }
}

/// A request in the making.
pub struct Call<'a> {
    app: &'a TestApp,
    request: http::request::Builder,
    body: Body,
    peer: [u8; 4],
}

impl Call<'_> {
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(headers) = self.request.headers_mut() {
            headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        self
    }

    /// A value that need not be text.
    #[must_use]
    pub fn header_value(mut self, name: &'static str, value: http::HeaderValue) -> Self {
        if let Some(headers) = self.request.headers_mut() {
            headers.insert(name, value);
        }
        self
    }

    #[must_use]
    pub fn host(self, host: &str) -> Self {
        self.header("host", host)
    }

    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = Body::from(body.to_string());
        self.header("content-type", "application/json")
    }

    /// Comes from this address in place of 192.0.2.1.
    #[must_use]
    pub fn peer(mut self, address: [u8; 4]) -> Self {
        self.peer = address;
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Answer {
        let mut request = self.request.body(self.body).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((self.peer, 4711))));
        let response = self.app.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, json, text }
    }
}

/// An answer; `json` is null when the body is none.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
    pub text: String,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The settings of `serve` with these flags.
pub fn settings(flags: &[&str]) -> Serve {
    let given = ["tenantry-api", "serve", "--hash-threads", "2"].iter().chain(flags);
    match <Cli as clap::Parser>::try_parse_from(given).unwrap().command {
        Command::Serve(serve) => *serve,
        other => panic!("{other:?}"),
    }
}

pub fn http_settings(flags: &[&str]) -> Http {
    settings(flags).http
}

pub fn mail_settings(flags: &[&str]) -> settings::Mail {
    settings(flags).mail
}

/// An Ed25519 key in PKCS#8 PEM, the same for the same seed.
pub fn ed25519_pem(seed: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    pkcs8_pem(&Sha256::digest(seed))
}

pub fn pkcs8_pem(private: &[u8]) -> String {
    let der = [&hex::decode("302e020100300506032b657004220420").unwrap(), private].concat();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
}

pub fn redis_url() -> String {
    service("TENANTRY_TEST_REDIS_URL", "redis://127.0.0.1:6379")
}

pub fn database_url() -> String {
    service("TENANTRY_TEST_DATABASE_URL", "postgres://user:password@127.0.0.1:5432/postgres")
}

/// No default: a test must not find somebody's own server by chance.
fn service(variable: &str, example: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run `cargo dev test`, or set it, such as {example}"))
}

/// A database that lives as long as its test, copied from a migrated template.
struct Database {
    name: String,
    options: PgConnectOptions,
}

impl Database {
    async fn create() -> Self {
        let mut server = connect().await;
        let template = Self::template(&mut server).await;
        let name = format!("tenantry_test_{}", Uuid::new_v4().simple());
        run(&mut server, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let options = db::options(Some(&database_url())).unwrap().database(&name);
        Self { name, options }
    }

    /// Made once for each set of migrations, by whichever test comes first.
    async fn template(server: &mut PgConnection) -> String {
        use sha2::{Digest, Sha256};
        let all = db::MIGRATIONS.iter().fold(Sha256::new(), |hash, migration| hash.chain_update(&migration.checksum));
        let name = format!("tenantry_template_{}", hex::encode(&all.finalize()[..6]));
        sqlx::query("SELECT pg_advisory_lock(7401)").execute(&mut *server).await.unwrap();
        // The last name is the finished one: a template that was left half made is made again.
        let finished: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut *server)
            .await
            .unwrap();
        if !finished {
            let half = format!("{name}_half");
            run(server, format!("DROP DATABASE IF EXISTS {half} WITH (FORCE)")).await;
            run(server, format!("CREATE DATABASE {half}")).await;
            db::migrate(db::options(Some(&database_url())).unwrap().database(&half)).await.unwrap();
            run(server, format!("ALTER DATABASE {half} RENAME TO {name}")).await;
        }
        sqlx::query("SELECT pg_advisory_unlock(7401)").execute(&mut *server).await.unwrap();
        name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A thread of its own: the test's runtime is in the middle of this very drop.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { run(&mut connect().await, drop).await });
        });
        let _ = dropping.join();
    }
}

async fn connect() -> PgConnection {
    let url = database_url();
    let options = db::options(Some(&url)).unwrap();
    PgConnection::connect_with(&options).await.unwrap_or_else(|error| {
        panic!(
            "the tests need PostgreSQL (TENANTRY_TEST_DATABASE_URL, now {url}): {error}; `cargo dev test` starts one"
        )
    })
}

async fn run(server: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(server).await.unwrap();
}

/// Moves a test's clock.
pub fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

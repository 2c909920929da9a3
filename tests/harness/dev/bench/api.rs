//! The API server alone, with its tenants in a folder: no control plane takes part in what is measured.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{
    Hostname, Secret, TenantConfig, TenantId, TenantName,
    auth::{SigningAlgorithm, SigningKey},
    codec,
    limits::{Algorithm, Counter, FailureMode, Limit, LimitMode, Rate},
    seal::SealingKey,
};
use harness::{
    process::{Launch, Process, free_port},
    wait,
};
use tokio::time::{sleep, timeout};
use url::Url;

/// In force on every request, and so high that it refuses none; the peer's is the same.
pub const REQUESTS_A_MINUTE: u32 = 100_000_000;
const SEALING_KEY: [u8; 32] = [7; 32];

/// What an API server is started with.
pub struct Api<'a> {
    pub program: &'a Path,
    pub folder: PathBuf,
    pub database: &'a Url,
    pub redis: &'a Url,
    pub log_level: &'a str,
    /// Words before the program: `taskset`.
    pub prefix: &'a [&'a str],
}

/// A server under measurement.
pub struct Server {
    pub process: Process,
    /// The API's root: `http://127.0.0.1:<port>/api/v1`.
    pub url: String,
    /// From the start of the process to the first "ready".
    pub ready_after: Duration,
}

impl Api<'_> {
    /// Makes the folder with documents of that many tenants; the first is [`hostname`]`(0)`.
    pub fn write_tenants(&self, count: usize) -> Result<()> {
        let tenants = self.folder.join("tenants");
        fs::create_dir_all(&tenants)?;
        fs::write(self.folder.join("key"), SEALING_KEY)?;
        for number in 0..count {
            let document = codec::encode(&tenant(number)?)?;
            fs::write(tenants.join(format!("{}.json", name(number))), document.text)?;
        }
        Ok(())
    }

    pub async fn migrate(&self) -> Result<()> {
        let mut migration = self.launch("migrate").start().await?;
        if !migration.wait().await?.success() {
            bail!("the database could not be migrated:\n{}", migration.log_tail(20));
        }
        Ok(())
    }

    /// Starts it, and waits until it says that it is ready.
    pub async fn serve(&self) -> Result<Server> {
        let (port, management) = (free_port()?, free_port()?);
        let launch = self
            .launch("serve")
            .env("REDIS_URL", self.redis.as_str())
            .env("TENANTRY_CONFIG_DIR", self.folder.join("tenants"))
            .env("TENANTRY_CACHE_DIR", self.folder.join("cache"))
            .env("TENANTRY_SEALING_KEY_FILE", self.folder.join("key"))
            .env("TENANTRY_TRUSTED_PROXIES", "127.0.0.0/8")
            .env("TENANTRY_BIND_ADDRESS", "127.0.0.1")
            .env("TENANTRY_PORT", port.to_string())
            .env("TENANTRY_MANAGEMENT_PORT", management.to_string())
            .env("TENANTRY_DRAIN_SECONDS", "0");
        let url = format!("http://127.0.0.1:{port}/api/v1");
        Server::start(launch, url, &format!("http://127.0.0.1:{management}/readyz")).await
    }

    fn launch(&self, command: &str) -> Launch {
        let log = self.folder.join(format!("{command}.log"));
        pinned("tenantry-api", self.prefix, self.program, log)
            .args([command])
            .env("DATABASE_URL", self.database.as_str())
            .env("TENANTRY_LOG_LEVEL", self.log_level)
    }
}

impl Server {
    pub async fn start(launch: Launch, url: String, ready: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let began = Instant::now();
        let mut process = launch.start().await?;
        let asked = async {
            while !client.get(ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                process.check_alive()?;
                sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(began.elapsed())
        };
        let asked = timeout(wait::limit(), asked).await;
        let ready_after = asked.with_context(|| format!("{ready} stays silent:\n{}", process.log_tail(20)))??;
        Ok(Self { process, url, ready_after })
    }
}

/// A program with nothing of our own environment, behind other words (`taskset -c 0`) if there are any.
pub fn pinned(name: &str, prefix: &[&str], program: &Path, log: PathBuf) -> Launch {
    let launch = match prefix {
        [] => Launch::new(name, program, log),
        [first, rest @ ..] => Launch::new(name, first, log).args(rest).args([program]),
    };
    launch.clean_environment()
}

fn name(number: usize) -> String {
    format!("tenant-{number:05}")
}

pub fn hostname(number: usize) -> String {
    format!("{}.localhost", name(number))
}

fn tenant(number: usize) -> Result<TenantConfig> {
    let name = TenantName::new(name(number))?;
    let mut tenant = TenantConfig::new(TenantId::derive("bench", name.as_str()), name);
    tenant.hostnames = vec![Hostname::new(hostname(number))?];
    tenant.auth.signing_keys = vec![SigningKey {
        id: "key".into(),
        algorithm: SigningAlgorithm::EdDSA,
        key: SealingKey::new(&SEALING_KEY)?.seal(tenant.id, &SigningKey::seal_field("key"), &signing_key(number)?)?,
    }];
    tenant.limits = vec![Limit {
        name: "bench/per-user".into(),
        methods: vec![],
        paths: vec![],
        when: vec![],
        counters: vec![Counter::User],
        rates: vec![Rate { limit: REQUESTS_A_MINUTE.try_into()?, window_seconds: 60.try_into()? }],
        algorithm: Algorithm::FixedWindow,
        burst: None,
        cost: 1.try_into()?,
        mode: LimitMode::Enforce,
        failure_mode: FailureMode::Closed,
    }];
    Ok(tenant)
}

/// Any 32 bytes are an Ed25519 key; RFC 8410 says what stands before them in PKCS#8.
fn signing_key(number: usize) -> Result<Secret> {
    let mut der = hex::decode("302e020100300506032b657004220420")?;
    der.extend_from_slice(&[1; 24]);
    der.extend_from_slice(&number.to_be_bytes());
    let text = BASE64_STANDARD.encode(der);
    Ok(Secret::new(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")))
}

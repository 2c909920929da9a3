//! Being known: how long `GET /auth/me`, a refresh and a login take at 30 % and 70 % of what the server can do, and what a
//! wave of logins does to everybody else. Beside the same backend in Express, where that has the route.
//!
//! Latency is counted from the moment a request was due, not from when it was sent: a server that stalls pays for all
//! requests that had to wait meanwhile. With two cores or more the server has core 0 to itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use harness::{
    binaries::Binaries,
    postgres::{Durability, Postgres},
    redis::Redis,
    workdir::Workdir,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    Amounts,
    api::{Api, Server, hostname},
    figures::Sample,
    me::move_to_core_1,
    peer::Peer,
    setup,
};

const PASSWORD: &str = "Correct-Horse-7";
const USERS: usize = 64;
/// Of a closed loop: enough to keep a server of one core busy.
const BUSY: usize = 32;
/// Requests of one open loop that may be under way; where more pile up, this rate is not held.
const UNDER_WAY: usize = 2000;
/// `GET /auth/me` a second while the logins come.
const BESIDE: f64 = 200.0;

pub async fn run(amounts: &Amounts) -> Result<()> {
    setup::ensure(&[setup::NPM]).await?;
    Peer::install().await?;
    let pinned = move_to_core_1().await?;
    let prefix: &[&str] = if pinned { &["taskset", "-c", "0"] } else { &[] };
    let folder = Workdir::temporary()?;
    let mut postgres = Postgres::start(&folder.join("postgres"), Durability::Full).await?;
    let mut redis = Redis::start(&folder.join("redis")).await?;
    let (database, peers) = (postgres.database("tenantry").await?, postgres.database("peer").await?);
    let binaries = Binaries::built().await?;
    let (program, redis_url) = (&binaries.api, &redis.url);
    let api =
        Api { program, folder: folder.join("api"), database: &database, redis: redis_url, log_level: "warn", prefix };
    api.migrate().await?;
    api.write_tenants(1)?;
    let peer = Peer { database: &peers, redis: redis_url, log: folder.join("peer.log"), tutorial: false, prefix };

    let duration = Duration::from_secs(amounts.seconds);
    println!(
        "\nSigned in and signing in, {} s each; argon2id 64 MiB t=3 p=4; latency from when a request was due",
        amounts.seconds
    );
    println!("{:34}{:>12}{:>10}{:>10}{:>10}{:>10}", "", "requests/s", "of most", "p50 ms", "p95 ms", "p99 ms");
    let ours = Contestant::prepare("Tenantry", api.serve().await?).await?;
    let storm = ours.measure(duration, &[Deed::Me, Deed::Refresh, Deed::Login]).await?;
    drop(ours);
    let express = Contestant::prepare("Express, tuned", peer.serve().await?).await?;
    let theirs = express.measure(duration, &[Deed::Me, Deed::Login]).await?;
    drop(express);
    println!(
        "Beside a wave of logins: Tenantry's GET /auth/me has {:.1} × its quiet p99, Express's {:.1} ×; logins/s {:.1} and {:.1}",
        storm.ratio, theirs.ratio, storm.logins, theirs.logins
    );
    redis.stop().await?;
    postgres.stop().await
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Me,
    Refresh,
    Login,
}

impl Deed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Me => "GET /auth/me",
            Self::Refresh => "POST /auth/refresh",
            Self::Login => "POST /auth/login",
        }
    }
}

/// What a wave of logins does to others.
struct Storm {
    ratio: f64,
    logins: f64,
}

struct Contestant {
    name: &'static str,
    _server: Server,
    caller: Caller,
}

/// Asks a server, as many people.
#[derive(Clone)]
struct Caller {
    client: reqwest::Client,
    url: Arc<str>,
    emails: Arc<Vec<String>>,
    access: Arc<str>,
    /// One of each session; taken while it is exchanged.
    refresh: Arc<Mutex<Vec<String>>>,
    number: Arc<AtomicUsize>,
}

impl Contestant {
    async fn prepare(name: &'static str, server: Server) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let emails = (0..USERS).map(|number| format!("user{number}@bench.example")).collect();
        let mut caller = Caller {
            client,
            url: server.url.clone().into(),
            emails: Arc::new(emails),
            access: "".into(),
            refresh: Arc::default(),
            number: Arc::default(),
        };
        for email in caller.emails.iter() {
            let body = json!({"email": email, "password": PASSWORD, "name": "Ada Lovelace"});
            let answer = caller.post("/auth/register", &body).await?;
            caller.access = answer["accessToken"].as_str().context("an access token")?.into();
            caller.refresh.lock().extend(answer["refreshToken"].as_str().map(str::to_owned));
        }
        Ok(Self { name, _server: server, caller })
    }

    /// Prints a line for each deed at 30 % and 70 % of the most, then looks at what logins do to others.
    async fn measure(&self, duration: Duration, deeds: &[Deed]) -> Result<Storm> {
        for deed in deeds {
            let most = self.caller.closed(*deed, BUSY, duration).await?;
            println!("{:34}{most:>12.0}{:>10}", format!("{}: {}", self.name, deed.as_str()), "the most");
            for percent in [30, 70] {
                let rate = most * f64::from(percent) / 100.0;
                let of = format!("{percent} %");
                let Some(taken) = self.caller.open(*deed, rate, duration).await? else {
                    println!(
                        "{:34}{rate:>12.0}{of:>10}   more than {UNDER_WAY} wait: server and caller share the machine",
                        ""
                    );
                    continue;
                };
                let [p50, p95, p99] = [50, 95, 99].map(|percent| taken.percentile(percent));
                println!("{:34}{rate:>12.0}{of:>10}{p50:>10.1}{p95:>10.1}{p99:>10.1}", "");
            }
        }
        let quiet = self.caller.open(Deed::Me, BESIDE, duration).await?.unwrap_or_default().percentile(99);
        let (beside, logins) = tokio::try_join!(
            self.caller.open(Deed::Me, BESIDE, duration),
            self.caller.closed(Deed::Login, BUSY, duration)
        )?;
        let during = beside.unwrap_or_default().percentile(99);
        let what = format!("{}: me, quiet and in a wave", self.name);
        println!("{what:34}{BESIDE:>12.0}{:>10}{:>10}{quiet:>10.1}{during:>10.1}", "", "");
        Ok(Storm { ratio: during / quiet, logins })
    }
}

impl Caller {
    /// As many as the server answers while `busy` callers ask without a pause: requests a second.
    async fn closed(&self, deed: Deed, busy: usize, duration: Duration) -> Result<f64> {
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        let began = Instant::now();
        for _ in 0..busy {
            let (caller, over, done) = (self.clone(), Arc::clone(&over), Arc::clone(&done));
            callers.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    caller.does(deed).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        tokio::time::sleep(duration).await;
        let (count, elapsed) = (done.load(Ordering::Relaxed), began.elapsed());
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        Ok(count as f64 / elapsed.as_secs_f64())
    }

    /// Requests at an even rate, whether or not the earlier ones are answered: milliseconds of each.
    /// `None` where too many pile up.
    async fn open(&self, deed: Deed, rate: f64, duration: Duration) -> Result<Option<Sample>> {
        let pause = Duration::from_secs_f64(1.0 / rate.max(0.1));
        let (tells, mut dues) = mpsc::unbounded_channel();
        // A thread of its own: the runtime's timers go by the millisecond, which is longer than most answers take.
        thread::spawn(move || {
            let mut due = Instant::now();
            let end = due + duration;
            while due < end && tells.send(due).is_ok() {
                due += pause;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let (mut under_way, mut taken) = (JoinSet::new(), Vec::new());
        while let Some(due) = dues.recv().await {
            let caller = self.clone();
            under_way.spawn(async move { caller.does(deed).await.map(|()| due.elapsed()) });
            while let Some(ended) = under_way.try_join_next() {
                taken.push(ended??);
            }
            if under_way.len() >= UNDER_WAY {
                return Ok(None);
            }
        }
        let rest = async {
            while let Some(ended) = under_way.join_next().await {
                taken.push(ended??);
            }
            anyhow::Ok(())
        };
        timeout(Duration::from_mins(1), rest).await??;
        Ok(Some(taken.into_iter().map(|taken| taken.as_secs_f64() * 1e3).collect()))
    }

    async fn does(&self, deed: Deed) -> Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        match deed {
            Deed::Me => {
                let request = self.client.get(format!("{}/auth/me", self.url)).bearer_auth(&self.access);
                self.send(request).await.map(drop)
            }
            Deed::Login => {
                let email = self.emails.get(number % USERS).context("a user")?;
                self.post("/auth/login", &json!({"email": email, "password": PASSWORD})).await.map(drop)
            }
            Deed::Refresh => {
                let Some(token) = self.refresh.lock().pop() else { bail!("more refreshes at once than sessions") };
                let answer = self.post("/auth/refresh", &json!({"refreshToken": token})).await?;
                self.refresh.lock().push(answer["refreshToken"].as_str().context("a successor")?.to_owned());
                Ok(())
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        // Everybody from an address of their own, as people are.
        let [_, a, b, c] = u32::try_from(self.number.fetch_add(1, Ordering::Relaxed) % 0xff_ffff)?.to_be_bytes();
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        self.send(request.header("x-forwarded-for", format!("100.{a}.{b}.{c}"))).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = request.header("host", hostname(0)).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str::<Value>(&text)?["data"].take())
    }
}

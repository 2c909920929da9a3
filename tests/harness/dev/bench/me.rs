//! What one authenticated, rate-limited request costs: server CPU per `GET /auth/me`, beside the same backend in Express.
//!
//! All servers run at once, on the same PostgreSQL and Redis, and take turns under load, so that what disturbs the machine
//! disturbs them alike. With two cores or more the servers have core 0 to themselves; wrk, PostgreSQL and Redis share core 1.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::{
    binaries::{Binaries, repository},
    postgres::{Durability, Postgres},
    process::find_program,
    redis::Redis,
    workdir::Workdir,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Amounts,
    api::{Api, REQUESTS_A_MINUTE, Server, hostname},
    figures::{Sample, cores, cpu_micros},
    peer::Peer,
    run, setup,
};

const CONNECTIONS: usize = 64;
const WARM_UP_SECONDS: u64 = 2;
const PASSWORD: &str = "Correct-Horse-7";
const OURS: &str = "Tenantry";

pub async fn run(amounts: &Amounts) -> Result<()> {
    setup::ensure(&[setup::WRK, setup::NPM]).await?;
    Peer::install().await?;
    let prefix: &[&str] = if move_to_core_1().await? { &["taskset", "-c", "0"] } else { &[] };

    let folder = Workdir::temporary()?;
    let mut postgres = Postgres::start(&folder.join("postgres"), Durability::Full).await?;
    let mut redis = Redis::start(&folder.join("redis")).await?;
    let (database, peers) = (postgres.database("tenantry").await?, postgres.database("peer").await?);
    let binaries = Binaries::built().await?;
    // The peer logs no requests. What ours costs with its usual log has a line of its own.
    let api = |log_level, name| Api {
        program: &binaries.api,
        folder: folder.join(name),
        database: &database,
        redis: &redis.url,
        log_level,
        prefix,
    };
    let (quiet, logging) = (api("warn", "quiet"), api("info", "logging"));
    quiet.migrate().await?;
    quiet.write_tenants(1)?;
    logging.write_tenants(1)?;
    let peer = |tutorial, log| Peer { database: &peers, redis: &redis.url, log: folder.join(log), tutorial, prefix };
    let mut contestants = [
        Contestant::new(OURS, quiet.serve().await?),
        Contestant::new("Tenantry, logging requests", logging.serve().await?),
        Contestant::new("Express, tuned", peer(false, "tuned.log").serve().await?),
        Contestant::new("Express, tutorial", peer(true, "tutorial.log").serve().await?),
    ];
    for contestant in &mut contestants {
        contestant.register().await?;
        contestant.load(WARM_UP_SECONDS).await?;
    }
    for round in 0..amounts.rounds {
        let mut order: Vec<_> = contestants.iter_mut().collect();
        // There and back again: a drift of the machine adds up to nothing.
        if round % 2 == 1 {
            order.reverse();
        }
        for contestant in order {
            let turn = contestant.load(amounts.seconds).await?;
            contestant.turns.push(turn);
        }
    }
    print(amounts, &contestants, !prefix.is_empty());
    drop(contestants);
    redis.stop().await?;
    postgres.stop().await
}

fn print(amounts: &Amounts, contestants: &[Contestant], pinned: bool) {
    let Amounts { rounds, seconds, .. } = amounts;
    println!("\nGET /auth/me with a rate limit in force: {rounds} turns of {seconds} s each, median (range)");
    println!("{:28}{:>24}{:>26}{:>24}{:>10}", "", "CPU µs/request", "requests/s", "p99 ms", "requests");
    for Contestant { name, turns, .. } in contestants {
        let good = || turns.iter().filter(|turn| !turn.failed);
        let of = |figure: fn(&Turn) -> f64| good().map(figure).collect::<Sample>();
        let (cpu, rate, p99) = (of(|t| t.cpu_micros), of(|t| t.per_second), of(|t| t.p99_ms));
        let requests: f64 = good().map(|turn| turn.requests).sum();
        println!("{name:28}{cpu:>24.1}{rate:>26.0}{p99:>24.1}{requests:>10.0}");
        let failed = turns.iter().filter(|turn| turn.failed).count();
        if failed > 0 {
            println!("  FAILED: {failed} of its turns had requests that failed, and are left out");
        }
    }
    let [ours, others @ ..] = contestants else { return };
    for other in others {
        let pairs = || ours.turns.iter().zip(&other.turns).filter(|(ours, theirs)| !ours.failed && !theirs.failed);
        let cpu: Sample = pairs().map(|(ours, theirs)| theirs.cpu_micros / ours.cpu_micros).collect();
        let rate: Sample = pairs().map(|(ours, theirs)| ours.per_second / theirs.per_second).collect();
        println!("{} against {}: {cpu:.1} × less CPU, {rate:.1} × the requests/s", ours.name, other.name);
    }
    println!(
        "  Server CPU is utime+stime of its process by the requests that wrk counts; a turn counts only if none failed.\n  \
         wrk: 1 thread, {CONNECTIONS} connections, closed loop (so p99 is of a saturated server); loopback, no TLS.\n  \
         Same PostgreSQL, same Redis, argon2id 64 MiB t=3 p=4, {REQUESTS_A_MINUTE} requests a minute and user counted in Redis;\n  \
         tokens: EdDSA here, HS256 there; answers: {}.\n  {}",
        contestants.iter().map(|c| format!("{} B", c.answer_bytes)).collect::<Vec<_>>().join(", "),
        if pinned {
            "Servers on core 0; wrk, PostgreSQL and Redis on core 1, which limits requests/s: CPU is the figure to compare."
        } else {
            "NOT PINNED (one core, or no taskset): all share the same cores."
        }
    );
}

/// Moves this process, and with it all that it is going to start, out of the servers' way.
pub async fn move_to_core_1() -> Result<bool> {
    if cores() < 2 || find_program("taskset", &[]).is_none() {
        return Ok(false);
    }
    let mut taskset = run::program("taskset");
    taskset.args(["-a", "-c", "-p", "1", &std::process::id().to_string()]);
    run::output(taskset).await?;
    Ok(true)
}

struct Contestant {
    name: &'static str,
    server: Server,
    answer_bytes: usize,
    turns: Vec<Turn>,
}

struct Turn {
    /// Some requests were not answered with success: it counts for nothing.
    failed: bool,
    requests: f64,
    cpu_micros: f64,
    per_second: f64,
    p99_ms: f64,
}

/// What report.lua writes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    requests: f64,
    micros: f64,
    errors: f64,
    p99_micros: f64,
}

impl Contestant {
    fn new(name: &'static str, server: Server) -> Self {
        Self { name, server, answer_bytes: 0, turns: vec![] }
    }

    fn email(&self) -> String {
        let words = self.name.to_lowercase().replace(", ", "-").replace(' ', "-");
        format!("{words}@bench.example")
    }

    async fn register(&mut self) -> Result<()> {
        self.tokens("register").await?;
        Ok(())
    }

    /// An access token, by signing up or in.
    async fn tokens(&self, how: &str) -> Result<String> {
        let body = json!({"email": self.email(), "password": PASSWORD, "name": "Ada Lovelace"});
        let request = reqwest::Client::builder().no_proxy().build()?.post(format!("{}/auth/{how}", self.server.url));
        let answer = request.header("host", hostname(0)).json(&body).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{}: {how} gave {status}: {body}", self.name);
        let body: Value = serde_json::from_str(&body)?;
        let token = body["data"]["accessToken"].as_str();
        token.map(str::to_owned).with_context(|| format!("{}: {how} gave no token: {body}", self.name))
    }

    /// One turn: everybody else is idle meanwhile.
    async fn load(&mut self, seconds: u64) -> Result<Turn> {
        let token = self.tokens("login").await?;
        let url = format!("{}/auth/me", self.server.url);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.get(&url).header("host", hostname(0)).bearer_auth(&token).send().await?.text().await?;
        ensure!(answer.contains(&self.email()), "{}: {url} does not know who asks: {answer}", self.name);
        self.answer_bytes = answer.len();

        let script = repository().join("tests/bench/report.lua");
        let pid = self.server.process.pid();
        let before = cpu_micros(pid)?;
        let report = wrk(&script, seconds, &token, &url).await?;
        let spent = cpu_micros(pid)? - before;
        Ok(Turn {
            failed: report.errors > 0.0,
            requests: report.requests,
            cpu_micros: spent / report.requests,
            per_second: report.requests / report.micros * 1e6,
            p99_ms: report.p99_micros / 1e3,
        })
    }
}

async fn wrk(script: &Path, seconds: u64, token: &str, url: &str) -> Result<Report> {
    let mut wrk = run::program("wrk");
    wrk.args(["-t1".into(), format!("-c{CONNECTIONS}"), format!("-d{seconds}s")]);
    wrk.arg("-s").arg(script);
    wrk.args(["-H", &format!("Host: {}", hostname(0)), "-H", &format!("Authorization: Bearer {token}"), url]);
    let output = run::output(wrk).await?;
    let line = output.lines().find(|line| line.starts_with('{'));
    Ok(serde_json::from_str(line.with_context(|| format!("wrk printed no report:\n{output}"))?)?)
}

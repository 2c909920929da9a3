//! Load on a platform: an open loop at a fixed rate, so that a slow answer delays no request but its own; each request that
//! fails is counted with its cause.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use http::StatusCode;
use parking_lot::Mutex;
use reqwest::RequestBuilder;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::User;

/// One request, and the answer that is wanted.
pub struct Call {
    pub what: &'static str,
    pub request: RequestBuilder,
    pub wanted: StatusCode,
}

/// Running load. Dropping it cuts it off.
#[derive(Debug)]
pub struct Load {
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub answered: u64,
    /// By cause.
    pub failed: BTreeMap<String, u64>,
    pub slowest: Duration,
}

impl Load {
    /// `call` is asked for the request of each number. They go out when their time has come, whatever became of others.
    pub fn start(per_second: u32, call: impl Fn(u64) -> Call + Send + 'static) -> Self {
        let (report, stop) = (Arc::new(Mutex::new(Report::default())), CancellationToken::new());
        let task = run(Duration::from_secs(1) / per_second.max(1), call, report.clone(), stop.clone());
        Self { report, stop, task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// What somebody who is signed in does all day: reads, which a proxy may try again elsewhere, and writes, which it may not.
    pub fn of(user: User, per_second: u32) -> Self {
        Self::start(per_second, move |number| {
            if number % 2 == 0 {
                return Call {
                    what: "GET /auth/me",
                    request: user.request(http::Method::GET, "/auth/me"),
                    wanted: StatusCode::OK,
                };
            }
            // Refused by a look into the database, and so an answer as good as any.
            let body = json!({"refreshToken": format!("of-nobody-{number}")});
            let request = user.tenant.request(http::Method::POST, "/auth/refresh").json(&body);
            Call { what: "POST /auth/refresh", request, wanted: StatusCode::UNAUTHORIZED }
        })
    }

    /// So far.
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// Sends nothing more, and waits for the answers to come.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        let _ = (&mut self.task).await;
        self.report()
    }
}

async fn run(pause: Duration, call: impl Fn(u64) -> Call, report: Arc<Mutex<Report>>, stop: CancellationToken) {
    let mut ticks = interval(pause);
    // A machine that was busy elsewhere makes up for what it missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    for number in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let report = report.clone();
        let call = call(number);
        under_way.spawn(async move {
            let began = Instant::now();
            let failure = made(call).await.err();
            let mut report = report.lock();
            report.answered += 1;
            report.slowest = report.slowest.max(began.elapsed());
            if let Some(cause) = failure {
                *report.failed.entry(cause).or_default() += 1;
            }
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

async fn made(call: Call) -> Result<(), String> {
    let response = call.request.send().await.map_err(|error| format!("{}: {}", call.what, root(&error)))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| format!("{}: {}", call.what, root(&error)))?;
    if status == call.wanted { Ok(()) } else { Err(format!("{}: {status}: {}", call.what, short(&text))) }
}

/// The innermost cause: the others only repeat the address.
fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Report {
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// An error that names what failed.
    pub fn nothing_lost(&self) -> Result<()> {
        ensure!(self.failed.is_empty(), "requests were lost: {self}");
        ensure!(self.answered > 0, "there was no load");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed, slowest {} ms", self.answered, self.failures(), self.slowest.as_millis())?;
        self.failed.iter().try_for_each(|(cause, times)| write!(f, "\n  {times} × {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};

    use super::*;

    #[tokio::test]
    async fn what_fails_is_counted_by_its_cause_and_slowness_holds_nobody_up() {
        let slow = get(async || tokio::time::sleep(Duration::from_millis(200)).await);
        let bad = get(async || (StatusCode::BAD_GATEWAY, "no way"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/slow", slow).route("/bad", bad)).await });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let load = Load::start(100, move |number| {
            let path = if number % 2 == 0 { "slow" } else { "bad" };
            Call { what: path, request: client.get(format!("http://{address}/{path}")), wanted: StatusCode::OK }
        });
        crate::wait::until("twenty answers", async || Ok((load.report().answered >= 20).then_some(()))).await.unwrap();
        let report = load.stop().await;
        assert!(report.nothing_lost().unwrap_err().to_string().contains("bad: 502 Bad Gateway: no way"), "{report}");
        assert!(report.failed.len() == 1 && report.failures() <= report.answered.div_ceil(2), "{report}");
    }
}

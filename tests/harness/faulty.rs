//! The real API with one fault, as a bad release has it: for journeys that roll one out. The tag of the image names the fault.

use std::{
    io::Write,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use api_server::{
    app::App,
    management, router, serve,
    settings::{Cli, Command},
    telemetry,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use clap::{Parser, ValueEnum};
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Of answers; in an order that is the same in every run.
const PERCENT_OF_ERRORS: u64 = 30;
/// More than the journeys let an answer take, also on a slow machine.
const SLOWNESS: Duration = Duration::from_secs(3);
/// More than a report of one tenant has.
const REPORT_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// Some requests end in a 500.
    Errors,
    /// Each request takes long.
    Slow,
    /// It never says that it is ready.
    NeverReady,
    /// It ends as soon as it has started.
    Crashing,
    /// It holds a configuration that nobody wants any more.
    StaleConfig,
    /// Its migration cannot be carried out.
    FailedMigration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tenantry-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let fault = std::env::var("TENANTRY_FAULT").context("TENANTRY_FAULT names no fault")?;
    let fault = Fault::from_str(&fault, true).map_err(anyhow::Error::msg)?;
    match Cli::parse().command {
        Command::Serve(settings) if fault != Fault::Crashing => {
            let _telemetry = telemetry::start(&settings.log)?;
            let app = serve::prepare(&settings).await?;
            let (main, management) = (router::router(app.clone()), management::router(app.clone()));
            let (main, management) = with(fault, &app, main, management);
            serve::answer(app, main, management).await
        }
        Command::Serve(_) => bail!("this release cannot start"),
        Command::Migrate(_) if fault == Fault::FailedMigration => {
            bail!("the database could not be migrated: column \"surname\" of relation \"users\" does not exist")
        }
        // The migrations of a bad release are the good one's.
        Command::Migrate(settings) => {
            let options = api_server::infra::db::options(settings.database.database_url.as_deref())?;
            Ok(api_server::infra::db::migrate(options).await?)
        }
        _ => bail!("a faulty release serves and migrates, and does nothing else"),
    }
}

fn with(fault: Fault, app: &App, main: Router, management: Router) -> (Router, Router) {
    match fault {
        Fault::Errors => {
            let (app, number) = (app.clone(), AtomicU64::default());
            let number: &'static AtomicU64 = Box::leak(Box::new(number));
            let fail = from_fn(move |request: Request, next: Next| {
                let app = app.clone();
                async move {
                    let turn = number.fetch_add(1, Ordering::Relaxed);
                    if turn * PERCENT_OF_ERRORS / 100 == (turn + 1) * PERCENT_OF_ERRORS / 100 {
                        return next.run(request).await;
                    }
                    app.metrics.answered(request.method(), "faulty", 500, 0.001);
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                }
            });
            (main.layer(fail), management)
        }
        Fault::Slow => {
            let app = app.clone();
            let dawdle = from_fn(move |request: Request, next: Next| {
                let app = app.clone();
                async move {
                    let (began, method) = (Instant::now(), request.method().clone());
                    sleep(SLOWNESS).await;
                    let response = next.run(request).await;
                    let seconds = began.elapsed().as_secs_f64();
                    app.metrics.answered(&method, "faulty", response.status().as_u16(), seconds);
                    response
                }
            });
            (main.layer(dawdle), management)
        }
        Fault::NeverReady => {
            let refuse = from_fn(async |request: Request, next: Next| {
                if request.uri().path() != "/readyz" {
                    return next.run(request).await;
                }
                (StatusCode::SERVICE_UNAVAILABLE, "not ready, waiting for:\n- better days\n").into_response()
            });
            (main, management.layer(refuse))
        }
        Fault::StaleConfig => (main, management.layer(from_fn(stale))),
        Fault::Crashing | Fault::FailedMigration => (main, management),
    }
}

/// Reports an old revision, in all else as the real one does: a caller that waits for the newest waits in vain.
async fn stale(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/internal/config") {
        return next.run(request).await;
    }
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let bytes = to_bytes(response.into_body(), REPORT_BYTES).await.unwrap_or_default();
    let mut report: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    age(&mut report);
    ([(header::CONTENT_TYPE, "application/json")], Body::from(report.to_string())).into_response()
}

fn age(report: &mut Value) {
    match report {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "revision" && value.is_string() {
                    *value = json!("0000000000000000");
                } else {
                    age(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(age),
        _ => {}
    }
}

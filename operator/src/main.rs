//! The operator's process: parse, telemetry, run.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use kube::{Config, client::ClientBuilder};
use operator::{
    Parts,
    cli::{Cli, Command, Settings},
    metrics::Metrics,
    requests::CountRequests,
};
use telemetry::Telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower::{limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests to the API server that may be under way at once; a watch counts only until it begins.
const REQUESTS: usize = 64;

/// How long the API server may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(30);

// Reconciles run on the main thread, and watches on one beside it: what the operator does is wait for others. Each further
// thread keeps memory of its own, some 12 MB with ten thousand tenants, and without a CPU limit there would be as many
// as the node has cores.
#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    // The first to install one wins, and there is no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tenantry-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Cli { command, settings }: Cli) -> anyhow::Result<()> {
    match command.unwrap_or_default() {
        Command::Crds => print_crds(),
        Command::Run => {
            let _running = telemetry(&settings).start()?;
            let metrics = Metrics::default();
            let client = client(&metrics).await?;
            operator::run_with(Parts { metrics, ..Parts::new(settings, client)? }, on_signal()?).await
        }
        Command::Check(check) => tell(&check.run(client(&Metrics::default()).await?, &settings.pod_namespace).await?),
        Command::ApplyPlatform(apply) => {
            tell(&[apply.run(client(&Metrics::default()).await?, &settings.pod_namespace).await?])
        }
    }
}

fn telemetry(settings: &Settings) -> Telemetry<'_> {
    Telemetry {
        service: "tenantry-operator",
        instance: Some(&settings.pod_name),
        level: &settings.log_level,
        level_variable: "LOG_LEVEL",
        quiet: &[],
        format: settings.log_format,
        endpoint: settings.otlp_endpoint.as_deref(),
    }
}

async fn client(metrics: &Metrics) -> anyhow::Result<kube::Client> {
    Ok(ClientBuilder::try_from(Config::infer().await?)?
        .with_layer(&CountRequests(metrics.clone()))
        .with_layer(&TimeoutLayer::new(ANSWER))
        .with_layer(&ConcurrencyLimitLayer::new(REQUESTS))
        .build())
}

fn tell(sentences: &[String]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for sentence in sentences {
        writeln!(out, "{sentence}")?;
    }
    Ok(())
}

fn print_crds() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for crd in crds::all_crds() {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&crd)?)?;
    }
    Ok(())
}

/// Cancelled by SIGTERM (the kubelet) or SIGINT (a person).
fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("asked to stop");
        cancel.cancel();
    });
    Ok(token)
}

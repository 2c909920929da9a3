//! The operator's process: parse, telemetry, run.

use clap::Parser;
use kube::{Config, client::ClientBuilder};
use operator::{
    cli::{Cli, Command},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower::limit::ConcurrencyLimitLayer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests to the API server that may be under way at once; a watch counts only until it begins.
const REQUESTS: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { command, settings } = Cli::parse();
    match command.unwrap_or_default() {
        Command::Crds => print_crds(),
        Command::Run => {
            // Another provider is installed already only if a library did so, which none here does.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let _telemetry = telemetry::install(&settings)?;
            let client = ClientBuilder::try_from(Config::infer().await?)?
                .with_layer(&ConcurrencyLimitLayer::new(REQUESTS))
                .build();
            operator::run(settings, client, on_signal()?).await
        }
    }
}

fn print_crds() -> anyhow::Result<()> {
    for crd in crds::all_crds() {
        println!("---\n{}", serde_saphyr::to_string(&crd)?);
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

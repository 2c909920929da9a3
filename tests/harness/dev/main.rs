//! `cargo dev`: the developer's front door, made from the harness that the tests use, so there is one way to start things.

mod bench;
mod check;
mod generate;
mod run;
mod setup;
mod test;
mod up;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Parser, Subcommand};

/// Everything that a developer of Tenantry does on one machine.
#[derive(Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Up),
    Test(test::Test),
    /// Formatting, lints, generated files, dependency policy: what must hold before a commit.
    Check,
    /// Write everything that is generated: CRDs and examples, OpenAPI, prepared queries, chart and manifests.
    Gen,
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ncargo dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start() -> Result<()> {
    let cli = Cli::parse();
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| anyhow!("two TLS providers"))?;
    let filter = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "warn,kube_client=off,kube_runtime=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match cli.command {
        Command::Up(up) => up.run().await,
        Command::Test(test) => test.run().await,
        Command::Check => check::run().await,
        Command::Gen => generate::run(generate::Mode::Write).await,
        Command::Bench(bench) => bench.run().await,
    }
}

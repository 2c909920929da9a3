//! Reads the settings, starts telemetry, runs one command.

use std::io::Write;

use anyhow::Context;
use api_server::{
    infra::db,
    router, serve,
    settings::{Cli, Command},
    telemetry,
};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The first to install one wins, and there is no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().command {
        Command::Serve(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            serve::run(*settings).await
        }
        Command::Migrate(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            let options = db::options(settings.database.database_url.as_deref()).context("DATABASE_URL")?;
            db::migrate(options).await.context("the database could not be migrated")?;
            tracing::info!("the database is up to date");
            Ok(())
        }
        Command::Openapi => {
            let document = router::document().to_pretty_json()?;
            writeln!(std::io::stdout(), "{document}")?;
            Ok(())
        }
    }
}

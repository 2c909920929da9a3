//! Reads the settings, starts telemetry, runs one command.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use api_server::{
    infra::{Db, db},
    jobs::{
        login, purge_tenant, redis_users,
        settings::{Admin, Job, JobName},
    },
    openapi, serve,
    settings::{Cli, Command},
    telemetry,
};
use clap::Parser;
use contract::TenantId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // The first to install one wins, and there is no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Box::pin(run(Cli::parse().command)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tenantry-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            serve::run(*settings).await
        }
        Command::Migrate(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            let options = db::options(settings.database.database_url.as_deref()).context("DATABASE_URL")?;
            Box::pin(db::migrate(options)).await.context("the database could not be migrated")?;
            tracing::info!("the database is up to date");
            Ok(())
        }
        Command::Job(Job { name }) => Box::pin(job(name)).await,
        Command::Openapi => {
            write!(std::io::stdout(), "{}", openapi::text()?)?;
            Ok(())
        }
    }
}

async fn job(name: JobName) -> anyhow::Result<()> {
    let admin = |admin: &Admin| db::options(Some(&admin.admin_database_url)).context("TENANTRY_ADMIN_DATABASE_URL");
    match name {
        JobName::PurgeTenant(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            let options = db::options(settings.database.database_url.as_deref()).context("DATABASE_URL")?;
            let db = Db::lazy(options, 1);
            let rows = purge_tenant::purge(&db, TenantId::from_uuid(settings.tenant_id)).await?;
            tracing::info!(tenant.id = %settings.tenant_id, rows, "the tenant's data is gone");
        }
        JobName::ProvisionDatabase(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            let wish = login::Login::parse(&settings.database_url)?;
            login::provision(&admin(&settings.admin)?, &wish, settings.owner.as_deref(), &rand::random()).await?;
            if settings.migrate {
                let options = db::options(Some(&settings.database_url)).context("DATABASE_URL")?;
                Box::pin(db::migrate(options)).await.context("the database could not be migrated")?;
            }
        }
        JobName::RetireLogin(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            login::retire(&admin(&settings.admin)?, &settings.login).await?;
        }
        JobName::DropDatabase(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            let gone = login::Login::parse(&settings.database_url)?;
            login::drop(&admin(&settings.admin)?, &gone.user, &gone.database).await?;
        }
        JobName::SetRedisUsers(settings) => {
            let _telemetry = telemetry::start(&settings.log)?;
            let file = settings.file.display();
            let list = std::fs::read_to_string(&settings.file).with_context(|| format!("--file={file}"))?;
            redis_users::apply(&settings.redis_url, &list).await?;
        }
    }
    Ok(())
}

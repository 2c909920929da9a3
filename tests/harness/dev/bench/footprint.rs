//! How much it takes: start, memory and size of the API server; memory and time of the operator with many tenants.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use harness::{
    Platform,
    binaries::Binaries,
    postgres::{Durability, Postgres},
    process::Signal,
    redis::Redis,
    scale::{APPLIED_AT_ONCE, Crowd, Grown},
    workdir::Workdir,
};
use tokio::time::{sleep, timeout};

use super::{
    Amounts,
    api::Api,
    figures::{Sample, cpu_micros, memory_mib},
};

const SETTLING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(15);

pub async fn run(amounts: &Amounts) -> Result<()> {
    let many = amounts.tenants.unwrap_or(1_000);
    api(&[1, many], amounts.rounds).await?;
    operator(many).await
}

/// Start, memory and size of the API server with so many tenants each.
pub async fn api(tenants: &[usize], rounds: usize) -> Result<()> {
    let folder = Workdir::temporary()?;
    let mut postgres = Postgres::start(&folder.join("postgres"), Durability::Full).await?;
    let mut redis = Redis::start(&folder.join("redis")).await?;
    let database = postgres.database("tenantry").await?;
    let program = Binaries::built().await?.api;
    let size = f64::from(u32::try_from(fs::metadata(&program)?.len())?) / 1024.0 / 1024.0;
    println!("\nAPI server: {size:.1} MiB of binary; {rounds} starts each, median (range)");
    for &tenants in tenants {
        let api = Api {
            program: &program,
            folder: folder.join(format!("{tenants}-tenants")),
            database: &database,
            redis: &redis.url,
            log_level: "info",
            prefix: &[],
        };
        api.write_tenants(tenants)?;
        api.migrate().await?;
        let mut starts = Vec::new();
        for _ in 0..rounds {
            let mut server = api.serve().await?;
            sleep(SETTLING).await;
            starts.push((server.ready_after.as_secs_f64() * 1e3, memory_mib(server.process.pid(), "VmRSS")?));
            server.process.stop(Signal::TERM, Duration::from_secs(10)).await?;
        }
        let (ready, memory): (Vec<_>, Vec<_>) = starts.into_iter().unzip();
        let (ready, memory) = (Sample::from_iter(ready), Sample::from_iter(memory));
        println!("  {tenants:>6} tenants: ready after {ready:.0} ms, {memory:.1} MiB resident when idle");
    }
    println!("  From exec to the first 200 of /readyz, with a migrated PostgreSQL, Redis, and documents in a folder.");
    redis.stop().await?;
    postgres.stop().await
}

async fn operator(tenants: usize) -> Result<()> {
    let mut platform = Platform::with_replicas(1).await?;
    let figures = match timeout(PATIENCE, many_tenants(&mut platform, tenants)).await {
        Ok(figures) => figures,
        Err(late) => Err(late).context("the tenants were not all served in time"),
    };
    let figures = match figures {
        Ok(figures) => figures,
        Err(error) => return Err(platform.explain(error).await),
    };
    println!("\nOperator, {tenants} Tenants applied to {}", platform.control_plane);
    println!("{figures}\n  One replica of the API, {APPLIED_AT_ONCE} applies at once; loopback.");
    platform.stop().await
}

async fn many_tenants(platform: &mut Platform, count: usize) -> Result<String> {
    let mut crowd = Crowd::of(platform);
    let pid = crowd.operator()?;
    let (cpu_before, memory_before) = (cpu_micros(pid)?, memory_mib(pid, "VmRSS")?);
    let Grown { applied, programmed } = crowd.grow(count).await?;
    sleep(SETTLING).await;
    Ok(format!(
        "  all applied after {:.1} s, all Programmed after {:.1} s, with {:.1} s of operator CPU\n  \
         {:.1} MiB resident before, {:.1} MiB after, {:.1} MiB at its peak",
        applied.as_secs_f64(),
        programmed.as_secs_f64(),
        (cpu_micros(pid)? - cpu_before) / 1e6,
        memory_before,
        memory_mib(pid, "VmRSS")?,
        memory_mib(pid, "VmHWM")?,
    ))
}

//! How much it takes: start, memory and size of the API server; memory and time of the operator with many tenants.

use std::{
    collections::HashSet,
    fs,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use crds::{Tenant, conditions::PROGRAMMED};
use futures::{StreamExt, TryStreamExt, stream};
use harness::{
    Platform,
    binaries::Binaries,
    platform::PLATFORM,
    postgres::{Durability, Postgres},
    process::Signal,
    redis::Redis,
    workdir::Workdir,
};
use kube::{
    Api as Objects, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    Amounts,
    api::Api,
    figures::{Sample, cpu_micros, memory_mib},
};

/// Requests in flight, as a GitOps controller would have them.
const APPLIED_AT_ONCE: usize = 16;
const SETTLING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(15);

pub async fn run(amounts: &Amounts) -> Result<()> {
    api(amounts).await?;
    operator(amounts.tenants).await
}

async fn api(amounts: &Amounts) -> Result<()> {
    let folder = Workdir::temporary()?;
    let mut postgres = Postgres::start(&folder.join("postgres"), Durability::Full).await?;
    let mut redis = Redis::start(&folder.join("redis")).await?;
    let database = postgres.database("tenantry").await?;
    let program = Binaries::built().await?.api;
    let size = f64::from(u32::try_from(fs::metadata(&program)?.len())?) / 1024.0 / 1024.0;
    println!("\nAPI server: {size:.1} MiB of binary; {} starts each, median (range)", amounts.rounds);
    for tenants in [1, amounts.tenants] {
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
        for _ in 0..amounts.rounds {
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
    let platform = Platform::with_replicas(1).await?;
    let figures = match timeout(PATIENCE, many_tenants(&platform, tenants)).await {
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

async fn many_tenants(platform: &Platform, count: usize) -> Result<String> {
    let objects: Objects<Tenant> = Objects::namespaced(platform.control_plane.client.clone(), &platform.namespace);
    let pid = platform.operators.first().context("no operator")?.pid();
    let (cpu_before, memory_before) = (cpu_micros(pid)?, memory_mib(pid, "VmRSS")?);
    let began = Instant::now();
    let all_programmed = async {
        let mut programmed = HashSet::new();
        let mut seen = pin!(watcher(objects.clone(), watcher::Config::default()).default_backoff().applied_objects());
        while let Some(tenant) = seen.try_next().await? {
            if is_programmed(&tenant) {
                programmed.insert(tenant.name_any());
            }
            if programmed.len() == count {
                break;
            }
        }
        anyhow::Ok(began.elapsed())
    };
    let all_applied = async {
        let applies = (0..count).map(|number| {
            let name = format!("tenant-{number:05}");
            let spec = json!({"platformRef": {"name": PLATFORM}, "hostnames": [format!("{name}.localhost")]});
            let tenant = json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": spec});
            let objects = objects.clone();
            async move { objects.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&tenant)).await }
        });
        stream::iter(applies).buffer_unordered(APPLIED_AT_ONCE).try_for_each(async |_| Ok(())).await?;
        anyhow::Ok(began.elapsed())
    };
    let (programmed, applied) = tokio::try_join!(all_programmed, all_applied)?;
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

pub fn is_programmed(tenant: &Tenant) -> bool {
    let conditions = tenant.status.iter().flat_map(|status| &status.conditions);
    let generation = tenant.metadata.generation;
    conditions.into_iter().any(|c| c.type_ == PROGRAMMED && c.status == "True" && c.observed_generation == generation)
}

//! The operator: turns custom resources into the configuration that the API serves, and proves that it does.
//!
//! | kind | reconciled by | looked at again when |
//! |---|---|---|
//! | `Platform` | `platform` | its workload, its Secrets, its Tenants or its pods change |
//! | `Tenant` | `tenant` | its bindings, providers, policies, Secrets, document, Platform or the API's pods change |
//! | `RoleBinding`, `PaymentProvider`, `RateLimitPolicy` | the room of that name | itself, its Tenant or what it refers to changes |
//!
//! Every kind's status has one author: its own reconciler. Rendered configuration has one author too: `tenant`.
//! What watches what is written on one page, `controllers`.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod context;
pub mod controllers;
pub mod error;
pub mod events;
pub mod hooks;
pub mod kube_ext;
pub mod leader;
pub mod malformed;
pub mod metrics;
pub mod note;
pub mod payment_provider;
pub mod peers;
pub mod platform;
pub mod queue;
pub mod rate_limit_policy;
pub mod readiness;
pub mod render;
pub mod replicas;
pub mod requests;
pub mod role_binding;
pub mod statuses;
pub mod stores;
pub mod tenant;
pub mod visits;
pub mod watch;

use std::sync::Arc;

use anyhow::Context;
use kube::Client;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Settings,
    clock::{Clock, SystemClock},
    context::Ctx,
    controllers::Queues,
    events::Events,
    kube_ext::{Installed, Standing},
    leader::{Election, Timing},
    malformed::Malformed,
    metrics::Metrics,
    platform::rollout::prometheus::Prometheus,
    readiness::Readiness,
    replicas::Replicas,
    statuses::Statuses,
    stores::Stores,
    tenant::outcome::Outcomes,
};

/// What a process is made with. All of it is the outside world, so that a test can play it.
pub struct Parts {
    pub settings: Settings,
    pub client: Client,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    pub replicas: Replicas,
}

impl Parts {
    /// With the machine's clock, and replicas that are asked over the network.
    pub fn new(settings: Settings, client: Client) -> anyhow::Result<Self> {
        let replicas = Replicas::new(replicas::Http::new()?);
        Ok(Self { settings, client, metrics: Metrics::default(), clock: Arc::new(SystemClock), replicas })
    }
}

/// Runs until `shutdown`; an error means that the process is of no use and should be started anew.
pub async fn run(settings: Settings, client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    run_with(Parts::new(settings, client)?, shutdown).await
}

/// [`run`], with parts of one's own.
pub async fn run_with(parts: Parts, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Parts { settings, client, metrics, clock, replicas } = parts;
    let timing = settings.timing()?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("LISTEN: cannot listen on {}", settings.listen))?;
    tracing::info!(version = contract::version::describe(), address = %listener.local_addr()?, "answering /livez, /readyz and /metrics");

    let (events, publisher) =
        Events::new(client.clone(), contract::names::MANAGED_BY, &settings.pod_name, metrics.clone());
    let stores = Arc::new(Stores::default());
    let ctx = Arc::new(Ctx {
        events,
        client,
        clock,
        settings,
        standing: Standing::default(),
        installed: Installed::new(peers::all()),
        replicas,
        sealing_keys: Mutex::default(),
        prometheus: Prometheus::new()?,
        outcomes: Outcomes::default(),
        malformed: Malformed::default(),
        platform_statuses: Statuses::new(&metrics, &stores, |stores| &stores.platforms),
        tenant_statuses: Statuses::new(&metrics, &stores, |stores| &stores.tenants),
        binding_statuses: Statuses::new(&metrics, &stores, |stores| &stores.role_bindings),
        provider_statuses: Statuses::new(&metrics, &stores, |stores| &stores.payment_providers),
        policy_statuses: Statuses::new(&metrics, &stores, |stores| &stores.rate_limit_policies),
        stores,
        metrics,
    });
    let readiness = Readiness::default();
    let admin = axum::serve(listener, admin::router(ctx.clone(), readiness.clone()))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let admin = async { admin.await.context("the admin server failed") };
    tokio::select! {
        done = async { tokio::try_join!(admin, operate(&ctx, &readiness, timing, &shutdown)) } => done.map(drop),
        () = publisher.run() => Ok(()),
    }
}

/// Waits for the kinds, fills the shelves, and reconciles while leading.
async fn operate(
    ctx: &Arc<Ctx>,
    readiness: &Readiness,
    timing: Timing,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let queues = Arc::new(Queues::new(&ctx.metrics));
    let kinds = readiness::kinds_are_served(&ctx.client, readiness);
    if shutdown.run_until_cancelled(kinds).await.is_none() {
        return Ok(());
    }
    let mut watches = controllers::watch_all(ctx, &queues, readiness);
    let work = async {
        // Ready only with full shelves: a document rendered from half of the bindings would revoke the other half.
        shutdown.run_until_cancelled(readiness.ready()).await?;
        tracing::info!("ready");
        if ctx.settings.leader_election {
            lead(ctx, &queues, timing, shutdown).await
        } else {
            ctx.metrics.leading(true);
            visits::run(ctx.clone(), queues.clone(), shutdown.cancelled()).await;
            Some(())
        }
    };
    tokio::select! {
        _ = work => Ok(()),
        // A watch has no end; without it we would go on with what was true once.
        ended = watches.join_next() => Err(anyhow::anyhow!("a watch ended: {ended:?}")),
    }
}

/// Term after term, until the process is asked to stop.
async fn lead(ctx: &Arc<Ctx>, queues: &Arc<Queues>, timing: Timing, shutdown: &CancellationToken) -> Option<()> {
    let (namespace, pod) = (&ctx.settings.pod_namespace, &ctx.settings.pod_name);
    let mut election = Election::new(ctx.client.clone(), namespace, pod, timing, ctx.clock.clone());
    loop {
        let mut term = shutdown.run_until_cancelled(election.acquire()).await?;
        ctx.metrics.leading(true);
        let finished = {
            // Dropped with the term: what a former leader still had in mind is not done.
            let controllers = visits::run(ctx.clone(), queues.clone(), shutdown.cancelled());
            tokio::select! {
                () = controllers => true,
                () = election.keep(&mut term) => false,
            }
        };
        ctx.metrics.leading(false);
        if finished {
            election.release(term).await;
            return Some(());
        }
    }
}

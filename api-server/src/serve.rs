//! Start, readiness, drain.

use std::{fs, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::{Router, serve::ListenerExt};
use contract::seal::SealingKey;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    app::{App, Foundation},
    features::payments::Transport,
    infra::{Clock, Db, Redis, db},
    management,
    metrics::Metrics,
    router,
    settings::{Serve, TenantSource},
    tenancy::{cache::Cache, source_dir, source_kube},
};

/// Requests that are still worked on this long after the end of accepting are cut off.
const LAST_REQUESTS: Duration = Duration::from_secs(25);
/// A start does not wait longer for a database that is away: readiness does.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, and then until the requests in flight are answered.
pub async fn run(settings: Serve) -> anyhow::Result<()> {
    let app = prepare(&settings).await?;
    let (main, management) = (router::router(app.clone()), management::router(app.clone()));
    answer(app, main, management).await
}

/// Everything that serving needs; the tenants are followed from now on.
pub async fn prepare(settings: &Serve) -> anyhow::Result<App> {
    let options = db::options(settings.database.database_url.as_deref()).context("DATABASE_URL")?;
    match timeout(FIRST_LOOK, Db::verify_role(&options)).await {
        Ok(Err(sqlx::Error::Configuration(error))) => bail!("DATABASE_URL: {error}"),
        Ok(Err(error)) => tracing::warn!(%error, "PostgreSQL does not answer yet"),
        Err(_) => tracing::warn!("PostgreSQL does not answer yet"),
        Ok(Ok(())) => {}
    }
    let app = build(settings, options)?;
    app.limiter.prepare().await;
    follow_tenants(&app, settings.tenants.clone()).await?;
    Ok(app)
}

/// Answers on both ports until it is told to stop.
pub async fn answer(app: App, main: Router, management: Router) -> anyhow::Result<()> {
    let (address, management_address) = (app.http.address(), app.http.management_address());
    let main_listener =
        TcpListener::bind(address).await.with_context(|| format!("TENANTRY_PORT: cannot listen on {address}"))?;
    let management_listener = TcpListener::bind(management_address).await;
    let management_listener = management_listener
        .with_context(|| format!("TENANTRY_MANAGEMENT_PORT: cannot listen on {management_address}"))?;
    tracing::info!(version = contract::version::describe(), %address, management = %management_address, "listening");

    let (stop, stopped) = watch::channel(false);
    let management = tokio::spawn(listen(management_listener, management, until(stopped.clone())));
    let main = tokio::spawn(listen(main_listener, main, until(stopped)));

    terminated().await?;
    tracing::info!(seconds = app.http.drain_seconds, "stopping: not ready any more");
    app.health.drain();
    sleep(app.http.drain()).await;
    stop.send_replace(true);
    if timeout(LAST_REQUESTS, main).await.is_err() {
        tracing::warn!(in_flight = app.metrics.in_flight.get(), "requests were cut off after {LAST_REQUESTS:?}");
    }
    management.abort();
    app.db.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn build(settings: &Serve, options: PgConnectOptions) -> anyhow::Result<App> {
    let clock = Clock::system();
    let file = settings.tenants.sealing_key_file.display();
    let key =
        fs::read(&settings.tenants.sealing_key_file).with_context(|| format!("TENANTRY_SEALING_KEY_FILE={file}"))?;
    let sealing_key = SealingKey::new(&key).with_context(|| format!("TENANTRY_SEALING_KEY_FILE={file}"))?;
    let prefix = match settings.tenants.platform.as_str() {
        "" => String::new(),
        platform => format!("{platform}:"),
    };
    let metrics = Metrics::new();
    metrics.started_at.set(clock.now().as_duration().as_secs_f64());
    Ok(App::new(Foundation {
        http: settings.http.clone(),
        db: Db::lazy(options, settings.database.database_connections),
        redis: Redis::lazy(&settings.redis_url, prefix).context("REDIS_URL")?,
        clock,
        sealing_key,
        metrics: Arc::new(metrics),
        transport: Transport::new(Transport::PAUSE).context("no TLS for calls to payment providers")?,
    }))
}

/// Begins to follow the source of tenants, for as long as the process lives.
async fn follow_tenants(app: &App, source: TenantSource) -> anyhow::Result<()> {
    let app = app.clone();
    if let Some(folder) = source.config_dir {
        tokio::spawn(source_dir::run(app, folder));
        return Ok(());
    }
    let Some(namespace) = source.namespace.filter(|_| !source.platform.is_empty()) else {
        bail!("give TENANTRY_PLATFORM and TENANTRY_NAMESPACE, or TENANTRY_CONFIG_DIR to read tenants from a folder");
    };
    let cache = Cache::new(source.cache_dir);
    let client = kube::Client::try_default().await.context("no access to Kubernetes is configured")?;
    let platform = source.platform;
    tokio::spawn(async move { source_kube::run(app, client, &namespace, &platform, cache).await });
    Ok(())
}

/// Serves `router` until `stop` ends, then answers what is in flight.
async fn listen(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // An answer is one write: waiting to fill a packet only makes it late.
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn terminated() -> anyhow::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::Semaphore,
    };

    use super::*;

    #[tokio::test]
    async fn a_request_in_flight_is_answered_before_the_end() {
        let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go_on));
        let slow = get(async move || {
            tell.add_permits(1);
            let _ = wait.acquire().await;
            "done"
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(listen(listener, Router::new().route("/", slow), until(stopped)));

        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let _ = begun.acquire().await.unwrap();
        stop.send_replace(true);
        // Nobody is let in any more, once the listener has noticed.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        go_on.add_permits(1);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
        serving.await.unwrap().unwrap();
    }
}

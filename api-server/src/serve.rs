//! Start, readiness, drain.

use std::{fs, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::{Router, body::Body, extract::ConnectInfo};
use contract::seal::SealingKey;
use futures::{
    FutureExt,
    future::{Either, select},
};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    app::{App, Foundation},
    features::{
        mail::{Smtp, sender},
        payments::Transport,
        realtime,
    },
    infra::{Clock, Db, Outbound, Redis, db},
    management,
    metrics::Metrics,
    router,
    settings::{Serve, TenantSource},
    tenancy::{cache::Cache, source_dir, source_kube},
};

/// Requests that are still worked on this long after the end of accepting are cut off: a payment provider may take a minute.
const LAST_REQUESTS: Duration = Duration::from_secs(70);
/// The mails in hand may take this long, most of which passes beside the last requests.
const LAST_MAILS: Duration = Duration::from_secs(5);
/// Open sockets are told, and closed, within this; their clients come back to other replicas.
const LAST_SOCKETS: Duration = Duration::from_secs(2);
/// How long a connection that says nothing is kept after the end of accepting: its request may be on the way.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Between two attempts to accept where the first failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
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
    let mails = tokio::spawn(sender::run(app.clone(), until(stopped.clone())));
    let sockets = tokio::spawn(realtime::run(app.clone(), until(stopped.clone())));
    let main = tokio::spawn(listen(main_listener, main, until(stopped)));

    terminated().await?;
    tracing::info!(seconds = app.http.drain_seconds, "stopping: not ready any more");
    app.health.drain();
    sleep(app.http.drain()).await;
    stop.send_replace(true);
    let (sockets, main) = tokio::join!(timeout(LAST_SOCKETS, sockets), timeout(LAST_REQUESTS, main));
    if sockets.is_err() {
        tracing::warn!("open sockets were cut off after {LAST_SOCKETS:?}");
    }
    if main.is_err() {
        tracing::warn!(in_flight = app.metrics.in_flight.get(), "requests were cut off after {LAST_REQUESTS:?}");
    }
    // Mails in hand are finished, or they would be sent twice.
    if timeout(LAST_MAILS, mails).await.is_err() {
        tracing::warn!("mails in hand were cut off after {LAST_MAILS:?}: they may be sent again");
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
    let outbound = Outbound::new().context("no TLS for calls to other services")?;
    let metrics = Metrics::new();
    metrics.started_at.set(clock.now().as_duration().as_secs_f64());
    Ok(App::new(Foundation {
        http: settings.http.clone(),
        db: Db::lazy(options, settings.database.database_connections),
        redis: Redis::lazy(&settings.redis.url(), prefix).context("REDIS_URL")?,
        clock,
        sealing_key,
        metrics: Arc::new(metrics),
        transport: Transport::new(outbound.clone(), Transport::PAUSE),
        outbound,
        smtp: Smtp::new(&settings.mail)?,
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

/// Serves `router` until `stop` ends, then answers what is in flight, and what is on its way: a connection that was taken
/// has a moment to bring its request. axum's own server closes such a connection at once, and the caller cannot tell
/// whether its request was worked on.
async fn listen(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let mut stop = pin!(stop);
    let (finish, finishing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let take = |accepted: std::io::Result<(TcpStream, SocketAddr)>, connections: &mut JoinSet<()>| {
        if let Ok((stream, peer)) = accepted {
            connections.spawn(converse(stream, peer, router.clone(), until(finishing.clone())));
        }
    };
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => {
                if accepted.is_err() {
                    // Out of file descriptors, mostly: some connection has to end first.
                    sleep(ACCEPT_PAUSE).await;
                }
                take(accepted, &mut connections);
            }
            Some(_) = connections.join_next() => {}
        }
    }
    // Who is in the queue was let in by the kernel already.
    while let Some(accepted) = listener.accept().now_or_never() {
        take(accepted, &mut connections);
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_WORD, all_gone).await.is_err() {
        finish.send_replace(true);
        while connections.join_next().await.is_some() {}
    }
    Ok(())
}

/// One connection: HTTP/1.1 or HTTP/2, as the caller begins it. After `finish` it ends with the answer under way.
async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, finish: impl Future<Output = ()>) {
    // An answer is one write: waiting to fill a packet only makes it late.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // For WebSockets over HTTP/2.
    builder.http2().enable_connect_protocol();
    let mut conversation = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let (ended, finish) = (conversation.as_mut(), pin!(finish));
    match select(ended, finish).await {
        // The caller hung up, or broke the protocol: nobody is left to tell.
        Either::Left(_) => {}
        Either::Right(((), _)) => {
            conversation.as_mut().graceful_shutdown();
            let _ = conversation.await;
        }
    }
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
        sync::Semaphore,
    };

    use super::*;

    /// Callers that keep their connections and never pause, as a proxy does; each goes on until it is refused.
    async fn calls(client: reqwest::Client, address: SocketAddr, closing: Arc<Semaphore>) -> usize {
        let mut answered = 0;
        loop {
            let url = format!("http://{address}/api/v1/auth/login");
            let body = serde_json::json!({ "email": "nobody@acme.test", "password": "wrong" });
            match client.post(url).header("host", "acme.test").json(&body).send().await {
                Ok(answer) => {
                    let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
                    assert!(!answer.bytes().await.unwrap().is_empty());
                    if closes {
                        closing.add_permits(1);
                    }
                    answered += 1;
                }
                // Nobody was there to take it: it may be sent elsewhere.
                Err(error) if error.is_connect() => return answered,
                Err(error) => panic!("a request was taken and lost: {error:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_under_load_loses_no_request() {
        const CALLERS: u32 = 4;
        let world = crate::testing::TestApp::new().await;
        for _ in 0..10 {
            let app = world.replica();
            app.serve(&app.tenant("acme"));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = watch::channel(false);
            let serving = tokio::spawn(listen(listener, router::router(app.app.clone()), until(stopped)));
            let closing = Arc::new(Semaphore::new(0));
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let client = reqwest::Client::builder().no_proxy().build().unwrap();
                    tokio::spawn(calls(client, address, Arc::clone(&closing)))
                })
                .collect();
            while app.app.metrics.in_flight.get() == 0 {
                tokio::task::yield_now().await;
            }
            app.app.health.drain();
            // Everybody was told that the connection is the last, and comes back on a new one as long as it is taken.
            let _ = closing.acquire_many(CALLERS * 2).await.unwrap();
            stop.send_replace(true);
            serving.await.unwrap().unwrap();
            for caller in callers {
                assert!(caller.await.unwrap() > 0);
            }
        }
    }

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

//! Starting and stopping, and the handle that whoever started it holds.

use std::{io, sync::Arc};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Options, api::Api, gc, http};

/// The server, before it runs.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropping the handle stops it; [`Handle::shutdown`] also waits until it is gone.
#[derive(Debug)]
pub struct Handle {
    url: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    api: Arc<Api>,
    router: Router,
}

impl Server {
    /// Loads what the data directory holds, then listens. Requests are answered as soon as this returns.
    pub async fn start(options: Options) -> io::Result<Handle> {
        let (api, changes) = Api::open(&options)?;
        let listener = TcpListener::bind(options.addr).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let router = http::router(api.clone(), stop.clone(), options.bookmark_interval);
        let serve = tokio::spawn(accept(listener, router.clone(), stop.clone()));
        let collect = tokio::spawn(gc::run(api.clone(), changes, stop.clone()));
        Ok(Handle { url, stop, tasks: vec![serve, collect], api, router })
    }
}

/// Accepts until stopped, then cuts every connection: a control plane that is gone does not answer on a kept-alive one.
async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, router.clone(), stop.clone())); }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // A watch event is a small write and must leave at once; Nagle would hold it back.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        () = stop.cancelled() => {}
        served = serving => if let Err(error) = served { tracing::debug!(%error, "a connection ended early") },
    }
}

impl Handle {
    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same server without a network in between: for tests whose time is virtual, or who stand on the wire.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// A kubeconfig (YAML) whose only context points here.
    pub fn kubeconfig(&self) -> String {
        let url = &self.url;
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: tenantry\n\
             clusters:\n- name: tenantry\n  cluster: {{server: \"{url}\"}}\n\
             users:\n- name: tenantry\n  user: {{}}\n\
             contexts:\n- name: tenantry\n  context: {{cluster: tenantry, user: tenantry, namespace: default}}\n"
        )
    }

    /// Forgets all history, as etcd's compaction does: a watch from an older version gets `410 Gone`.
    pub fn compact(&self) {
        self.api.store.compact();
    }

    /// Stops answering, cuts every connection and waits until the port is free.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the API server ended badly");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

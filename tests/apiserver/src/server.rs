//! Starting and stopping, and the handle that whoever started it holds.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, header},
    middleware,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Options, api::Api, audit::Record, certificate::Certificate, gc, http};

/// The server, before it runs.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropping the handle stops it; [`Handle::shutdown`] also waits until it is gone.
#[derive(Debug)]
pub struct Handle {
    url: String,
    certificate: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    api: Arc<Api>,
    router: Router,
}

impl Server {
    /// Loads what the data directory holds, then listens. Requests are answered as soon as this returns.
    pub async fn start(options: Options) -> io::Result<Handle> {
        let (api, changes) = Api::open(&options)?;
        let Certificate { pem: certificate, acceptor } = Certificate::open(options.data_dir.as_deref())?;
        let listener = TcpListener::bind(options.addr).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let router = http::router(http::Wire {
            api: api.clone(),
            stop: stop.clone(),
            bookmark_interval: options.bookmark_interval,
            logs: options.logs.map(Arc::from),
        });
        let serve = tokio::spawn(accept(listener, acceptor, router.clone(), stop.clone()));
        let collect = tokio::spawn(gc::run(api.clone(), changes, stop.clone()));
        Ok(Handle { url, certificate, stop, tasks: vec![serve, collect], api, router })
    }
}

/// Accepts until stopped, then cuts every connection: a control plane that is gone does not answer on a kept-alive one.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, acceptor.clone(), router.clone(), stop.clone())); }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The first byte of a TLS connection: a handshake.
const HANDSHAKE: u8 = 0x16;

/// TLS and plain HTTP at the same port: whoever begins with a handshake means TLS.
async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    // A watch event is a small write and must leave at once; Nagle would hold it back.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let serving = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first == [HANDSHAKE] => match acceptor.accept(stream).await {
                Ok(stream) => serve(stream, router).await,
                Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
            },
            Ok(1) => serve(stream, router).await,
            _ => {}
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = serving => {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let builder = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

impl Handle {
    /// `http://127.0.0.1:<port>`; the same port speaks TLS too.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same server without a network in between: for tests whose time is virtual, or who stand on the wire. Whoever shows no
    /// token there is the administrator.
    pub fn router(&self) -> Router {
        let token = HeaderValue::from_str(&format!("Bearer {}", self.token())).ok();
        self.router.clone().layer(middleware::map_request(move |mut request: Request| {
            if let Some(token) = token.clone() {
                request.headers_mut().entry(header::AUTHORIZATION).or_insert(token);
            }
            std::future::ready(request)
        }))
    }

    /// What the administrator shows as bearer token.
    pub fn token(&self) -> &str {
        &self.api.tokens.admin
    }

    /// Every kind of request so far, with how often it came.
    pub fn audit(&self) -> Vec<(Record, u64)> {
        self.api.audit.records()
    }

    /// A kubeconfig (YAML) whose only context points here, for the administrator.
    pub fn kubeconfig(&self) -> String {
        let (url, token) = (self.url.replacen("http:", "https:", 1), self.token());
        let authority = STANDARD.encode(&self.certificate);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: tenantry\n\
             clusters:\n- name: tenantry\n  cluster: {{server: \"{url}\", certificate-authority-data: {authority}}}\n\
             users:\n- name: tenantry\n  user: {{token: \"{token}\"}}\n\
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

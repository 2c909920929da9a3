//! The ingress controller of a machine without one: a reverse proxy on one port.
//!
//! It routes by the Ingress objects' hosts and paths to the Services' ready pods, keeps the Host header (that is how the
//! API finds the tenant), adds `X-Forwarded-*` as a trusted proxy does, and says in words why a request went nowhere.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use k8s_openapi::api::{
    core::v1::{Pod, Service, ServicePort},
    networking::v1::{HTTPIngressPath, Ingress as IngressObject},
};
use kube::{
    Api, Client as KubeClient, ResourceExt,
    runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
};
use tokio::{io::copy_bidirectional, net::TcpListener};
use tokio_util::task::AbortOnDropHandle;

use crate::node::endpoints;

/// More than any request of the API; the body is kept to try another pod when one has just gone.
const BODY_LIMIT: usize = 64 << 20;

/// Meant for one hop only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

type Answer = Response<Either<Incoming, Full<Bytes>>>;

#[derive(Debug)]
pub struct Ingress {
    pub address: SocketAddr,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Ingress {
    /// `namespace: None` serves all; port 0 takes a free one.
    pub async fn start(client: &KubeClient, namespace: Option<&str>, port: u16) -> Result<Self> {
        Self::of(client, namespace, port, None).await
    }

    /// A door to one Service under every host, as `kubectl port-forward` opens one.
    pub async fn to_service(client: &KubeClient, namespace: &str, service: &str) -> Result<Self> {
        Self::of(client, Some(namespace), 0, Some(service.to_owned())).await
    }

    async fn of(client: &KubeClient, namespace: Option<&str>, port: u16, only: Option<String>) -> Result<Self> {
        let (ingresses, first) = follow(api::<IngressObject>(client, namespace));
        let (services, second) = follow(api::<Service>(client, namespace));
        let (pods, third) = follow(api::<Pod>(client, namespace));
        let table = Table { ingresses, services, pods, only, turn: AtomicUsize::default() };

        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .with_context(|| format!("the ingress cannot listen on port {port}"))?;
        let address = listener.local_addr()?;
        let proxy = Arc::new(Proxy { table, client: upstream_client() });
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, proxy)));
        Ok(Self { address, _tasks: vec![first, second, third, server] })
    }
}

fn api<K>(client: &KubeClient, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn follow<K>(api: Api<K>) -> (Store<K>, AbortOnDropHandle<()>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let events = reflector(writer, watcher(api, watcher::Config::default())).default_backoff();
    // A lost watch is begun anew by the watcher; until then the table stays as it was.
    let task = tokio::spawn(events.for_each(async |_| ()));
    (reader, AbortOnDropHandle::new(task))
}

fn upstream_client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(2)));
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn serve(listener: TcpListener, proxy: Arc<Proxy>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = hyper::service::service_fn(move |request| {
                let proxy = proxy.clone();
                async move { Ok::<_, Infallible>(proxy.forward(request, peer.ip()).await) }
            });
            // The caller hung up: nobody is left to tell.
            let _ =
                Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

struct Proxy {
    table: Table,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Proxy {
    async fn forward(&self, mut request: Request<Incoming>, peer: IpAddr) -> Answer {
        let host = host(&request);
        let targets = match self.table.route(&host, request.uri().path()) {
            Ok(targets) => targets,
            Err((status, text)) => return answer(status, text),
        };
        let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        rewrite(&mut parts.headers, &host, peer, upgrade.is_some());
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await.map(http_body_util::Collected::to_bytes) else {
            return answer(StatusCode::PAYLOAD_TOO_LARGE, "ingress: the body broke off or is too large".into());
        };

        let mut failure = String::new();
        for target in targets {
            let mut attempt = Request::new(Full::new(body.clone()));
            *attempt.method_mut() = parts.method.clone();
            *attempt.headers_mut() = parts.headers.clone();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            match format!("http://{target}{path}").parse::<Uri>() {
                Ok(uri) => *attempt.uri_mut() = uri,
                Err(error) => return answer(StatusCode::BAD_REQUEST, format!("ingress: {path}: {error}")),
            }
            match self.client.request(attempt).await {
                Ok(response) => return pass_on(response, upgrade),
                // What never arrived, or may be repeated without harm, is tried at the next pod.
                Err(error) if error.is_connect() || matches!(parts.method, Method::GET | Method::HEAD) => {
                    failure = format!("{target}: {error}");
                }
                Err(error) => return answer(StatusCode::BAD_GATEWAY, format!("ingress: {target}: {error}")),
            }
        }
        answer(StatusCode::BAD_GATEWAY, format!("ingress: no pod took the request; the last said: {failure}"))
    }
}

/// Without port: `Host` of HTTP/1.1, `:authority` of HTTP/2.
fn host<B>(request: &Request<B>) -> String {
    let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = named.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    authority
        .unwrap_or_default()
        .rsplit_once(':')
        .map_or(authority.unwrap_or_default(), |(host, _)| host)
        .to_lowercase()
}

fn rewrite(headers: &mut HeaderMap, host: &str, peer: IpAddr, upgrade: bool) {
    let protocol = headers.get(header::UPGRADE).cloned();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if let (true, Some(protocol)) = (upgrade, protocol) {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // Set, not appended: what a caller claims about itself ends here.
    for (name, value) in [("x-forwarded-for", peer.to_string()), ("x-forwarded-host", host.into())] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("http"));
}

fn pass_on(mut response: Response<Incoming>, upgrade: Option<hyper::upgrade::OnUpgrade>) -> Answer {
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(downstream)) = (response.status(), upgrade) {
        let upstream = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let Ok((upstream, downstream)) = futures::future::try_join(upstream, downstream).await {
                // Either side may end the conversation.
                let _ = copy_bidirectional(&mut TokioIo::new(upstream), &mut TokioIo::new(downstream)).await;
            }
        });
    } else {
        for name in HOP_BY_HOP {
            response.headers_mut().remove(name);
        }
    }
    response.map(Either::Left)
}

fn answer(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(text + "\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// What leads where, as the watches last told.
struct Table {
    ingresses: Store<IngressObject>,
    services: Store<Service>,
    pods: Store<Pod>,
    /// Whatever the Ingresses say, this Service.
    only: Option<String>,
    turn: AtomicUsize,
}

impl Table {
    /// The ready pods behind host and path, beginning with the one whose turn it is.
    fn route(&self, host: &str, path: &str) -> Result<Vec<SocketAddr>, (StatusCode, String)> {
        if let Some(name) = &self.only {
            return self.pods_of(|service| service.name_any() == *name, name, |_| true);
        }
        let ingresses = self.ingresses.state();
        let Some((namespace, backend)) = best_match(&ingresses, host, path) else {
            let known = hosts(&ingresses).join(", ");
            return Err((
                StatusCode::NOT_FOUND,
                format!("ingress: no Ingress names the host `{host}`; known: {known}"),
            ));
        };
        let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("ingress: {why}"));
        let Some(wanted) = &backend.backend.service else {
            return Err(unavailable(format!("the path {:?} of `{host}` names no Service", backend.path)));
        };
        let port = wanted.port.as_ref();
        self.pods_of(
            |service| service.name_any() == wanted.name && service.namespace().as_deref() == namespace,
            &wanted.name,
            |candidate| match port {
                Some(port) => {
                    port.number == Some(candidate.port) || (port.name.is_some() && port.name == candidate.name)
                }
                None => true,
            },
        )
    }

    fn pods_of(
        &self,
        is_wanted: impl Fn(&Service) -> bool,
        name: &str,
        port: impl Fn(&ServicePort) -> bool,
    ) -> Result<Vec<SocketAddr>, (StatusCode, String)> {
        let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("ingress: {why}"));
        let services = self.services.state();
        let Some(service) = services.iter().find(|service| is_wanted(service)) else {
            return Err(unavailable(format!("there is no Service {name}")));
        };
        let mut targets = endpoints::ready(service, &self.pods.state(), port);
        if targets.is_empty() {
            return Err(unavailable(format!("Service {name} has no ready pod")));
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % targets.len();
        targets.rotate_left(first);
        Ok(targets)
    }
}

/// The longest path of the most specific host, as the Ingress API describes.
fn best_match<'a>(
    ingresses: &'a [Arc<IngressObject>],
    host: &str,
    path: &str,
) -> Option<(Option<&'a str>, &'a HTTPIngressPath)> {
    ingresses
        .iter()
        .flat_map(|ingress| {
            let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
            rules.map(move |rule| (ingress.metadata.namespace.as_deref(), rule))
        })
        .filter_map(|(namespace, rule)| Some((namespace, rule, host_rank(rule.host.as_deref(), host)?)))
        .flat_map(|(namespace, rule, rank)| {
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            paths.map(move |candidate| (namespace, rank, candidate))
        })
        .filter_map(|(namespace, rank, candidate)| Some((namespace, (rank, path_rank(candidate, path)?), candidate)))
        .max_by_key(|(_, rank, _)| *rank)
        .map(|(namespace, _, candidate)| (namespace, candidate))
}

/// Exact before wildcard (one label, as the API says) before any.
fn host_rank(rule: Option<&str>, host: &str) -> Option<u8> {
    match rule {
        None | Some("") => Some(0),
        Some(rule) if rule == host => Some(2),
        Some(rule) => {
            let parent = rule.strip_prefix("*.")?;
            (host.split_once('.')?.1 == parent).then_some(1)
        }
    }
}

fn path_rank(candidate: &HTTPIngressPath, path: &str) -> Option<usize> {
    let wanted = candidate.path.as_deref().unwrap_or("/");
    let matches = if candidate.path_type == "Exact" {
        path == wanted
    } else {
        let rest = path.strip_prefix(wanted.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    matches.then_some(wanted.len())
}

fn hosts(ingresses: &[Arc<IngressObject>]) -> Vec<&str> {
    let rules = ingresses.iter().filter_map(|ingress| ingress.spec.as_ref()?.rules.as_ref()).flatten();
    rules.filter_map(|rule| rule.host.as_deref()).collect()
}

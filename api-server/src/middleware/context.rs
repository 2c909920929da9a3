//! The request's id, its log line, its trace and its place in the metrics.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Once,
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use prometheus_client::metrics::gauge::Gauge;
use tracing::Instrument;
use uuid::Uuid;

use super::{Client, Scope};
use crate::{app::App, settings::Cidr, telemetry};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const MAX_REQUEST_ID: usize = 128;

pub async fn begin(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = InFlight::enter(&app.metrics.in_flight);
    let scope = Scope::new(
        request_id(request.headers()),
        request.uri().path().to_owned(),
        client(&request, &app.http.trusted_proxies),
    );
    let (method, version) = (request.method().clone(), request.version());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    // Few fields: each is written out for every request, whether or not anything is logged within.
    let span = tracing::info_span!("request", otel.name = %format_args!("{method} {route}"), otel.kind = "server", request_id = scope.request_id());
    telemetry::continue_trace(&span, request.headers());
    request.extensions_mut().insert(scope.clone());

    let mut response = next.run(request).instrument(span.clone()).await;

    if let Ok(id) = HeaderValue::from_str(scope.request_id()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    // While draining: the caller's next request goes to another replica, and no connection is left to be cut at the end.
    // HTTP/2 has no such header; its connections are told when accepting ends, by a GOAWAY that loses nothing.
    // A connection that becomes a WebSocket is told on its own.
    let closes = version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS;
    if closes && app.health.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, elapsed) = (response.status(), started.elapsed());
    app.metrics.answered(&method, route, status.as_u16(), elapsed.as_secs_f64());
    let (tenant, user) = (scope.tenant().map(|tenant| tenant.name.as_str()), scope.user().map(|user| user.id));
    tracing::info!(
        request_id = scope.request_id(),
        %method,
        route,
        status = status.as_u16(),
        duration_ms = elapsed.as_secs_f64() * 1_000.0,
        tenant,
        user = user.map(tracing::field::display),
        "answered"
    );
    telemetry::describe(&span, &method, route, status, tenant, user);
    response
}

/// The caller's id where it is a plain word, so that one id follows a request through several systems; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let plain = |id: &&str| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given.filter(plain).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The peer, or what a trusted proxy says: the last address of `X-Forwarded-For` that is not itself a trusted proxy.
/// Whatever stands left of it was written by the caller.
fn client(request: &Request, trusted: &[Cidr]) -> Client {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip().to_canonical());
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let headers = request.headers();
    if !is_trusted(peer) {
        let behind_proxy = headers.contains_key(FORWARDED_FOR) && is_internal(peer);
        if behind_proxy {
            warn_once(peer);
        }
        return Client { ip: peer, behind_proxy };
    }
    let forwarded = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<_> = forwarded.flat_map(|value| value.split(',')).map(|hop| hop.trim().parse::<IpAddr>()).collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        // What cannot be read was not written by a proxy of ours.
        let Ok(hop) = hop else { break };
        client = hop.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    Client { ip: client, behind_proxy: false }
}

/// An address of a cluster or of this machine: no caller from outside has one, but a proxy in front of us does.
fn is_internal(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

fn warn_once(proxy: IpAddr) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            %proxy,
            "requests come through a proxy that is not trusted, so all callers have its address, in limits and in the audit too: \
             name its network in spec.api.trustedProxies (TENANTRY_TRUSTED_PROXIES)"
        );
    });
}

/// Counts a request for as long as it lives, however it ends.
struct InFlight(Gauge);

impl InFlight {
    fn enter(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn seen(peer: &str, forwarded: &str) -> Client {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut request = http::Request::builder().header(FORWARDED_FOR, forwarded).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        client(&request, &trusted)
    }

    fn ip(peer: &str, forwarded: &str) -> String {
        seen(peer, forwarded).ip.to_string()
    }

    #[test]
    fn the_address_of_a_proxy_that_nobody_declared_is_known_to_be_everybodys() {
        assert!(seen("192.168.0.7", "203.0.113.9").behind_proxy);
        assert!(seen("fd00::7", "203.0.113.9").behind_proxy);
        // A caller from outside says what it likes, and is who it is.
        assert!(!seen("192.0.2.1", "203.0.113.9").behind_proxy);
        assert!(!seen("10.0.0.1", "203.0.113.9").behind_proxy, "declared");
    }

    #[test]
    fn only_a_trusted_proxy_may_speak_for_another() {
        assert_eq!(ip("192.0.2.1", "203.0.113.9"), "192.0.2.1");
        assert_eq!(ip("10.0.0.1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(ip("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2"), "203.0.113.9");
        assert_eq!(ip("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(ip("10.0.0.1", "203.0.113.9, nonsense"), "10.0.0.1");
    }

    #[test]
    fn a_request_id_is_taken_over_when_it_is_a_plain_word() {
        let id = |given: &str| request_id(&HeaderMap::from_iter([(REQUEST_ID, given.parse().unwrap())]));
        assert_eq!(id("trace-1.a_B"), "trace-1.a_B");
        for bad in ["", "a b", "<script>", &"x".repeat(129)] {
            assert_ne!(id(bad), bad);
        }
    }
}

//! Counts the requests to the API server, by verb and resource, as the API server itself would.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// Puts the counter around a client's service.
#[derive(Clone)]
pub struct CountRequests(pub Metrics);

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B, A> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, resource) = named(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
        let (metrics, answer) = (self.metrics.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            metrics.requested(verb, &resource, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
            answer
        })
    }
}

/// The verb and the resource of a request, as RBAC names them: `patch`, `tenants/status`.
fn named(method: &Method, path: &str, query: &str) -> (&'static str, String) {
    let mut parts = path.trim_matches('/').split('/');
    // /api/v1/… and /apis/<group>/<version>/…
    let version = match parts.next() {
        Some("api") => parts.next(),
        Some("apis") => parts.next().and_then(|_| parts.next()),
        _ => None,
    };
    let rest: Vec<&str> = parts.collect();
    let (resource, name) = match (version, rest.as_slice()) {
        (None, _) | (_, []) => ("none".to_owned(), false),
        (_, ["namespaces", _, resource, _, subresource, ..]) => (format!("{resource}/{subresource}"), true),
        (_, ["namespaces", _, resource, rest @ ..] | [resource, rest @ ..]) => {
            ((*resource).to_owned(), !rest.is_empty())
        }
    };
    let verb = match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if name => "delete",
        "DELETE" => "deletecollection",
        _ if query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")) => "watch",
        _ if name || resource == "none" => "get",
        _ => "list",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_as_rbac_names_it() {
        for (method, url, verb, resource) in [
            ("GET", "/api/v1/namespaces/shop/secrets/db", "get", "secrets"),
            ("GET", "/api/v1/secrets?limit=200", "list", "secrets"),
            ("GET", "/apis/tenantry.dev/v1alpha1/tenants?watch=true&resourceVersion=7", "watch", "tenants"),
            (
                "PATCH",
                "/apis/tenantry.dev/v1alpha1/namespaces/shop/tenants/acme/status?force=true",
                "patch",
                "tenants/status",
            ),
            ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events?", "create", "events"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/ops/leases/tenantry-operator", "update", "leases"),
            ("DELETE", "/api/v1/namespaces/shop/configmaps/acme-tenant-config", "delete", "configmaps"),
            ("GET", "/apis/tenantry.dev/v1alpha1", "get", "none"),
        ] {
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            let named = named(&method.parse().unwrap(), path, query);
            assert_eq!(named, (verb, resource.to_owned()), "{url}");
        }
    }
}

//! The HTTPRoute, where the Gateway API is installed.

use contract::names;

use super::{super::dereference::Dereferenced, meta, network::SERVICE_PORT};
use crate::peers::{BackendRef, HttpRoute, HttpRouteSpec, ParentReference, RouteRule};

/// A route can name no more; without names it takes the hostnames of the Gateway's listeners.
const HOSTS: usize = 16;

pub fn http_route(found: &Dereferenced, hosts: &[String]) -> Option<HttpRoute> {
    let wish = found.platform.spec.gateway.as_ref().filter(|_| found.optional.gateway_api)?;
    // Without any host it would take those of everybody, for nobody.
    if hosts.is_empty() {
        return None;
    }
    let parents = wish.parent_refs.iter().map(|parent| ParentReference {
        name: parent.name.clone(),
        namespace: parent.namespace.clone(),
        section_name: parent.section_name.clone(),
    });
    let spec = HttpRouteSpec {
        parent_refs: parents.collect(),
        hostnames: if hosts.len() > HOSTS { Vec::new() } else { hosts.to_vec() },
        rules: vec![RouteRule { backend_refs: vec![BackendRef { name: names::api(&found.name), port: SERVICE_PORT }] }],
    };
    let mut route = HttpRoute::new(&names::api(&found.name), spec);
    route.metadata = meta(found, names::api(&found.name));
    Some(route)
}

//! Whether requests from outside find their way: pure, from what the one who routes says of it.

use crds::conditions::reasons;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{dereference::Dereferenced, validate::ValidatedPlatform};
use crate::{
    kube_ext::{State, find},
    peers::{HttpRoute, ParentReference, RouteParentStatus},
};

/// Kind and version that `spec.gateway` needs, for messages.
pub const HTTP_ROUTE: &str = "HTTPRoute (gateway.networking.k8s.io/v1)";

/// The condition `Routed`: state, reason, message.
pub fn routed(found: &Dereferenced, validated: &ValidatedPlatform) -> (State, &'static str, String) {
    let spec = &found.platform.spec;
    let name = contract::names::api(&found.name);
    if spec.ingress.is_none() && spec.gateway.is_none() {
        let message =
            format!("Service {name} takes requests inside of the cluster; neither ingress nor gateway is asked for");
        return (State::True, reasons::SERVICE_ONLY, message);
    }
    if validated.hosts.is_empty() {
        let message = "there is no hostname to route yet: give a Tenant hostnames, or declare hosts".to_owned();
        return (State::True, reasons::NO_HOSTNAMES, message);
    }
    if spec.gateway.is_none() {
        return (State::True, reasons::ROUTED, format!("Ingress {name} routes {}", hosts(validated)));
    }
    if !found.optional.gateway_api {
        return (State::False, reasons::DEPENDENCY_MISSING, missing_gateway_api());
    }
    match &found.optional.route {
        None => (State::Unknown, reasons::RECONCILING, format!("HTTPRoute {name} has not been seen yet")),
        Some(route) => through_gateways(found, validated, route),
    }
}

pub fn missing_gateway_api() -> String {
    format!(
        "spec.gateway needs the kind {HTTP_ROUTE}, which is not installed: install the Gateway API and a controller for \
         it, or use spec.ingress"
    )
}

fn hosts(validated: &ValidatedPlatform) -> String {
    match validated.hosts.as_slice() {
        [only] => only.clone(),
        several => format!("{} hostnames", several.len()),
    }
}

/// Routed when every Gateway that was named says so of the route as it is now.
fn through_gateways(
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    route: &HttpRoute,
) -> (State, &'static str, String) {
    let parents = route.status.as_ref().map(|status| status.parents.as_slice()).unwrap_or_default();
    for wanted in &route.spec.parent_refs {
        let gateway = wanted.namespace.as_ref().unwrap_or(&found.namespace);
        let gateway = format!("{gateway}/{}", wanted.name);
        let told: Vec<_> = parents.iter().filter(|told| is_same(&told.parent_ref, wanted, &found.namespace)).collect();
        let current = |condition: &&Condition| {
            condition.observed_generation.is_none() || condition.observed_generation >= route.metadata.generation
        };
        let verdict = |told: &RouteParentStatus, type_: &str| find(&told.conditions, type_).filter(current).cloned();
        for type_ in ["Accepted", "ResolvedRefs"] {
            let verdicts = told.iter().filter_map(|told| verdict(told, type_));
            let (good, bad): (Vec<_>, Vec<_>) = verdicts.partition(|condition| condition.status == "True");
            if let Some(Condition { reason, message, .. }) = bad.into_iter().next() {
                let message = format!("Gateway {gateway} says {type_}=False of the HTTPRoute ({reason}): {message}");
                return (State::False, reasons::ROUTE_NOT_ACCEPTED, message);
            }
            if good.is_empty() {
                let message = format!(
                    "Gateway {gateway} has not accepted the HTTPRoute yet: see that it exists, that its controller runs, \
                     and that its listeners allow routes from namespace {}",
                    found.namespace,
                );
                return (State::False, reasons::ROUTE_NOT_ACCEPTED, message);
            }
        }
    }
    let gateways: Vec<_> = route.spec.parent_refs.iter().map(|parent| parent.name.as_str()).collect();
    let message = format!("HTTPRoute routes {} through {}", hosts(validated), gateways.join(", "));
    (State::True, reasons::ROUTED, message)
}

/// A Gateway repeats the reference that it judges; the namespace may be left out there and here.
fn is_same(told: &ParentReference, wanted: &ParentReference, namespace: &str) -> bool {
    let within = |parent: &ParentReference| parent.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    told.name == wanted.name && told.section_name == wanted.section_name && within(told) == within(wanted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{
        super::{
            build::build,
            fixtures::{EXTERNAL, IMAGE, found},
            validate::validate,
        },
        *,
    };

    const GATEWAY: &str = "gateway: {parentRefs: [{name: public, namespace: infra}]}\n";

    fn judge(spec: &str, installed: bool, parents: Option<Value>) -> (State, &'static str, String) {
        let mut found = found(&format!("{EXTERNAL}{spec}"));
        found.optional.gateway_api = installed;
        let validated = validate(&found, IMAGE);
        if let Some(parents) = parents {
            let mut route = build(&found, &validated).unwrap().around.route.unwrap().0;
            route.metadata.generation = Some(2);
            route.status = serde_json::from_value(json!({ "parents": parents })).unwrap();
            found.optional.route = Some(Arc::new(route));
        }
        routed(&found, &validated)
    }

    fn parent(accepted: &str, resolved: &str, generation: i64) -> Value {
        let condition = |type_: &str, status: &str| {
            json!({ "type": type_, "status": status, "reason": "NotAllowedByListeners", "message": "no listener takes it",
                "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z" })
        };
        json!([{ "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "infra" },
            "controllerName": "example.com/gateway",
            "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", resolved)] }])
    }

    #[test]
    fn a_route_is_one_when_its_gateway_says_so_of_this_generation() {
        let verdict = |parents| {
            let (state, reason, _) = judge(GATEWAY, true, parents);
            (state, reason)
        };
        assert_eq!(verdict(None), (State::Unknown, "Reconciling"));
        assert_eq!(verdict(Some(json!([]))), (State::False, "RouteNotAccepted"));
        assert_eq!(verdict(Some(parent("True", "True", 1))), (State::False, "RouteNotAccepted"));
        assert_eq!(verdict(Some(parent("True", "False", 2))), (State::False, "RouteNotAccepted"));
        assert_eq!(verdict(Some(parent("True", "True", 2))), (State::True, "Routed"));
    }

    #[test]
    fn what_the_gateway_says_is_quoted() {
        let (_, _, message) = judge(GATEWAY, true, Some(parent("False", "True", 2)));
        assert_eq!(
            message,
            "Gateway infra/public says Accepted=False of the HTTPRoute (NotAllowedByListeners): no listener takes it"
        );
    }

    #[test]
    fn without_the_gateway_api_the_cure_is_named() {
        let (state, reason, message) = judge(GATEWAY, false, None);
        assert_eq!((state, reason), (State::False, "DependencyMissing"));
        assert!(message.contains("install the Gateway API") && message.contains("spec.ingress"), "{message}");
    }

    #[test]
    fn a_service_alone_is_well_where_nothing_more_was_asked_for() {
        assert_eq!(judge("", true, None).1, "ServiceOnly");
        assert_eq!(judge("ingress: {}\n", true, None).1, "Routed");
    }
}

//! How the API is reached, and how many pods may be away at once.

use std::collections::BTreeMap;

use contract::names::{self, PORT_HTTP};
use crds::platform::{IngressTls, IssuerKind};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{
            HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
            IngressSpec, IngressTLS, ServiceBackendPort,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{super::dereference::Dereferenced, color_selector, meta, selector};

/// Port of the Service.
pub const SERVICE_PORT: i32 = 80;

/// Above this many hosts one rule without a host stands for them: an object is limited to about 1 MiB.
const HOSTS: usize = 1000;

pub fn service(found: &Dereferenced, name: String, selector: BTreeMap<String, String>) -> Service {
    let port = ServicePort {
        name: Some(PORT_HTTP.into()),
        port: SERVICE_PORT,
        target_port: Some(IntOrString::String(PORT_HTTP.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata: meta(found, name),
        spec: Some(ServiceSpec { selector: Some(selector), ports: Some(vec![port]), ..ServiceSpec::default() }),
        ..Service::default()
    }
}

/// Of the active colour: pods of the other one are not missed, and while they do not come up they would use up the budget.
pub fn disruption_budget(found: &Dereferenced) -> PodDisruptionBudget {
    let active = found.observed.selected();
    let pods = active.map_or_else(|| selector(&found.name), |color| color_selector(&found.name, color));
    PodDisruptionBudget {
        metadata: meta(found, names::api(&found.name)),
        spec: Some(PodDisruptionBudgetSpec {
            // Not minAvailable: with a single replica that would forbid every drain of a node. Rounded up, so at least one.
            max_unavailable: Some(IntOrString::String("10%".into())),
            // A pod that does not run anyway must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            selector: Some(LabelSelector { match_labels: Some(pods), ..LabelSelector::default() }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

pub fn ingress(found: &Dereferenced, hosts: &[String]) -> Option<Ingress> {
    let wish = found.platform.spec.ingress.as_ref()?;
    let name = names::api(&found.name);
    let rule = |host: Option<&String>| IngressRule {
        host: host.cloned(),
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some("/".into()),
                path_type: "Prefix".into(),
                backend: IngressBackend {
                    service: Some(IngressServiceBackend {
                        name: name.clone(),
                        port: Some(ServiceBackendPort { name: Some(PORT_HTTP.into()), number: None }),
                    }),
                    ..IngressBackend::default()
                },
            }],
        }),
    };
    let rules =
        if hosts.len() > HOSTS { vec![rule(None)] } else { hosts.iter().map(|host| rule(Some(host))).collect() };
    // An Ingress needs a rule, and before the first tenant there is nobody to reach.
    if rules.is_empty() {
        return None;
    }
    let mut metadata = meta(found, name.clone());
    let mut annotations = wish.annotations.clone();
    let tls = wish.tls.as_ref().map(|IngressTls { secret_name, issuer_ref }| {
        if let Some(issuer) = issuer_ref {
            let key = match issuer.kind {
                IssuerKind::Issuer => "cert-manager.io/issuer",
                IssuerKind::ClusterIssuer => "cert-manager.io/cluster-issuer",
            };
            annotations.insert(key.into(), issuer.name.clone());
        }
        let secret_name = secret_name.clone().unwrap_or_else(|| format!("{name}-tls"));
        vec![IngressTLS { hosts: Some(hosts.to_vec()), secret_name: Some(secret_name) }]
    });
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    let spec =
        IngressSpec { ingress_class_name: wish.class_name.clone(), rules: Some(rules), tls, ..IngressSpec::default() };
    Some(Ingress { metadata, spec: Some(spec), ..Ingress::default() })
}

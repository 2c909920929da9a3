//! Which pods answer for a Service: for the EndpointSlices, and for the ingress.

use std::{
    borrow::Borrow,
    net::{IpAddr, SocketAddr},
};

use anyhow::Result;
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service, ServicePort},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Settings, owned};

/// The addresses of the ready pods behind the first port that is `wanted`.
pub fn ready(service: &Service, pods: &[impl Borrow<Pod>], wanted: impl Fn(&ServicePort) -> bool) -> Vec<SocketAddr> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let Some(port) = ports.into_iter().find(|port| wanted(port)) else { return Vec::new() };
    let ready = pods.iter().map(Borrow::borrow).filter(|pod| selects(service, pod) && owned::is_ready(pod));
    ready.filter_map(|pod| Some(SocketAddr::new(address(pod)?, target_port(port, pod)?))).collect()
}

/// The pods that a headless Service's name stands for.
pub fn published<'a>(service: &Service, pods: &'a [Pod]) -> Vec<(&'a Pod, IpAddr)> {
    let unready_too = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let selected = pods.iter().filter(|pod| selects(service, pod) && (unready_too || owned::is_ready(pod)));
    selected.filter_map(|pod| Some((pod, address(pod)?))).collect()
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector =
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    service.namespace() == pod.namespace()
        && selector.is_some_and(|selector| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => named_port(pod, name),
    }
}

pub fn named_port(pod: &Pod, name: &str) -> Option<u16> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(name)).and_then(|port| u16::try_from(port.container_port).ok())
}

/// Writes the Service's EndpointSlice, where it changed.
pub async fn sync(settings: &Settings, service: &Service, pods: &[Pod]) -> Result<()> {
    let Some(spec) = service.spec.as_ref().filter(|spec| spec.selector.is_some()) else { return Ok(()) };
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = format!("{}-local", service.name_any());
    let selected: Vec<_> = pods.iter().filter(|pod| selects(service, pod) && address(pod).is_some()).collect();
    let endpoints: Vec<_> = selected
        .iter()
        .map(|pod| {
            let (ready, terminating) = (owned::is_ready(pod), pod.metadata.deletion_timestamp.is_some());
            json!({
                "addresses": [address(pod)],
                "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
                "nodeName": "local",
                "targetRef": {"kind": "Pod", "name": pod.name_any(), "namespace": pod.namespace(), "uid": pod.uid()},
            })
        })
        .collect();
    let ports: Vec<_> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let number = selected.iter().find_map(|pod| target_port(port, pod))?;
            Some(json!({"name": port.name.clone().unwrap_or_default(), "port": number, "protocol": "TCP"}))
        })
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/service-name": service.name_any(), "endpointslice.kubernetes.io/managed-by": "local-node"},
            "ownerReferences": [service.controller_owner_ref(&())],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }))?;

    let api = settings.api_in::<EndpointSlice>(&service.namespace().unwrap_or_default());
    let current = api.get_opt(&name).await?;
    if current.is_some_and(|current| current.endpoints == slice.endpoints && current.ports == slice.ports) {
        return Ok(());
    }
    match api.patch(&name, &PatchParams::apply("local-node").force(), &Patch::Apply(&slice)).await {
        // A real API server takes no loopback addresses here. Nothing of ours reads slices: the ingress looks at the pods.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            tracing::debug!("EndpointSlice {name}: {}", status.message);
            Ok(())
        }
        other => Ok(other.map(|_| ())?),
    }
}

//! The objects of the managed stores: pure, one file per concern.

pub mod backup;
pub mod cluster;
pub mod job;
pub mod peer;
pub mod pod;
pub mod postgres;
pub mod redis;
pub mod secret;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::api::ObjectMeta;

use super::super::dereference::Dereferenced;
use crate::kube_ext::{owner, platform_labels};

/// Labels of a store's pods, and what its Services select.
pub fn selector(found: &Dereferenced, name: &str) -> std::collections::BTreeMap<String, String> {
    use contract::names::{LABEL_INSTANCE, LABEL_NAME, LABEL_PLATFORM};
    [(LABEL_NAME, name), (LABEL_INSTANCE, &found.name), (LABEL_PLATFORM, &found.name)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Metadata of what goes with the Platform.
pub fn owned(found: &Dereferenced, name: impl Into<String>) -> ObjectMeta {
    ObjectMeta { owner_references: owner(found.platform.as_ref()).map(|owner| vec![owner]), ..kept(found, name) }
}

/// Metadata of what outlives the Platform.
pub fn kept(found: &Dereferenced, name: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(found.namespace.clone()),
        labels: Some(platform_labels(&found.name)),
        ..ObjectMeta::default()
    }
}

/// Metadata of data, and of what opens it: kept, unless the Platform says otherwise.
pub fn data(found: &Dereferenced, name: impl Into<String>) -> ObjectMeta {
    let managed = found.platform.spec.postgres.managed.as_ref();
    match managed.map(|managed| managed.deletion_policy) {
        Some(crds::tenant::DeletionPolicy::Delete) => owned(found, name),
        _ => kept(found, name),
    }
}

/// A Service on the one port of a store. Headless where each pod is to be known by name.
fn service(found: &Dereferenced, name: String, pods: &str, port: (&str, u16), headless: bool) -> Service {
    Service {
        metadata: owned(found, name),
        spec: Some(ServiceSpec {
            cluster_ip: headless.then(|| "None".to_owned()),
            selector: Some(selector(found, pods)),
            ports: Some(vec![ServicePort {
                name: Some(port.0.into()),
                port: port.1.into(),
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

//! Redis (as Valkey) in one pod: counters and cache, nothing that may not be lost.

use crds::platform::ManagedRedis;
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            Container, ContainerPort, PodSpec, PodTemplateSpec, ResourceRequirements, SecretVolumeSource, Service,
            Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::api::ObjectMeta;

use super::{
    super::{
        super::{build::pull_secrets, dereference::Dereferenced},
        names::{REDIS_PORT, Store, users},
    },
    owned, pod, selector, service,
};
use crate::kube_ext::platform_labels;

/// `app.kubernetes.io/name` of its pod.
pub const NAME: &str = "tenantry-redis";
pub const IMAGE: &str = "valkey/valkey:8";
const PORT: &str = "redis";
const USERS_DIR: &str = "/etc/valkey";
const DATA: &str = "/data";
const MEBI: u64 = 1 << 20;

pub fn stateful_set(found: &Dereferenced, managed: &ManagedRedis) -> StatefulSet {
    let spec = &found.platform.spec;
    let mut labels = platform_labels(&found.name);
    labels.extend(selector(found, NAME));
    let users_volume = Volume {
        name: "users".into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(users(&found.name)),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = vec![users_volume];
    if managed.storage.is_none() {
        volumes.push(pod::scratch("data"));
    }
    let container = Container {
        name: "redis".into(),
        image: Some(IMAGE.into()),
        args: Some(arguments(managed)),
        ports: Some(vec![ContainerPort {
            name: Some(PORT.into()),
            container_port: REDIS_PORT.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(vec![
            VolumeMount { read_only: Some(true), ..pod::mount("users", USERS_DIR) },
            pod::mount("data", DATA),
        ]),
        resources: managed.resources.clone().or_else(|| Some(memory(managed))),
        security_context: Some(pod::container_security()),
        startup_probe: Some(pod::listens(PORT, 1, 120)),
        liveness_probe: Some(pod::listens(PORT, 10, 3)),
        readiness_probe: Some(pod::listens(PORT, 2, 2)),
        ..Container::default()
    };
    StatefulSet {
        metadata: owned(found, Store::Redis.name(&found.name)),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(Store::Redis.name(&found.name)),
            selector: LabelSelector { match_labels: Some(selector(found, NAME)), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    image_pull_secrets: pull_secrets(&found.platform),
                    containers: vec![container],
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    security_context: Some(pod::pod_security(pod::STORE_USER)),
                    volumes: Some(volumes),
                    node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
                    tolerations: Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
                    ..PodSpec::default()
                }),
            },
            volume_claim_templates: managed.storage.as_ref().map(|storage| {
                vec![pod::claim(ObjectMeta { name: Some("data".into()), ..ObjectMeta::default() }, storage)]
            }),
            // Nothing in it may not be lost.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Delete".into()),
                when_scaled: Some("Delete".into()),
            }),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

pub fn service_of(found: &Dereferenced) -> Service {
    service(found, Store::Redis.name(&found.name), NAME, (PORT, REDIS_PORT), false)
}

/// Only what has an end is evicted, soonest end first: a counter that vanished would let everybody begin anew.
fn arguments(managed: &ManagedRedis) -> Vec<String> {
    let bytes = max_memory(managed).to_string();
    let acl = format!("{USERS_DIR}/{}", super::super::names::USERS_ACL);
    let common = ["--aclfile", &acl, "--dir", DATA, "--maxmemory", &bytes, "--maxmemory-policy", "volatile-ttl"];
    let disk: &[&str] =
        if managed.storage.is_some() { &["--appendonly", "yes"] } else { &["--appendonly", "no", "--save", ""] };
    common.iter().chain(disk).map(|word| (*word).to_owned()).collect()
}

/// The schema lets nothing else through than a size.
fn max_memory(managed: &ManagedRedis) -> u64 {
    pod::bytes(&managed.max_memory).unwrap_or(256 * MEBI)
}

/// What data may take, and half as much again for connections, buffers and fragments.
fn memory(managed: &ManagedRedis) -> ResourceRequirements {
    let mebibytes = max_memory(managed) / MEBI;
    let quantity = |mebibytes: u64| Quantity(format!("{mebibytes}Mi"));
    let limit = [("memory".to_owned(), quantity(mebibytes + mebibytes / 2 + 64))];
    let requests = [("memory".to_owned(), quantity(mebibytes / 2 + 64)), ("cpu".to_owned(), Quantity("50m".into()))];
    ResourceRequirements {
        limits: Some(limit.into()),
        requests: Some(requests.into()),
        ..ResourceRequirements::default()
    }
}

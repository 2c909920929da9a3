//! PostgreSQL in one pod with one volume, where CloudNativePG is not installed.

use crds::platform::{ManagedPostgres, Storage};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            Container, ContainerPort, EmptyDirVolumeSource, ExecAction, PodSpec, PodTemplateSpec, Probe, Service,
            Volume,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::api::ObjectMeta;

use super::{
    super::{
        super::{build::pull_secrets, dereference::Dereferenced},
        dereference::FoundPostgres,
        names::{POSTGRES_PORT, Store, superuser},
    },
    owned, pod, selector, service,
};
use crate::kube_ext::platform_labels;

/// `app.kubernetes.io/name` of its pod.
pub const NAME: &str = "tenantry-postgres";
const PORT: &str = "postgres";
/// Not the image's own place: that moved with version 18.
const DATA: &str = "/data";
/// Name of the volume; with the pod's name it makes that of the claim.
pub const VOLUME: &str = "data";

pub fn stateful_set(found: &Dereferenced, managed: &ManagedPostgres, there: &FoundPostgres) -> StatefulSet {
    let spec = &found.platform.spec;
    let mut labels = platform_labels(&found.name);
    labels.extend(selector(found, NAME));
    let container = Container {
        name: "postgres".into(),
        image: Some(format!("postgres:{}", version(managed, there))),
        args: Some(["-c", "max_connections=300", "-c", "password_encryption=scram-sha-256"].map(Into::into).into()),
        ports: Some(vec![ContainerPort {
            name: Some(PORT.into()),
            container_port: POSTGRES_PORT.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        env: Some(vec![
            pod::plain("POSTGRES_USER", "postgres"),
            pod::from_secret("POSTGRES_PASSWORD", &superuser(&found.name), "password"),
            pod::plain("POSTGRES_INITDB_ARGS", "--auth-host=scram-sha-256 --auth-local=scram-sha-256 --data-checksums"),
            pod::plain("PGDATA", &format!("{DATA}/pgdata")),
            pod::from_field("POD_IP", "status.podIP"),
        ]),
        volume_mounts: Some(vec![
            pod::mount(VOLUME, DATA),
            pod::mount("run", "/var/run/postgresql"),
            pod::mount("shm", "/dev/shm"),
            pod::mount("tmp", "/tmp"),
        ]),
        resources: managed.resources.clone(),
        security_context: Some(pod::container_security()),
        // The first start makes the database; a start after a crash replays its log. Neither is cut short.
        startup_probe: Some(pod::listens(PORT, 2, 900)),
        liveness_probe: Some(pod::listens(PORT, 10, 6)),
        readiness_probe: Some(takes_connections()),
        ..Container::default()
    };
    StatefulSet {
        metadata: owned(found, Store::Postgres.name(&found.name)),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(Store::Postgres.name(&found.name)),
            selector: LabelSelector { match_labels: Some(selector(found, NAME)), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    image_pull_secrets: pull_secrets(&found.platform),
                    containers: vec![container],
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    security_context: Some(pod::pod_security(pod::STORE_USER)),
                    // A fast shutdown cuts sessions and writes what is in memory.
                    termination_grace_period_seconds: Some(120),
                    volumes: Some(vec![pod::scratch("run"), shared_memory(), pod::scratch("tmp")]),
                    node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
                    tolerations: Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
                    ..PodSpec::default()
                }),
            },
            volume_claim_templates: Some(vec![pod::claim(
                ObjectMeta { name: Some(VOLUME.into()), ..ObjectMeta::default() },
                &Storage { size: first_size(managed, there), ..managed.storage.clone() },
            )]),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(managed.deletion_policy.as_str().into()),
                when_scaled: Some("Retain".into()),
            }),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

pub fn services(found: &Dereferenced) -> [Service; 2] {
    let port = (PORT, POSTGRES_PORT);
    [
        service(found, Store::Postgres.name(&found.name), NAME, port, true),
        service(found, Store::Postgres.service(&found.name), NAME, port, false),
    ]
}

/// The files of one major version cannot be read by another: what runs goes on, and the condition says what to do.
pub fn version(managed: &ManagedPostgres, there: &FoundPostgres) -> u32 {
    running_version(there).unwrap_or(managed.version)
}

pub fn running_version(there: &FoundPostgres) -> Option<u32> {
    let spec = there.stateful_set.as_ref()?.spec.as_ref()?.template.spec.as_ref()?;
    let (_, tag) = spec.containers.first()?.image.as_deref()?.rsplit_once(':')?;
    tag.parse().ok()
}

/// Templates of claims cannot be changed; the claim itself is grown in its place.
fn first_size(managed: &ManagedPostgres, there: &FoundPostgres) -> String {
    let template = there.stateful_set.as_ref().and_then(|set| {
        let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
        let requests = claims.first()?.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
        Some(requests.get("storage")?.0.clone())
    });
    template.unwrap_or_else(|| managed.storage.size.clone())
}

/// PostgreSQL listens before it lets anybody in: only it can say that it does. At the pod's address, because while the
/// first start makes the database it answers inside the container only.
fn takes_connections() -> Probe {
    let command = ["sh", "-c", "exec pg_isready --quiet --host=\"$POD_IP\" --username=postgres"];
    Probe {
        exec: Some(ExecAction { command: Some(command.map(Into::into).into()) }),
        period_seconds: Some(5),
        timeout_seconds: Some(5),
        failure_threshold: Some(2),
        ..Probe::default()
    }
}

/// Parallel queries want more shared memory than the 64 MiB that containers get.
fn shared_memory() -> Volume {
    let memory = EmptyDirVolumeSource { medium: Some("Memory".into()), size_limit: Some(Quantity("256Mi".into())) };
    Volume { name: "shm".into(), empty_dir: Some(memory), ..Volume::default() }
}

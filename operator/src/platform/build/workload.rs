//! The API's pods and Deployments.

use std::collections::BTreeMap;

use contract::names::{
    self, API_NAME, LABEL_COLOR, LABEL_INSTANCE, LABEL_NAME, LABEL_PLATFORM, PORT_HTTP, PORT_MANAGEMENT, SEALING_KEY,
};
use crds::{Platform, platform::Color};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
            KeyToPath, LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::api::ObjectMeta;

use super::{
    super::{
        dereference::Dereferenced,
        rollout::Release,
        validate::{Shape, Source, ValidatedPlatform},
    },
    ANNOTATION_MIGRATION, ANNOTATION_SECRETS, mail, meta, scheduling,
};
use crate::kube_ext::platform_labels;

const HTTP: i32 = 8080;
const MANAGEMENT: i32 = 9090;
const USER: i64 = 10_001;
const CACHE_DIR: &str = "/var/cache/tenantry";
const SEALING_DIR: &str = "/etc/tenantry/sealing-key";
const POSTGRES_CA_DIR: &str = "/etc/tenantry/postgres";
/// After the drain requests under way may finish: a little more than the 70 seconds that the API gives them.
const FINISH_SECONDS: i64 = 75;

/// Labels that select the pods that take requests.
pub fn selector(platform: &str) -> BTreeMap<String, String> {
    [(LABEL_NAME, API_NAME), (LABEL_INSTANCE, platform), (LABEL_PLATFORM, platform)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Labels that select the pods of one colour.
pub fn color_selector(platform: &str, color: Color) -> BTreeMap<String, String> {
    let mut labels = selector(platform);
    labels.insert(LABEL_COLOR.into(), color.as_str().into());
    labels
}

/// What the pods of the declared release are.
pub fn release(
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    postgres: &Source,
    redis: &Source,
    migration: &str,
) -> serde_json::Result<Release> {
    let mut annotations = found.platform.spec.pod_annotations.clone();
    annotations.insert(ANNOTATION_MIGRATION.into(), migration.into());
    let mail = validated.mail.iter().filter_map(|mail| mail.digest.as_deref());
    let digests: Vec<_> = [postgres.digest.as_str(), redis.digest.as_str()].into_iter().chain(mail).collect();
    annotations.insert(ANNOTATION_SECRETS.into(), digests.join("-"));
    let mut labels = platform_labels(&found.name);
    labels.extend(selector(&found.name));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }),
        spec: Some(pod(found, validated, postgres, redis)),
    };
    Release::new(settings(found, validated), template)
}

/// One colour's Deployment, running `release`.
pub fn deployment(found: &Dereferenced, color: Color, release: &Release, replicas: u32) -> Deployment {
    let selector = color_selector(&found.name, color);
    let mut metadata = meta(found, names::api_color(&found.name, color.as_str()));
    metadata.labels.get_or_insert_default().extend(selector.clone());
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: i32::try_from(replicas).ok(),
            progress_deadline_seconds: i32::try_from(found.platform.spec.rollout.progress_deadline_seconds).ok(),
            revision_history_limit: Some(3),
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                // Never fewer than declared: a new pod is ready, with a complete snapshot, before an old one goes.
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::String("25%".into())),
                }),
            }),
            template: release.pods(&found.name, color),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(found: &Dereferenced, validated: &ValidatedPlatform, postgres: &Source, redis: &Source) -> PodSpec {
    let spec = &found.platform.spec;
    let mut volumes = vec![
        Volume {
            name: "sealing-key".into(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(names::sealing_key_secret(&found.name)),
                items: Some(vec![KeyToPath { key: SEALING_KEY.into(), path: SEALING_KEY.into(), mode: None }]),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        empty_dir("cache"),
        empty_dir("tmp"),
    ];
    volumes.extend(database_volumes(postgres));
    volumes.extend(mail::volume(validated));
    let mut pod = PodSpec {
        containers: vec![container(found, validated, postgres, redis)],
        image_pull_secrets: pull_secrets(&found.platform),
        service_account_name: Some(names::api(&found.name)),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(i64::from(spec.api.drain_seconds) + FINISH_SECONDS),
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    scheduling::schedule(found, &mut pod);
    pod
}

fn container(found: &Dereferenced, validated: &ValidatedPlatform, postgres: &Source, redis: &Source) -> Container {
    let port = |name: &str, number| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let mut mounts = vec![
        VolumeMount { read_only: Some(true), ..mount("sealing-key", SEALING_DIR) },
        mount("cache", CACHE_DIR),
        mount("tmp", "/tmp"),
    ];
    mounts.extend(database_mounts(postgres));
    mounts.extend(mail::mount(validated));
    Container {
        name: "api".into(),
        image: Some(validated.image.clone()),
        image_pull_policy: Some(pull_policy(&found.platform)),
        args: Some(vec!["serve".into()]),
        ports: Some(vec![port(PORT_HTTP, HTTP), port(PORT_MANAGEMENT, MANAGEMENT)]),
        env: Some(env(found, validated, postgres, redis)),
        volume_mounts: Some(mounts),
        resources: found.platform.spec.resources.clone(),
        security_context: Some(container_security()),
        // Two minutes to start; then silence for half a minute is death, and one failed answer takes it out of the Service.
        startup_probe: Some(probe("/startupz", 1, 120)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 1)),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(PORT_MANAGEMENT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Variables that are the same for every pod and no secret.
fn settings(found: &Dereferenced, validated: &ValidatedPlatform) -> BTreeMap<String, String> {
    let spec = &found.platform.spec;
    let mut settings = log_settings(found);
    settings.extend(
        [
            ("TENANTRY_PLATFORM", found.name.clone()),
            ("TENANTRY_CACHE_DIR", CACHE_DIR.into()),
            ("TENANTRY_SEALING_KEY_FILE", format!("{SEALING_DIR}/{SEALING_KEY}")),
            ("TENANTRY_PORT", HTTP.to_string()),
            ("TENANTRY_MANAGEMENT_PORT", MANAGEMENT.to_string()),
            ("TENANTRY_TENANT_HEADER", spec.api.tenant_header.as_str().into()),
            ("TENANTRY_DRAIN_SECONDS", spec.api.drain_seconds.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if !spec.api.trusted_proxies.is_empty() {
        settings.insert("TENANTRY_TRUSTED_PROXIES".into(), spec.api.trusted_proxies.join(","));
    }
    if let Some(endpoint) = &spec.observability.otlp_endpoint {
        settings.insert("OTEL_EXPORTER_OTLP_ENDPOINT".into(), endpoint.clone());
    }
    settings.extend(mail::settings(validated));
    // What a person says in extraEnv wins, and a variable is named once.
    settings.retain(|ours, _| spec.extra_env.iter().all(|theirs| theirs.name != *ours));
    settings
}

/// Variables from Secrets and about the pod itself, and those of the person.
fn env(found: &Dereferenced, validated: &ValidatedPlatform, postgres: &Source, redis: &Source) -> Vec<EnvVar> {
    let extra = &found.platform.spec.extra_env;
    let mut env = postgres_env(postgres);
    env.extend(redis_env(redis));
    env.extend(mail::env(validated));
    env.extend([field("TENANTRY_NAMESPACE", "metadata.namespace"), field("TENANTRY_POD_NAME", "metadata.name")]);
    env.retain(|ours| extra.iter().all(|theirs| theirs.name != ours.name));
    env.extend(extra.iter().cloned());
    env
}

fn log_settings(found: &Dereferenced) -> BTreeMap<String, String> {
    let observability = &found.platform.spec.observability;
    [
        ("TENANTRY_LOG_LEVEL", observability.log_level.as_str()),
        ("TENANTRY_LOG_FORMAT", observability.log_format.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// How the migration logs.
pub fn log_env(found: &Dereferenced) -> impl Iterator<Item = EnvVar> {
    log_settings(found).into_iter().map(|(name, setting)| value(&name, &setting))
}

pub fn postgres_env(source: &Source) -> Vec<EnvVar> {
    let mut env = match source.shape {
        Shape::Uri => vec![secret("DATABASE_URL", &source.secret, "uri")],
        Shape::Parts => {
            let parts = [
                ("PGHOST", "host"),
                ("PGPORT", "port"),
                ("PGDATABASE", "dbname"),
                ("PGUSER", "username"),
                ("PGPASSWORD", "password"),
            ];
            parts.map(|(variable, key)| secret(variable, &source.secret, key)).into()
        }
    };
    if source.shape == Shape::Parts && source.optional.contains(&"sslmode") {
        env.push(secret("PGSSLMODE", &source.secret, "sslmode"));
    }
    if source.optional.contains(&"ca") {
        env.push(value("PGSSLROOTCERT", &format!("{POSTGRES_CA_DIR}/ca.crt")));
    }
    env
}

fn redis_env(source: &Source) -> Vec<EnvVar> {
    match source.shape {
        Shape::Uri => vec![secret("REDIS_URL", &source.secret, "uri")],
        Shape::Parts => {
            let mut parts = vec![("REDIS_HOST", "host"), ("REDIS_PORT", "port"), ("REDIS_PASSWORD", "password")];
            parts.extend(source.optional.contains(&"username").then_some(("REDIS_USERNAME", "username")));
            parts.into_iter().map(|(variable, key)| secret(variable, &source.secret, key)).collect()
        }
    }
}

/// The certificate authority of the database, where its Secret brings one.
pub fn database_volumes(postgres: &Source) -> Vec<Volume> {
    let ca = postgres.optional.iter().filter(|key| **key == "ca").map(|_| Volume {
        name: "postgres-ca".into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(postgres.secret.clone()),
            items: Some(vec![KeyToPath { key: "ca".into(), path: "ca.crt".into(), mode: None }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    ca.collect()
}

pub fn database_mounts(postgres: &Source) -> Vec<VolumeMount> {
    let ca = postgres.optional.iter().filter(|key| **key == "ca");
    ca.map(|_| VolumeMount { read_only: Some(true), ..mount("postgres-ca", POSTGRES_CA_DIR) }).collect()
}

/// Named also where no image is: without it Kubernetes pulls the tag `latest` at each start, and an image that was only
/// loaded into its nodes is not found.
pub fn pull_policy(platform: &Platform) -> String {
    let image = platform.spec.image.as_ref();
    image.map(|image| image.pull_policy).unwrap_or_default().as_str().to_owned()
}

/// Secrets to pull images with; `None` leaves it to the ServiceAccount.
pub fn pull_secrets(platform: &Platform) -> Option<Vec<LocalObjectReference>> {
    let secrets = &platform.spec.image_pull_secrets;
    let secrets = secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
    Some(secrets.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty())
}

/// The `restricted` level of the pod security standards.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), ..VolumeMount::default() }
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

fn secret(name: &str, secret: &str, key: &str) -> EnvVar {
    from(
        name,
        EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: secret.into(), key: key.into(), optional: None }),
            ..EnvVarSource::default()
        },
    )
}

fn field(name: &str, path: &str) -> EnvVar {
    from(
        name,
        EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), api_version: None }),
            ..EnvVarSource::default()
        },
    )
}

fn from(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.into(), value: None, value_from: Some(source) }
}

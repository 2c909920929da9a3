//! Jobs of the API's own binary that set up roles, databases and passwords. The operator speaks no database's language.

use contract::names::{LABEL_INSTANCE, LABEL_NAME};
use crds::Platform;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount},
};
use kube::{ResourceExt, api::ObjectMeta};
use sha2::{Digest, Sha256};

use super::{
    super::{
        super::{
            build::{pull_policy, pull_secrets},
            dereference::Dereferenced,
            validate::ValidatedPlatform,
        },
        names::{LABEL_TASK, OWNER, Store, USERS_ACL, superuser, users},
    },
    pod,
};
use crate::kube_ext::{owner, platform_labels};

/// `app.kubernetes.io/name` of its pods.
const NAME: &str = "tenantry-job";
const USER: i64 = 10_001;
/// The store may still be starting: tried for some ten minutes.
const RETRIES: i32 = 8;
/// A finished one stays for its log.
const KEPT_SECONDS: i32 = 24 * 60 * 60;
const USERS_DIR: &str = "/etc/tenantry/redis";
/// Longest name, since it becomes a label of the pods.
const LABEL_CHARS: usize = 63;

/// What a Job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Prepare,
    Retire,
}

impl Task {
    fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Retire => "retire",
        }
    }
}

/// One Job for each step of each rotation; `rotation` is the uid of its Secret.
pub fn name(platform: &str, store: Store, task: Task, rotation: &str) -> String {
    let hash = hex::encode(&Sha256::digest(rotation)[..5]);
    let suffix = format!("-{}-{}-{hash}", store.word(), task.word());
    let platform = &platform[..platform.len().min(LABEL_CHARS - suffix.len())];
    format!("{}{suffix}", platform.trim_end_matches('-'))
}

/// Has PostgreSQL take the login in the rotation's Secret; the first one also makes the database.
pub fn prepare_postgres(found: &Dereferenced, validated: &ValidatedPlatform, rotation: &str) -> Job {
    let env = vec![
        pod::from_secret("TENANTRY_ADMIN_DATABASE_URL", &superuser(&found.name), "uri"),
        pod::from_secret("DATABASE_URL", &Store::Postgres.rotation(&found.name), "uri"),
    ];
    let name = name(&found.name, Store::Postgres, Task::Prepare, rotation);
    job(found, validated, name, &["provision-database", "--owner", OWNER], env, None)
}

/// Has PostgreSQL refuse the former login.
pub fn retire_postgres(found: &Dereferenced, validated: &ValidatedPlatform, rotation: &str, former: &str) -> Job {
    let env = vec![pod::from_secret("TENANTRY_ADMIN_DATABASE_URL", &superuser(&found.name), "uri")];
    let name = name(&found.name, Store::Postgres, Task::Retire, rotation);
    job(found, validated, name, &["retire-login", "--login", former], env, None)
}

/// Has a running Redis take the passwords that are in its access list now; one that starts reads the list itself.
pub fn redis_users(found: &Dereferenced, validated: &ValidatedPlatform, task: Task, rotation: &str) -> Job {
    let env = vec![pod::from_secret("REDIS_URL", &Store::Redis.app(&found.name), "uri")];
    let list = format!("{USERS_DIR}/{USERS_ACL}");
    let volume = Volume {
        name: "users".into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(users(&found.name)),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount { read_only: Some(true), ..pod::mount("users", USERS_DIR) };
    let name = name(&found.name, Store::Redis, task, rotation);
    job(found, validated, name, &["set-redis-users", "--file", &list], env, Some((volume, mount)))
}

fn job(
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    name: String,
    command: &[&str],
    env: Vec<EnvVar>,
    volume: Option<(Volume, VolumeMount)>,
) -> Job {
    of_platform(&found.platform, &validated.image, name, command, env, volume)
}

/// A Job of `tenantry-api job <command>`, owned by the Platform.
pub fn of_platform(
    platform: &Platform,
    image: &str,
    name: String,
    command: &[&str],
    mut env: Vec<EnvVar>,
    volume: Option<(Volume, VolumeMount)>,
) -> Job {
    let (spec, platform_name) = (&platform.spec, platform.name_any());
    let task = command.first().copied().unwrap_or_default().to_owned();
    let mut labels = platform_labels(&platform_name);
    labels.insert(LABEL_TASK.into(), task);
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: platform.namespace(),
        labels: Some(labels.clone()),
        owner_references: owner(platform).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    labels.insert(LABEL_NAME.into(), NAME.into());
    labels.insert(LABEL_INSTANCE.into(), platform_name);
    env.push(pod::plain("TENANTRY_LOG_LEVEL", spec.observability.log_level.as_str()));
    env.push(pod::plain("TENANTRY_LOG_FORMAT", spec.observability.log_format.as_str()));
    let (volumes, mounts): (Vec<_>, Vec<_>) = volume.into_iter().unzip();
    let container = Container {
        name: "job".into(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(pull_policy(platform)),
        args: Some(["job"].iter().chain(command).map(|word| (*word).to_owned()).collect()),
        env: Some(env),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    };
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            ttl_seconds_after_finished: Some(KEPT_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    containers: vec![container],
                    image_pull_secrets: pull_secrets(platform),
                    restart_policy: Some("Never".into()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    security_context: Some(pod::pod_security(USER)),
                    volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
                    node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
                    tolerations: Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

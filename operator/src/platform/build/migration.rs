//! The Job that brings the database to the image's schema, before any pod of that image starts.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, PodSpec, PodTemplateSpec},
};
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use super::{
    super::{
        dereference::Dereferenced,
        validate::{Source, ValidatedPlatform},
    },
    database_env, meta, workload,
};
use crate::kube_ext::platform_labels;

/// `app.kubernetes.io/name` of its pods; not that of the API, whose pods take requests.
const NAME: &str = "tenantry-migrate";
/// A migration that fails three times needs a person.
const RETRIES: i32 = 2;

/// Longest value of a label.
const LABEL_CHARS: usize = 63;

/// One Job per image and database: a name says which, and a finished one is not run again.
pub fn name(found: &Dereferenced, validated: &ValidatedPlatform, postgres: &Source) -> String {
    let mut hash = Sha256::new();
    for part in [&found.name, &validated.image, &postgres.secret, &postgres.digest] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let suffix = format!("-migrate-{}", hex::encode(&hash.finalize()[..5]));
    // The name becomes a label of the pods.
    let platform = &found.name[..found.name.len().min(LABEL_CHARS - suffix.len())];
    format!("{}{suffix}", platform.trim_end_matches('-'))
}

pub fn job(found: &Dereferenced, validated: &ValidatedPlatform, postgres: &Source) -> Job {
    let spec = &found.platform.spec;
    let mut labels = platform_labels(&found.name);
    labels.insert(contract::names::LABEL_NAME.into(), NAME.into());
    labels.insert(contract::names::LABEL_INSTANCE.into(), found.name.clone());
    let mut env = database_env(postgres);
    env.extend(workload::log_env(found));
    let container = Container {
        name: "migrate".into(),
        image: Some(validated.image.clone()),
        image_pull_policy: Some(workload::pull_policy(&found.platform)),
        args: Some(vec!["migrate".into()]),
        env: Some(env),
        volume_mounts: Some(workload::database_mounts(postgres)).filter(|mounts| !mounts.is_empty()),
        security_context: Some(workload::container_security()),
        // Why it failed reaches the Platform's status.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        image_pull_secrets: workload::pull_secrets(&found.platform),
        restart_policy: Some("Never".into()),
        // It speaks to the database only.
        automount_service_account_token: Some(false),
        service_account_name: Some(contract::names::api(&found.name)),
        security_context: Some(workload::pod_security()),
        volumes: Some(workload::database_volumes(postgres)).filter(|volumes| !volumes.is_empty()),
        node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        ..PodSpec::default()
    };
    Job {
        metadata: meta(found, name(found, validated, postgres)),
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

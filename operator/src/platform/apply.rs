//! The built objects into the cluster, in the order that keeps the API up: what pods need first, then the migration, and
//! the new template only after the migration succeeded.

use contract::{
    names::{SEALING_KEY, sealing_key_secret},
    seal::KEY_BYTES,
};
use crds::{conditions::reasons, platform::Color};
use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::Secret},
};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use super::{
    around,
    build::{self, ANNOTATION_MIGRATION, Workload},
    dereference::Dereferenced,
    validate::{SealingKey, ValidatedPlatform},
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{self, platform_labels},
};

/// What stands in the cluster after the apply.
#[derive(Debug, Default)]
pub struct Applied {
    /// The colour that takes the requests.
    pub active: Option<Color>,
    /// Its Deployment, new or as it was.
    pub deployment: Option<Deployment>,
    pub migration: Migration,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Migration {
    /// There is nothing to migrate yet, or changes are held.
    #[default]
    NotStarted,
    Running {
        job: String,
    },
    Failed {
        job: String,
        message: String,
    },
    Done,
}

pub async fn apply(ctx: &Ctx, found: &Dereferenced, validated: &ValidatedPlatform) -> Result<Applied, ReconcileError> {
    let active = found.observed.selected();
    let serving = active.map_or(found.observed.uncolored.as_ref(), |color| found.observed.of(color));
    let as_it_was = |migration| Applied { active, deployment: serving.cloned(), migration };
    if found.platform.spec.paused {
        return Ok(as_it_was(Migration::NotStarted));
    }
    if validated.sealing_key == Ok(SealingKey::Missing) {
        create_sealing_key(ctx, found).await?;
        // Its digest is part of what is built below; the watch tells of it at once.
        return Ok(as_it_was(Migration::NotStarted));
    }
    let resources = build::build(found, validated).map_err(unserializable)?;
    let client = &ctx.client;
    // Until the first colour is ready, pods without a colour go on serving.
    let color = active.or_else(|| found.observed.uncolored.is_none().then_some(Color::Blue));
    tokio::try_join!(
        kube_ext::apply(client, resources.service_account),
        kube_ext::apply(client, resources.role),
        kube_ext::apply(client, resources.role_binding),
        kube_ext::apply(client, build::active_service(found, color)),
        kube_ext::apply(client, build::preview_service(found, color.unwrap_or(Color::Blue))),
        kube_ext::apply(client, resources.disruption_budget),
    )?;
    around::apply(ctx, found, resources.around).await?;
    let Some(workload) = resources.workload.filter(|_| validated.sealing_key.is_ok()) else {
        return Ok(as_it_was(Migration::NotStarted));
    };
    let Workload { migration, release } = workload;
    let migration = migrate(ctx, found, migration).await?;
    if migration != Migration::Done {
        return Ok(as_it_was(migration));
    }
    let next = color.unwrap_or(Color::Blue);
    kube_ext::apply(client, build::release_config(found, &release).map_err(unserializable)?).await?;
    let deployment =
        kube_ext::apply(client, build::deployment(found, next, &release, validated.replicas)).await?.into_inner();
    if let Some(old) = &found.observed.uncolored
        && is_complete(&deployment)
    {
        kube_ext::apply(client, build::active_service(found, Some(next))).await?;
        kube_ext::delete::<Deployment>(client, old).await?;
    }
    prune(ctx, found, deployment.spec.as_ref().and_then(annotation)).await?;
    Ok(Applied { active: Some(next), deployment: Some(deployment), migration })
}

fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas >= wanted
            && status.available_replicas >= wanted
    })
}

fn unserializable(error: serde_json::Error) -> ReconcileError {
    ReconcileError::invalid(reasons::INVALID, format!("the pods' template cannot be written as JSON: {error}"))
}

/// Made once and never overwritten: whatever is sealed under it would be lost. It has no owner for the same reason.
async fn create_sealing_key(ctx: &Ctx, found: &Dereferenced) -> Result<(), ReconcileError> {
    let name = sealing_key_secret(&found.name);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(found.namespace.clone()),
            labels: Some(platform_labels(&found.name)),
            ..ObjectMeta::default()
        },
        data: Some([(SEALING_KEY.to_owned(), ByteString(rand::random::<[u8; KEY_BYTES]>().into()))].into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let secrets = Api::<Secret>::namespaced(ctx.client.clone(), &found.namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        made => made.map(drop).doing(|| format!("create Secret {}/{name}", found.namespace)),
    }
}

/// Sees to it that the migration runs, once for this image and database.
async fn migrate(
    ctx: &Ctx,
    found: &Dereferenced,
    wanted: kube_ext::Prepared<Job>,
) -> Result<Migration, ReconcileError> {
    let name = wanted.0.name_any();
    let mut started = found.observed.all().filter_map(|deployment| deployment.spec.as_ref()).filter_map(annotation);
    // Its Job may be long gone; that pods of this migration run is proof enough.
    if started.any(|started| started == name) {
        return Ok(Migration::Done);
    }
    let Some(job) = found.jobs.iter().find(|job| job.name_any() == name) else {
        kube_ext::apply(&ctx.client, wanted).await?;
        return Ok(Migration::Running { job: name });
    };
    let condition = |type_: &str| {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if condition("Complete").is_some() {
        return Ok(Migration::Done);
    }
    Ok(match condition("Failed") {
        Some(failed) => Migration::Failed { job: name, message: failed.message.clone().unwrap_or_default() },
        None => Migration::Running { job: name },
    })
}

fn annotation(spec: &k8s_openapi::api::apps::v1::DeploymentSpec) -> Option<&str> {
    let annotations = spec.template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(ANNOTATION_MIGRATION).map(String::as_str)
}

/// Removes the Jobs of earlier migrations; the last one stays, for its log.
async fn prune(ctx: &Ctx, found: &Dereferenced, current: Option<&str>) -> Result<(), ReconcileError> {
    for job in &found.jobs {
        if Some(job.name_any().as_str()) != current {
            kube_ext::delete::<Job>(&ctx.client, job.as_ref()).await?;
        }
    }
    Ok(())
}

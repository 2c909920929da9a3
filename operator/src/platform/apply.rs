//! The built objects into the cluster, in the order that keeps the API up: what pods need first, then the migration, and
//! the new template only after the migration succeeded.

use contract::{
    names::{SEALING_KEY, sealing_key_secret},
    seal::KEY_BYTES,
};
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
    /// The Deployment, new or as it was.
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
    let as_it_was = found.deployment.as_deref().cloned();
    if found.platform.spec.paused {
        return Ok(Applied { deployment: as_it_was, migration: Migration::NotStarted });
    }
    if validated.sealing_key == Ok(SealingKey::Missing) {
        create_sealing_key(ctx, found).await?;
        // Its digest is part of what is built below; the watch tells of it at once.
        return Ok(Applied { deployment: as_it_was, migration: Migration::NotStarted });
    }
    let resources = build::build(found, validated);
    let client = &ctx.client;
    tokio::try_join!(
        kube_ext::apply(client, resources.service_account),
        kube_ext::apply(client, resources.role),
        kube_ext::apply(client, resources.role_binding),
        kube_ext::apply(client, resources.service),
        kube_ext::apply(client, resources.disruption_budget),
    )?;
    around::apply(ctx, found, resources.around).await?;
    let Some(workload) = resources.workload.filter(|_| validated.sealing_key.is_ok()) else {
        return Ok(Applied { deployment: as_it_was, migration: Migration::NotStarted });
    };
    let Workload { migration, deployment } = workload;
    let migration = migrate(ctx, found, migration).await?;
    if migration != Migration::Done {
        return Ok(Applied { deployment: as_it_was, migration });
    }
    let deployment = kube_ext::apply(client, deployment).await?;
    prune(ctx, found, deployment.spec.as_ref().and_then(annotation)).await?;
    Ok(Applied { deployment: Some(deployment.into_inner()), migration })
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
    let started = found.deployment.as_ref().and_then(|deployment| deployment.spec.as_ref()).and_then(annotation);
    // Its Job may be long gone; that pods of this migration run is proof enough.
    if started == Some(name.as_str()) {
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

//! Does what was decided, step by step. Each step is safe to repeat: after a crash the next visit begins anew.

use std::collections::BTreeSet;

use contract::names::{self, ANNOTATION_ROLLOUT};
use crds::{
    Platform,
    conditions::reasons,
    platform::{Color, RolloutPhase},
};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    super::{
        build::{self, Workload},
        dereference::Dereferenced,
    },
    Decided, Release,
    machine::{Migration, Step},
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext,
};

pub async fn carry_out(
    ctx: &Ctx,
    found: &Dereferenced,
    workload: Option<&Workload>,
    decided: &Decided,
) -> Result<(), ReconcileError> {
    for step in &decided.decision.steps {
        match step {
            Step::Migrate => {
                if let Some(workload) = workload {
                    kube_ext::apply(&ctx.client, workload.migration.clone()).await?;
                }
            }
            Step::ForgetMigration => {
                let failed = workload.and_then(|workload| {
                    found.jobs.iter().find(|job| job.name_any() == workload.migration.0.name_any())
                });
                if let Some(job) = failed {
                    kube_ext::delete::<Job>(&ctx.client, job.as_ref()).await?;
                }
            }
            Step::Run { color, release, replicas } => {
                let kept = decided.kept.get(release).map(String::as_str);
                run(ctx, found, workload, (*color, release, *replicas), kept).await?;
            }
            Step::Select { active, preview } => {
                let Ctx { client, standing, stores, .. } = ctx;
                tokio::try_join!(
                    standing.apply(client, &stores.services, build::active_service(found, *active)),
                    standing.apply(client, &stores.services, build::preview_service(found, *preview)),
                )?;
            }
            Step::RemoveUncolored => {
                if let Some(old) = &found.observed.uncolored {
                    kube_ext::delete::<Deployment>(&ctx.client, old).await?;
                }
            }
            Step::DropCommand => drop_command(ctx, found).await?,
        }
    }
    tidy(ctx, found, workload, decided).await
}

/// Sees to it that so many pods of a release run in a colour; `version` is that of the ConfigMap that keeps it.
async fn run(
    ctx: &Ctx,
    found: &Dereferenced,
    workload: Option<&Workload>,
    (color, release, replicas): (Color, &str, u32),
    version: Option<&str>,
) -> Result<(), ReconcileError> {
    let there = found.observed.of(color);
    let same_release = there.and_then(super::observed::release) == Some(release);
    let same_size = there.and_then(|deployment| deployment.spec.as_ref()?.replicas) == i32::try_from(replicas).ok();
    if same_release && same_size && found.observed.selected() != Some(color) {
        return Ok(());
    }
    let declared = workload.map(|workload| &workload.release).filter(|declared| declared.hash == release);
    let kept = match declared {
        Some(declared) => {
            let config = build::release_config(found, declared).map_err(|error| unserializable(&error))?;
            ctx.standing.apply_over(&ctx.client, version, config).await?;
            Some(declared.clone())
        }
        None => read(ctx, found, release).await?,
    };
    match kept {
        Some(kept) => {
            let deployment = build::deployment(found, color, &kept, replicas);
            ctx.standing.apply(&ctx.client, &ctx.stores.deployments, deployment).await?;
        }
        // Its settings are lost and its pods still run: their number can be changed without.
        None if same_release => {
            if !same_size {
                scale(ctx, found, color, replicas).await?;
            }
        }
        None => {
            let message =
                format!("ConfigMap {} of that release is gone: declare it again", names::release(&found.name, release));
            return Err(ReconcileError::waiting(reasons::INVALID, message));
        }
    }
    Ok(())
}

async fn read(ctx: &Ctx, found: &Dereferenced, release: &str) -> Result<Option<Release>, ReconcileError> {
    let (namespace, name) = (&found.namespace, names::release(&found.name, release));
    let maps = Api::<ConfigMap>::namespaced(ctx.client.clone(), namespace);
    let map = maps.get_opt(&name).await.doing(|| format!("read ConfigMap {namespace}/{name}"))?;
    Ok(map.as_ref().and_then(Release::read))
}

async fn scale(ctx: &Ctx, found: &Dereferenced, color: Color, replicas: u32) -> Result<(), ReconcileError> {
    let (namespace, name) = (&found.namespace, names::api_color(&found.name, color.as_str()));
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
    let deployments = Api::<Deployment>::namespaced(ctx.client.clone(), namespace);
    deployments.patch(&name, &params, &patch).await.map(drop).doing(|| format!("scale Deployment {namespace}/{name}"))
}

/// Removes the annotation if it still says what was carried out; another command that came meanwhile stays.
async fn drop_command(ctx: &Ctx, found: &Dereferenced) -> Result<(), ReconcileError> {
    let (namespace, name) = (&found.namespace, &found.name);
    let platforms = Api::<Platform>::namespaced(ctx.client.clone(), namespace);
    let read = platforms.get_opt(name).await.doing(|| format!("read Platform {namespace}/{name}"))?;
    let Some(platform) = read else { return Ok(()) };
    if platform.annotations().get(ANNOTATION_ROLLOUT) != found.platform.annotations().get(ANNOTATION_ROLLOUT) {
        return Ok(());
    }
    let patch = json!({ "metadata": {
        "resourceVersion": platform.resource_version(),
        "annotations": { ANNOTATION_ROLLOUT: null },
    } });
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
    let removed = platforms.patch(name, &params, &Patch::Merge(patch)).await;
    removed.map(drop).doing(|| format!("remove the annotation {ANNOTATION_ROLLOUT} of Platform {namespace}/{name}"))
}

/// Removes Jobs of earlier migrations, and releases that nobody will ask for any more once nothing is under way.
async fn tidy(
    ctx: &Ctx,
    found: &Dereferenced,
    workload: Option<&Workload>,
    Decided { input, decision, kept }: &Decided,
) -> Result<(), ReconcileError> {
    let Some(workload) = workload.filter(|_| !input.paused) else { return Ok(()) };
    let current = workload.migration.0.name_any();
    if input.migration == Migration::Done {
        for job in found.jobs.iter().filter(|job| job.name_any() != current) {
            kube_ext::delete::<Job>(&ctx.client, job.as_ref()).await?;
        }
    }
    let rollout = &decision.record.rollout;
    let settled = matches!(
        rollout.phase,
        RolloutPhase::Idle | RolloutPhase::Aborted | RolloutPhase::RolledBack | RolloutPhase::Undone
    );
    if !settled {
        return Ok(());
    }
    let running = [&input.blue, &input.green].into_iter().flatten().filter(|pods| pods.wanted > 0);
    let earlier = usize::try_from(input.rollout.revision_history_limit).unwrap_or(usize::MAX);
    let needed: BTreeSet<&String> = running
        .map(|pods| &pods.release)
        .chain([&workload.release.hash])
        .chain(&decision.target)
        .chain(&decision.record.stable)
        // The newest of them is what runs.
        .chain(rollout.history.iter().take(earlier.saturating_add(1)))
        .collect();
    let maps = Api::<ConfigMap>::namespaced(ctx.client.clone(), &found.namespace);
    for release in kept.keys().filter(|release| !needed.contains(release)) {
        let name = names::release(&found.name, release);
        let read = maps.get_metadata_opt(&name).await.doing(|| format!("read ConfigMap {}/{name}", found.namespace))?;
        if let Some(map) = read {
            kube_ext::delete::<ConfigMap>(&ctx.client, &map).await?;
        }
    }
    Ok(())
}

pub fn unserializable(error: &serde_json::Error) -> ReconcileError {
    ReconcileError::invalid(reasons::INVALID, format!("the pods' template cannot be written as JSON: {error}"))
}

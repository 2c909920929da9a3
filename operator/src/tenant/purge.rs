//! `deletionPolicy: Delete`: the tenant's data is removed by a Job of the API's own image, which knows the tables. The
//! Job takes its pod from the API's Deployment, so that it reaches the database as the API does.

use contract::TenantId;
use crds::Tenant;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{PodSpec, PodTemplateSpec},
};
use kube::{Api, ResourceExt, api::ObjectMeta};

use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{Prepared, apply, owned_by, owner, tenant_labels},
    platform::rollout::Observed,
};

/// How far the removal of a tenant's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    Running,
    Done,
    Failed(String),
}

/// Starts the Job if there is none, and says how far it is.
pub async fn purge(ctx: &Ctx, tenant: &Tenant, platform: &str) -> Result<Purge, ReconcileError> {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), job_name(tenant));
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), &namespace);
    let stored = jobs.get_opt(&name).await.doing(|| format!("read Job {namespace}/{name}"))?;
    if let Some(job) = stored.filter(|job| owned_by(&job.metadata, tenant)) {
        return Ok(state(&job));
    }
    let observed = Observed::read(&ctx.client, &namespace, platform).await?;
    let pod = observed.serving().and_then(|deployment| deployment.spec.clone()?.template.spec).ok_or_else(|| {
        ReconcileError::waiting(
            "PurgeImpossible",
            format!("the data cannot be deleted while no Deployment of the API is there: restore Platform {platform:?}, or set deletionPolicy: Retain"),
        )
    })?;
    apply(&ctx.client, job(tenant, platform, pod)).await?;
    Ok(Purge::Running)
}

fn job_name(tenant: &Tenant) -> String {
    format!("{}-purge", tenant.name_any())
}

fn state(job: &Job) -> Purge {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut holding = conditions.filter(|condition| condition.status == "True");
    match holding.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed")) {
        None => Purge::Running,
        Some(condition) if condition.type_ == "Complete" => Purge::Done,
        Some(condition) => Purge::Failed(condition.message.clone().unwrap_or_default()),
    }
}

/// The API's pod, told to purge in place of serving: no probes, no ports, no second container.
fn job(tenant: &Tenant, platform: &str, mut pod: PodSpec) -> Prepared<Job> {
    let id = TenantId::derive(&tenant.namespace().unwrap_or_default(), &tenant.name_any());
    let args = ["job", "purge-tenant", "--tenant-id"].map(str::to_owned).into_iter().chain([id.to_string()]);
    let args: Vec<_> = args.collect();
    pod.containers.retain(|container| container.name == "api");
    for container in &mut pod.containers {
        container.args = Some(args.clone());
        container.ports = None;
        container.startup_probe = None;
        container.liveness_probe = None;
        container.readiness_probe = None;
        container.lifecycle = None;
    }
    pod.restart_policy = Some("Never".into());
    pod.topology_spread_constraints = None;
    let labels = tenant_labels(platform, &tenant.name_any());
    Prepared(Job {
        metadata: ObjectMeta {
            name: Some(job_name(tenant)),
            namespace: tenant.namespace(),
            labels: Some(labels.clone()),
            owner_references: owner(tenant).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(6),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    })
}

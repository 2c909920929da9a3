//! A tenant's database by a Job of the API's own binary, in the name of a role that may make databases.

use std::collections::BTreeMap;

use crds::{Platform, Tenant, platform::Image};
use k8s_openapi::api::{batch::v1::Job, core::v1::EnvVar};
use kube::{Api, ResourceExt};

use super::{Admin, Purge, secret_name};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{Prepared, apply, owned_by, owner, tenant_labels},
    platform::managed::{
        build::{job::of_platform, pod::from_secret},
        facts::of_job,
        names::LABEL_TASK,
        rotation::Progress,
    },
};

/// The keys of a login beside that of the administrator: same server, same options.
pub fn keys(admin: &Admin, name: &str, password: &str) -> Option<BTreeMap<String, String>> {
    let mut url = reqwest::Url::parse(&admin.uri).ok()?;
    let host = url.host_str()?.to_owned();
    let port = url.port().unwrap_or(5432);
    url.set_username(name).ok()?;
    url.set_password(Some(password)).ok()?;
    url.set_path(name);
    let keys = [
        ("username", name.to_owned()),
        ("user", name.to_owned()),
        ("password", password.to_owned()),
        ("dbname", name.to_owned()),
        ("host", host.clone()),
        ("port", port.to_string()),
        ("pgpass", format!("{host}:{port}:{name}:{name}:{password}\n")),
        ("uri", url.to_string()),
        ("jdbc-uri", format!("jdbc:postgresql://{host}:{port}/{name}?password={password}&user={name}")),
    ];
    Some(keys.map(|(key, value)| (key.to_owned(), value)).into())
}

pub async fn provision(
    ctx: &Ctx,
    tenant: &Tenant,
    platform: &Platform,
    admin: &Admin,
) -> Result<Progress, ReconcileError> {
    run(ctx, tenant, platform, "provision-db", &["provision-database", "--migrate"], Some(admin)).await
}

pub async fn remove(ctx: &Ctx, tenant: &Tenant, platform: &Platform, admin: &Admin) -> Result<Purge, ReconcileError> {
    run(ctx, tenant, platform, "drop-db", &["drop-database"], Some(admin)).await.map(purged)
}

pub async fn empty(ctx: &Ctx, tenant: &Tenant, platform: &Platform) -> Result<Purge, ReconcileError> {
    let id = contract::TenantId::derive(&tenant.namespace().unwrap_or_default(), &tenant.name_any()).to_string();
    run(ctx, tenant, platform, "empty-db", &["purge-tenant", "--tenant-id", &id], None).await.map(purged)
}

fn purged(progress: Progress) -> Purge {
    match progress {
        Progress::Missing | Progress::Running => Purge::Running,
        Progress::Failed(why) => Purge::Failed(why),
        Progress::Done => Purge::Done,
    }
}

/// Starts the Job if there is none, and says how far it is.
async fn run(
    ctx: &Ctx,
    tenant: &Tenant,
    platform: &Platform,
    suffix: &str,
    command: &[&str],
    admin: Option<&Admin>,
) -> Result<Progress, ReconcileError> {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), format!("{}-{suffix}", tenant.name_any()));
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), &namespace);
    let stored = jobs.get_opt(&name).await.doing(|| format!("read Job {namespace}/{name}"))?;
    if let Some(job) = stored.filter(|job| owned_by(&job.metadata, tenant)) {
        return Ok(of_job(&namespace, &job));
    }
    let mut env: Vec<EnvVar> = vec![from_secret("DATABASE_URL", &secret_name(&tenant.name_any()), "uri")];
    env.extend(admin.map(|admin| from_secret("TENANTRY_ADMIN_DATABASE_URL", &admin.secret, admin.key)));
    let image = platform.spec.image.as_ref().map_or_else(|| ctx.settings.api_image.clone(), Image::reference);
    let mut job = of_platform(platform, &image, name, command, env, None);
    let mut labels = tenant_labels(&platform.name_any(), &tenant.name_any());
    labels.extend(command.first().map(|task| (LABEL_TASK.to_owned(), (*task).to_owned())));
    job.metadata.labels = Some(labels);
    job.metadata.owner_references = owner(tenant).map(|owner| vec![owner]);
    apply(&ctx.client, Prepared(job)).await?;
    Ok(Progress::Running)
}

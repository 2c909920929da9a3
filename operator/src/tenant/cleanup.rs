//! The end of a Tenant: first the API forgets it, then (with `deletionPolicy: Delete`) its data goes, then the object.

use std::time::Duration;

use contract::names::{FINALIZER, config_map};
use crds::{
    Tenant,
    tenant::{DatabaseIsolation, DeletionPolicy},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::{apply, database, purge, status};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    queue::Action,
};

/// How often the Job that deletes the data is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a Job that failed is left for a person to look at before the next reminder.
const REMIND: Duration = Duration::from_mins(5);

/// How a Tenant is kept from going before [`cleanup`] is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// By our finalizer, as the watch told.
    Known,
    /// By our finalizer, as the API server said just now.
    Fresh,
    /// Not at all: it is gone, or going.
    Gone,
}

/// Makes sure that the Tenant does not go before [`cleanup`] is done.
pub async fn hold(ctx: &Ctx, tenant: &Tenant) -> Result<Hold, ReconcileError> {
    if tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Hold::Known);
    }
    let finalizers = tenant.finalizers().iter().map(String::as_str).chain([FINALIZER]).collect::<Vec<_>>();
    Ok(if set_finalizers(ctx, tenant, &finalizers).await? { Hold::Fresh } else { Hold::Gone })
}

/// Asks whether this Tenant is still there. A watch may be behind: who makes a document that was not there has to know,
/// or a tenant that was deleted would be served once more.
pub async fn is_alive(ctx: &Ctx, tenant: &Tenant) -> Result<bool, ReconcileError> {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let tenants: Api<Tenant> = Api::namespaced(ctx.client.clone(), &namespace);
    let now = tenants.get_metadata_opt(&name).await.doing(|| format!("read Tenant {namespace}/{name}"))?;
    Ok(now.is_some_and(|now| now.uid() == tenant.uid() && now.metadata.deletion_timestamp.is_none()))
}

/// The Tenant as the API server has it now, if it still waits for its end. A watch may be behind: where this Tenant is gone,
/// another may have come by its name, which serves its document and finds its data; or its owner may have said meanwhile that
/// the data is to stay.
async fn going(ctx: &Ctx, tenant: &Tenant) -> Result<Option<Tenant>, ReconcileError> {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let tenants: Api<Tenant> = Api::namespaced(ctx.client.clone(), &namespace);
    let now = tenants.get_opt(&name).await.doing(|| format!("read Tenant {namespace}/{name}"))?;
    Ok(now.filter(|now| {
        now.uid() == tenant.uid()
            && now.metadata.deletion_timestamp.is_some()
            && now.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
    }))
}

pub async fn cleanup(ctx: &Ctx, tenant: &Tenant) -> Result<Action, ReconcileError> {
    let Some(tenant) = &going(ctx, tenant).await? else { return Ok(Action::await_change()) };
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    // By name too: a document that was written a moment ago may not be on the shelf yet.
    let documents: Api<ConfigMap> = Api::namespaced(ctx.client.clone(), &namespace);
    match documents.delete(&config_map(&name), &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        done => done.map(drop).doing(|| format!("delete the document of Tenant {namespace}/{name}"))?,
    }
    apply::remove_all(ctx, tenant).await?;
    ctx.outcomes.forget(&(namespace.clone(), name.clone()));

    if tenant.spec.deletion_policy == DeletionPolicy::Delete {
        let platform = ctx.stores.platform_of(tenant);
        let progress = match &platform {
            Some(platform) if tenant.spec.isolation.database == DatabaseIsolation::Database => {
                database::remove(ctx, tenant, platform).await
            }
            Some(platform) => purge::purge(ctx, tenant, &platform.name_any()).await,
            None => Err(ReconcileError::waiting(
                "PurgeImpossible",
                "the data cannot be deleted without the Platform that holds it: restore it, or set deletionPolicy: Retain",
            )),
        };
        let (message, again) = match progress {
            Ok(purge::Purge::Done) => (None, Duration::ZERO),
            Ok(purge::Purge::Running) => (Some("the tenant's data is being deleted".to_owned()), LOOK),
            Ok(purge::Purge::Failed(why)) => {
                let message = format!(
                    "Job \"{name}-purge\" could not delete the tenant's data: {why}. Delete the Job to try again, or set deletionPolicy: Retain"
                );
                ctx.events.warning(tenant, "PurgeFailed", "Purge", message.as_str());
                (Some(message), REMIND)
            }
            Err(error) => {
                say(ctx, tenant, &error.to_string()).await?;
                return Err(error);
            }
        };
        if let Some(message) = message {
            say(ctx, tenant, &message).await?;
            return Ok(Action::requeue(again));
        }
        ctx.events.normal(tenant, "DataDeleted", "Purge", "the tenant's data was deleted");
    } else {
        ctx.events.normal(
            tenant,
            "DataRetained",
            "Delete",
            "the tenant's data is kept; a Tenant of this name finds it again",
        );
    }
    let others = tenant.finalizers().iter().map(String::as_str).filter(|finalizer| *finalizer != FINALIZER);
    set_finalizers(ctx, tenant, &others.collect::<Vec<_>>()).await?;
    Ok(Action::await_change())
}

async fn say(ctx: &Ctx, tenant: &Tenant, message: &str) -> Result<(), ReconcileError> {
    let status = status::deleting(tenant, ctx.tenant_statuses.of(tenant), message, ctx.now());
    ctx.tenant_statuses.write(&ctx.client, tenant, &status).await.map(drop)
}

/// Sets the list as it was seen plus or minus ours: the resourceVersion makes it a compare-and-swap. Says whether the
/// Tenant was there.
async fn set_finalizers(ctx: &Ctx, tenant: &Tenant, finalizers: &[&str]) -> Result<bool, ReconcileError> {
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let tenants: Api<Tenant> = Api::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({"metadata": {"resourceVersion": tenant.meta().resource_version, "finalizers": finalizers}});
    match tenants.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        done => done.map(|_| true).doing(|| format!("set the finalizers of Tenant {namespace}/{name}")),
    }
}

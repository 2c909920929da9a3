//! The rendered ConfigMap into the cluster, and what should not be there out of it.

use contract::names::config_map;
use crds::Tenant;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::{
    build,
    cleanup::{self, Hold},
};
use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{self, Prepared},
    stores::{Kept, Key},
};

/// Applies the document unless it stands as wished already; says whether the Tenant may have one. `hold` is what is known
/// of the Tenant: one that is gone gets no document any more.
pub async fn document(
    ctx: &Ctx,
    tenant: &Tenant,
    hold: Hold,
    Prepared(mut wanted): Prepared<ConfigMap>,
    stored: Option<&ConfigMap>,
) -> Result<bool, ReconcileError> {
    match stored {
        Some(stored) if build::stands(&wanted, stored) => return Ok(true),
        // With its uid the apply can change it and not bring it back.
        Some(stored) => wanted.metadata.uid = stored.uid(),
        None if hold == Hold::Known && !cleanup::is_alive(ctx, tenant).await? => return Ok(false),
        None => {}
    }
    let applied = kube_ext::apply(&ctx.client, Prepared(wanted)).await?;
    ctx.outcomes.remember_write(&*applied);
    Ok(true)
}

/// Removes documents that carry this Tenant's label under another name: the API would serve from them too.
pub async fn remove_orphans(ctx: &Ctx, tenant: &Tenant) -> Result<(), ReconcileError> {
    remove(ctx, tenant, |name| name != config_map(&tenant.name_any())).await
}

/// Removes every document of this Tenant, so that the API no longer knows it.
pub async fn remove_all(ctx: &Ctx, tenant: &Tenant) -> Result<(), ReconcileError> {
    remove(ctx, tenant, |_| true).await
}

async fn remove(ctx: &Ctx, tenant: &Tenant, unwanted: impl Fn(&str) -> bool) -> Result<(), ReconcileError> {
    let key = Key::Tenant(tenant.namespace().unwrap_or_default(), tenant.name_any());
    for document in ctx.stores.documents.find(&key) {
        if unwanted(document.id().1) {
            kube_ext::delete::<ConfigMap>(&ctx.client, &document.identity()).await?;
        }
    }
    Ok(())
}

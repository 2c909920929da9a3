//! The rendered ConfigMap into the cluster, and what should not be there out of it.

use contract::names::config_map;
use crds::Tenant;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::build;
use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{self, Applied, Prepared},
    stores::Key,
};

/// Applies the document unless it stands as wished already; says what was written.
pub async fn document(
    ctx: &Ctx,
    wanted: Prepared<ConfigMap>,
    stored: Option<&ConfigMap>,
) -> Result<Option<Applied<ConfigMap>>, ReconcileError> {
    if stored.is_some_and(|stored| build::stands(&wanted, stored)) {
        return Ok(None);
    }
    let applied = kube_ext::apply(&ctx.client, wanted).await?;
    ctx.outcomes.remember_write(&*applied);
    Ok(Some(applied))
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
        if unwanted(&document.name_any()) {
            kube_ext::delete::<ConfigMap>(&ctx.client, document.as_ref()).await?;
        }
    }
    Ok(())
}

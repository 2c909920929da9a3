//! What is in a namespace now, on the operator's own shelves: what is worked out from them is what the operator works out.

use std::{fmt::Debug, sync::Arc};

use anyhow::{Context, Result};
use contract::{Revision, TenantConfig, codec, names};
use crds::Tenant;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ConfigMap};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::DeserializeGuard};
use operator::stores::{Kept, Shelf, Stores};
use serde::de::DeserializeOwned;

use crate::connect::Connection;

/// How many objects are asked for at once: a namespace may hold thousands.
const PAGE: u32 = 500;

/// The five kinds of a namespace.
pub async fn stores(connection: &Connection) -> Result<Stores> {
    let stores = Stores::default();
    let (client, namespace) = (&connection.client, &connection.namespace);
    tokio::try_join!(
        fill(client, namespace, &stores.platforms),
        fill(client, namespace, &stores.tenants),
        fill(client, namespace, &stores.role_bindings),
        fill(client, namespace, &stores.payment_providers),
        fill(client, namespace, &stores.rate_limit_policies),
    )?;
    Ok(stores)
}

async fn fill<K>(client: &Client, namespace: &str, shelf: &Shelf<K>) -> Result<()>
where
    K: Kept + Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<DeserializeGuard<K>> = Api::namespaced(client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await.with_context(|| format!("cannot list {}", K::plural(&())))?;
        for DeserializeGuard(object) in page.items {
            match object {
                Ok(object) => drop(shelf.put(object)),
                Err(unreadable) => {
                    shelf.put_unreadable(namespace, unreadable.metadata.name.as_deref().unwrap_or_default());
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

/// What the API serves for a tenant now.
pub struct Served {
    pub tenant: Arc<Tenant>,
    pub revision: Revision,
    pub config: TenantConfig,
}

/// Reads a tenant's document.
pub async fn served(connection: &Connection, tenant: Tenant) -> Result<Served> {
    let name = tenant.name_any();
    let document = names::config_map(&name);
    let stored = connection.api::<ConfigMap>().get_opt(&document).await;
    let stored = stored.with_context(|| format!("cannot read ConfigMap {document}"))?.with_context(|| {
        format!("Tenant {name:?} has no configuration yet: kubectl tenantry status tenant {name} says why")
    })?;
    let text = stored.data.as_ref().and_then(|data| data.get(names::DOCUMENT_KEY));
    let text = text.with_context(|| format!("ConfigMap {document} has no key {}", names::DOCUMENT_KEY))?;
    let (revision, config) = codec::decode(text).with_context(|| format!("ConfigMap {document}"))?;
    Ok(Served { tenant: Arc::new(tenant), revision, config })
}

//! Documents from Kubernetes: one watch on the labelled ConfigMaps of the platform's namespace.

use std::{pin::pin, time::Duration};

use contract::names;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{cache::Cache, keeper::Keeper, tenants::Found};
use crate::app::App;

/// A start waits this long for the control plane before it makes do with the last good documents.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows the documents until the process ends, and keeps the good ones on disk.
pub async fn run(app: App, client: Client, namespace: &str, platform: &str, cache: Cache) {
    let keeper = Keeper::new(cache.clone());
    let documents = Api::<ConfigMap>::namespaced(client, namespace);
    tokio::select! {
        () = follow(&app, documents, platform, &cache, &keeper) => {}
        () = keeper.write() => {}
    }
}

/// The watcher lists again by itself when its watch grows too old, and waits longer and longer while the control plane is
/// away.
async fn follow(app: &App, documents: Api<ConfigMap>, platform: &str, cache: &Cache, keeper: &Keeper) {
    let config = watcher::Config::default().labels(&names::document_selector(platform));
    let mut events = pin!(watcher(documents, config).default_backoff());
    let mut listed = vec![];
    loop {
        // Before the first complete set a silent control plane is as bad as one that refuses.
        let patience = if app.tenants.is_complete() { Duration::MAX } else { PATIENCE };
        let event = match timeout(patience, events.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(_) => {
                start_from_cache(app, cache).await;
                app.health.tried();
                continue;
            }
        };
        app.metrics.config_source_up.set(i64::from(event.is_ok()));
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(found(object)),
            Ok(Event::InitDone) => {
                let mut all = std::mem::take(&mut listed);
                let refused = app.tenants.replace(&all);
                tracing::info!(tenants = all.len(), refused = refused.len(), "complete set of tenants loaded");
                for bad in all.extract_if(.., |found| refused.contains(&found.tenant)) {
                    fall_back(app, keeper, &bad).await;
                }
                keeper.replace(all, refused);
            }
            Ok(Event::Apply(object)) => {
                if let Some(found) = found(object)
                    && app.tenants.apply(&found)
                {
                    keeper.keep(found);
                }
            }
            Ok(Event::Delete(object)) => {
                if let Some(tenant) = tenant_of(&object) {
                    tracing::info!(tenant, "tenant is gone");
                    app.tenants.remove(&tenant);
                    keeper.forget(tenant);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the control plane does not answer, the last good documents go on");
                start_from_cache(app, cache).await;
                app.health.tried();
            }
        }
    }
}

/// With the control plane away at the start, what was good last time is good enough.
pub async fn start_from_cache(app: &App, cache: &Cache) {
    if app.tenants.is_complete() {
        return;
    }
    let from = cache.clone();
    match spawn_blocking(move || from.load()).await {
        Ok(Ok(Some(all))) => {
            tracing::warn!(tenants = all.len(), "started from the last good documents on disk");
            app.tenants.replace(&all);
        }
        Ok(Ok(None)) => tracing::warn!("no complete set of documents on disk either"),
        Ok(Err(error)) => tracing::error!(%error, "TENANTRY_CACHE_DIR cannot be read"),
        Err(error) => tracing::error!(%error, "the documents on disk could not be read"),
    }
}

/// A tenant whose document is bad at the start goes on with its last good one, if the disk has it.
async fn fall_back(app: &App, keeper: &Keeper, bad: &Found) {
    if app.tenants.by_name(&bad.tenant).is_none()
        && let Some(last_good) = keeper.get(&bad.tenant).await
        && app.tenants.apply(&last_good)
    {
        tracing::warn!(tenant = bad.tenant, "serving the last good document on disk");
        app.tenants.apply(bad);
    }
}

fn found(object: ConfigMap) -> Option<Found> {
    let tenant = tenant_of(&object)?;
    let revision = object.annotations().get(names::ANNOTATION_REVISION).cloned();
    // Without the key the text is empty, and so refused with a reason under the tenant's name.
    let text = object.data.and_then(|mut data| data.remove(names::DOCUMENT_KEY)).unwrap_or_default();
    Some(Found { tenant, revision, text })
}

fn tenant_of(object: &ConfigMap) -> Option<String> {
    let tenant = object.labels().get(names::LABEL_TENANT).cloned();
    if tenant.is_none() {
        tracing::error!(config_map = object.name_any(), "document without the label {}: ignored", names::LABEL_TENANT);
    }
    tenant
}

//! What is there of a managed store: Secrets, pods, Jobs, and the kinds of other operators.

use std::sync::Arc;

use crds::{Platform, PlatformStatus};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::{PersistentVolumeClaim, Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PartialObjectMeta},
};

use super::{
    super::dereference::Data,
    build::peer,
    mode::{Mode, mode},
    names::{Store, backup, owner, superuser, users},
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::is_not_served,
    stores::Key,
};

/// What was found of the managed stores; nothing of a store that is external.
#[derive(Debug, Default, Clone)]
pub struct Found {
    pub postgres: Option<FoundPostgres>,
    pub redis: Option<FoundRedis>,
    /// Jobs that set up roles, databases and passwords.
    pub jobs: Vec<Arc<Job>>,
    /// The API's pods.
    pub pods: Vec<Arc<Pod>>,
    /// What was carried out before.
    pub before: Option<PlatformStatus>,
}

impl Found {
    /// What the API is to connect to PostgreSQL with, once there is something.
    pub fn postgres_data(&self) -> Data {
        self.postgres.as_ref()?.app.as_ref()?.data.clone()
    }

    pub fn redis_data(&self) -> Data {
        self.redis.as_ref()?.app.as_ref()?.data.clone()
    }
}

#[derive(Debug, Default, Clone)]
pub struct FoundPostgres {
    pub peers: Peers,
    pub superuser: Option<Secret>,
    pub owner: Option<Secret>,
    pub app: Option<Secret>,
    pub rotation: Option<Secret>,
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The volume of the StatefulSet's only pod.
    pub volume: Option<PersistentVolumeClaim>,
    pub cluster: Option<DynamicObject>,
    pub backup: Option<Arc<PartialObjectMeta<CronJob>>>,
}

#[derive(Debug, Default, Clone)]
pub struct FoundRedis {
    pub app: Option<Secret>,
    pub rotation: Option<Secret>,
    pub users: Option<Secret>,
    pub stateful_set: Option<Arc<StatefulSet>>,
}

/// Kinds of other operators that the API server serves now. They come and go while we run, so they are asked for anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Peers {
    /// CloudNativePG's Cluster.
    pub clusters: bool,
    /// CloudNativePG's Database and DatabaseRole.
    pub databases: bool,
    /// ObjectStore of CloudNativePG's Barman Cloud plugin.
    pub object_stores: bool,
}

pub async fn dereference(ctx: &Ctx, platform: &Platform) -> Result<Found, ReconcileError> {
    let (namespace, name) = (platform.namespace().unwrap_or_default(), platform.name_any());
    let spec = &platform.spec;
    if spec.postgres.managed.is_none() && spec.redis.managed.is_none() {
        return Ok(Found::default());
    }
    let of_platform = Key::Platform(namespace.clone(), name.clone());
    let mut jobs = ctx.stores.jobs.find(&of_platform);
    jobs.retain(|job| super::is_ours(job));
    let postgres = async {
        match &spec.postgres.managed {
            Some(_) => postgres(ctx, &namespace, &name).await.map(Some),
            None => Ok(None),
        }
    };
    let redis = async {
        match &spec.redis.managed {
            Some(_) => redis(ctx, &namespace, &name).await.map(Some),
            None => Ok(None),
        }
    };
    let (postgres, redis) = tokio::try_join!(postgres, redis)?;
    Ok(Found {
        postgres,
        redis,
        jobs,
        pods: ctx.stores.pods.find(&of_platform),
        before: Some(ctx.platform_statuses.of(platform)),
    })
}

async fn postgres(ctx: &Ctx, namespace: &str, name: &str) -> Result<FoundPostgres, ReconcileError> {
    let (store, superuser, owner) = (Store::Postgres, superuser(name), owner(name));
    let (app, rotation) = (store.app(name), store.rotation(name));
    let (peers, superuser, owner, app, rotation) = tokio::try_join!(
        peers(ctx),
        secret(ctx, namespace, &superuser),
        secret(ctx, namespace, &owner),
        secret(ctx, namespace, &app),
        secret(ctx, namespace, &rotation),
    )?;
    let mut found = FoundPostgres {
        peers,
        superuser,
        owner,
        app,
        rotation,
        stateful_set: ctx.stores.stateful_sets.get(namespace, &store.name(name)),
        backup: ctx.stores.cron_jobs.get(namespace, &backup(name)),
        ..FoundPostgres::default()
    };
    match mode(&found) {
        Mode::Cluster if peers.clusters => {
            let name = store.name(name);
            let clusters: Api<DynamicObject> =
                Api::namespaced_with(ctx.client.clone(), namespace, &peer::cluster_kind());
            found.cluster = clusters.get_opt(&name).await.doing(|| format!("read Cluster {namespace}/{name}"))?;
        }
        Mode::StatefulSet if found.stateful_set.is_some() => {
            let name = format!("data-{}-0", store.name(name));
            let volumes: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
            let volume = volumes.get_opt(&name).await;
            found.volume = volume.doing(|| format!("read PersistentVolumeClaim {namespace}/{name}"))?;
        }
        _ => {}
    }
    Ok(found)
}

async fn redis(ctx: &Ctx, namespace: &str, name: &str) -> Result<FoundRedis, ReconcileError> {
    let store = Store::Redis;
    let (app, rotation, users) = (store.app(name), store.rotation(name), users(name));
    let (app, rotation, users) = tokio::try_join!(
        secret(ctx, namespace, &app),
        secret(ctx, namespace, &rotation),
        secret(ctx, namespace, &users)
    )?;
    Ok(FoundRedis { app, rotation, users, stateful_set: ctx.stores.stateful_sets.get(namespace, &store.name(name)) })
}

async fn secret(ctx: &Ctx, namespace: &str, name: &str) -> Result<Option<Secret>, ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    secrets.get_opt(name).await.doing(|| format!("read Secret {namespace}/{name}"))
}

/// Which kinds of other operators are served. Everybody may ask this.
pub async fn peers(ctx: &Ctx) -> Result<Peers, ReconcileError> {
    let (postgres, plugin) =
        tokio::try_join!(kinds(ctx, peer::POSTGRES_GROUP_VERSION), kinds(ctx, peer::BARMAN_GROUP_VERSION))?;
    let has = |kinds: &[String], kind: &str| kinds.iter().any(|served| served == kind);
    Ok(Peers {
        clusters: has(&postgres, "Cluster"),
        databases: has(&postgres, "Database") && has(&postgres, "DatabaseRole"),
        object_stores: has(&plugin, "ObjectStore"),
    })
}

async fn kinds(ctx: &Ctx, group_version: &str) -> Result<Vec<String>, ReconcileError> {
    match ctx.client.list_api_group_resources(group_version).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.kind).collect()),
        Err(kube::Error::Api(status)) if is_not_served(&status) => Ok(Vec::new()),
        Err(error) => Err(error).doing(|| format!("ask which kinds of {group_version} are served")),
    }
}

/// The value of a key, as text; empty where there is none.
pub fn value<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value.and_then(|value| std::str::from_utf8(&value.0).ok()).unwrap_or_default()
}

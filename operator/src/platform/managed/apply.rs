//! The managed stores into the cluster: what runs first, then the next step of each login.

use contract::names::FIELD_MANAGER;
use crds::platform::{ManagedPostgres, ManagedRedis};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::CronJob,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    super::{dereference::Dereferenced, validate::ValidatedPlatform},
    build::{
        self, backup, cluster,
        job::{self, Task},
        owned, peer, postgres, redis, secret,
    },
    credentials::{self, PASSWORD_BYTES, Text},
    dereference::{FoundPostgres, FoundRedis, value},
    facts::{self, ANNOTATION_FORMER},
    mode::{Mode, mode},
    names::{self, ANNOTATION_ROTATE, OWNER, Store, USERS_ACL},
    rotation::{Step, next},
    verdict::too_small,
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{self, Prepared, owned_by},
};

/// What the API server refused of each store. The rest of the Platform goes on without, and its status says it.
#[derive(Debug, Default)]
pub struct Refused {
    pub postgres: Option<ReconcileError>,
    pub redis: Option<ReconcileError>,
}

impl Refused {
    pub fn all(&self) -> impl Iterator<Item = &ReconcileError> {
        self.postgres.iter().chain(&self.redis)
    }
}

pub async fn apply(ctx: &Ctx, found: &Dereferenced, validated: &ValidatedPlatform) -> Result<Refused, ReconcileError> {
    let spec = &found.platform.spec;
    let postgres = async {
        match (&spec.postgres.managed, &found.managed.postgres) {
            (Some(managed), Some(there)) => postgres_store(ctx, found, validated, managed, there).await,
            _ => Ok(()),
        }
    };
    let redis = async {
        match (&spec.redis.managed, &found.managed.redis) {
            (Some(managed), Some(there)) => redis_store(ctx, found, validated, managed, there).await,
            _ => Ok(()),
        }
    };
    let (postgres, redis) = tokio::join!(postgres, redis);
    Ok(Refused { postgres: refusal(postgres)?, redis: refusal(redis)? })
}

/// What went wrong in another way is tried again at once.
fn refusal(done: Result<(), ReconcileError>) -> Result<Option<ReconcileError>, ReconcileError> {
    match done {
        Err(error) if error.is_refusal() => Ok(Some(error)),
        done => done.map(|()| None),
    }
}

async fn postgres_store(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    managed: &ManagedPostgres,
    there: &FoundPostgres,
) -> Result<(), ReconcileError> {
    // A volume that may not grow keeps no password from being replaced.
    let mut refused = None;
    match mode(there) {
        Mode::StatefulSet => {
            let backup = stateful_set(ctx, found, managed, there).await?;
            if let (Some(volume), Some(_)) = (&there.volume, too_small(managed, there)) {
                refused = refusal(grow(ctx, volume, &managed.storage.size).await)?;
            }
            refused = refused.or(backup);
        }
        Mode::Cluster if there.peers.clusters => clustered(ctx, found, managed, there).await?,
        // What holds the data cannot be reached; its verdict says so.
        Mode::Cluster => return Ok(()),
    }
    login(ctx, found, validated, there).await?;
    refused.map_or(Ok(()), Err)
}

/// The next step of PostgreSQL's logins.
async fn login(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    there: &FoundPostgres,
) -> Result<(), ReconcileError> {
    let facts = facts::postgres(found, there);
    let (app, rotation) = (there.app.as_ref(), there.rotation.as_ref());
    match (next(&facts), rotation) {
        (Step::Draw, _) => {
            let login = credentials::other_login(facts.current.as_deref());
            let text = credentials::platform_postgres(&found.name, &found.namespace, login, &drawn());
            let made = secret::basic_auth(build::data(found, Store::Postgres.rotation(&found.name)), text);
            draw(ctx, found, made, facts.current).await
        }
        (Step::Switch, Some(rotation)) => {
            let metadata = build::data(found, Store::Postgres.app(&found.name));
            switch(ctx, secret::basic_auth(metadata, Text::new()), app, rotation).await
        }
        (Step::Finish, Some(rotation)) => kube_ext::delete::<Secret>(&ctx.client, rotation).await,
        // CloudNativePG reads what to do from the Cluster.
        (Step::Prepare, Some(rotation)) if mode(there) == Mode::StatefulSet && is_ready(there) => {
            run(ctx, found, job::prepare_postgres(found, validated, &uid(rotation))).await
        }
        (Step::Retire, Some(rotation)) if mode(there) == Mode::StatefulSet => {
            let former = facts::former(rotation).unwrap_or_default();
            run(ctx, found, job::retire_postgres(found, validated, &uid(rotation), &former)).await
        }
        _ => Ok(()),
    }
}

/// Yields what is refused of the backups' volume, which is as large as the data's and goes on as it is.
async fn stateful_set(
    ctx: &Ctx,
    found: &Dereferenced,
    managed: &ManagedPostgres,
    there: &FoundPostgres,
) -> Result<Option<ReconcileError>, ReconcileError> {
    if there.superuser.is_none() {
        let text = credentials::superuser(&found.name, &found.namespace, &drawn());
        let made = secret::basic_auth(build::data(found, names::superuser(&found.name)), text);
        create(ctx, &made).await?;
    }
    for service in postgres::services(found) {
        ctx.standing.apply(&ctx.client, &ctx.stores.services, Prepared(service)).await?;
    }
    let set = postgres::stateful_set(found, managed, there);
    ctx.standing.apply(&ctx.client, &ctx.stores.stateful_sets, Prepared(set)).await?;
    match &managed.backup {
        Some(wish) => {
            let volume = kube_ext::apply(&ctx.client, Prepared(backup::volume(found, managed))).await;
            let refused = refusal(volume.map(drop))?;
            let cron_job = backup::cron_job(found, managed, there, wish);
            ctx.standing.apply(&ctx.client, &ctx.stores.cron_jobs, Prepared(cron_job)).await?;
            Ok(refused)
        }
        // The backups that there are stay.
        None => match &there.backup {
            Some(cron_job) if owned_by(&cron_job.metadata, found.platform.as_ref()) => {
                kube_ext::delete::<CronJob>(&ctx.client, cron_job.as_ref()).await?;
                Ok(None)
            }
            _ => Ok(None),
        },
    }
}

async fn clustered(
    ctx: &Ctx,
    found: &Dereferenced,
    managed: &ManagedPostgres,
    there: &FoundPostgres,
) -> Result<(), ReconcileError> {
    if there.owner.is_none() {
        let text: Text =
            [("username", OWNER.to_owned()), ("password", drawn())].map(|(key, value)| (key.to_owned(), value)).into();
        create(ctx, &secret::basic_auth(build::data(found, names::owner(&found.name)), text)).await?;
    }
    apply_peer(ctx, &peer::cluster_kind(), &cluster::cluster(found, managed, there)).await?;
    let backups = cluster::backups(found, managed, there);
    for object in &backups {
        let kind = match object.types.as_ref().map(|types| types.kind.as_str()) {
            Some("ObjectStore") => peer::object_store_kind(),
            _ => peer::scheduled_backup_kind(),
        };
        apply_peer(ctx, &kind, object).await?;
    }
    if backups.is_empty() {
        delete_peer(ctx, found, &peer::scheduled_backup_kind(), &names::backup(&found.name)).await?;
    }
    Ok(())
}

async fn redis_store(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    managed: &ManagedRedis,
    there: &FoundRedis,
) -> Result<(), ReconcileError> {
    let facts = facts::redis(found, there);
    let step = next(&facts);
    let (app, rotation) = (there.app.as_ref(), there.rotation.as_ref());
    if step == Step::Draw {
        let text = credentials::redis(&found.name, &found.namespace, &drawn());
        let made = secret::opaque(owned(found, Store::Redis.rotation(&found.name)), text);
        return draw(ctx, found, made, facts.current).await;
    }
    let list = facts::users_wanted(found, there);
    if there.users.as_ref().is_none_or(|users| value(users, USERS_ACL) != list) {
        let text = [(USERS_ACL.to_owned(), list)].into();
        put(ctx, secret::opaque(owned(found, names::users(&found.name)), text), there.users.as_ref()).await?;
        // It is told of by the watch, and the next step is taken with it.
        return Ok(());
    }
    ctx.standing.apply(&ctx.client, &ctx.stores.services, Prepared(redis::service_of(found))).await?;
    let set = redis::stateful_set(found, managed);
    match &there.stateful_set {
        // Templates of claims cannot be changed, and nothing in here may not be lost.
        Some(before) if claims(before) != claims(&set) => {
            return kube_ext::delete::<StatefulSet>(&ctx.client, before.as_ref()).await;
        }
        _ => ctx.standing.apply(&ctx.client, &ctx.stores.stateful_sets, Prepared(set)).await?,
    }
    match (step, rotation) {
        (Step::Switch, Some(rotation)) => {
            let metadata = owned(found, Store::Redis.app(&found.name));
            switch(ctx, secret::opaque(metadata, Text::new()), app, rotation).await
        }
        (Step::Finish, Some(rotation)) => kube_ext::delete::<Secret>(&ctx.client, rotation).await,
        (Step::Prepare, Some(rotation)) if app.is_some() => {
            run(ctx, found, job::redis_users(found, validated, Task::Prepare, &uid(rotation))).await
        }
        (Step::Retire, Some(rotation)) => {
            run(ctx, found, job::redis_users(found, validated, Task::Retire, &uid(rotation))).await
        }
        _ => Ok(()),
    }
}

/// Whether a volume is asked for, and of which size and class.
fn claims(set: &StatefulSet) -> Option<(Option<String>, Option<String>)> {
    let claim = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?.spec.as_ref()?;
    let size = claim.resources.as_ref()?.requests.as_ref()?.get("storage").map(|size| size.0.clone());
    Some((size, claim.storage_class_name.clone()))
}

fn is_ready(there: &FoundPostgres) -> bool {
    let status = there.stateful_set.as_ref().and_then(|set| set.status.as_ref());
    status.and_then(|status| status.ready_replicas).unwrap_or(0) > 0
}

fn uid(secret: &Secret) -> String {
    secret.uid().unwrap_or_default()
}

/// The one place that draws passwords.
fn drawn() -> String {
    credentials::password(&rand::random::<[u8; PASSWORD_BYTES]>())
}

/// The Secret of a rotation: made once, whoever comes second takes what is there.
async fn draw(
    ctx: &Ctx,
    found: &Dereferenced,
    mut made: Secret,
    current: Option<String>,
) -> Result<(), ReconcileError> {
    let annotations = made.metadata.annotations.get_or_insert_default();
    annotations.extend(facts::wish(found).map(|wish| (ANNOTATION_ROTATE.to_owned(), wish.to_owned())));
    annotations.extend(current.map(|former| (ANNOTATION_FORMER.to_owned(), former)));
    create(ctx, &made).await
}

/// The Secret that the API connects with becomes what the rotation's says.
async fn switch(ctx: &Ctx, mut app: Secret, before: Option<&Secret>, rotation: &Secret) -> Result<(), ReconcileError> {
    app.data.clone_from(&rotation.data);
    let made_for = facts::made_for(rotation).map(|wish| (ANNOTATION_ROTATE.to_owned(), wish.to_owned()));
    app.metadata.annotations = made_for.map(|annotation| [annotation].into());
    put(ctx, app, before).await
}

async fn create(ctx: &Ctx, secret: &Secret) -> Result<(), ReconcileError> {
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    match secrets.create(&PostParams::default(), secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        made => made.map(drop).doing(|| format!("create Secret {namespace}/{name}")),
    }
}

/// In place of exactly the one that was seen.
async fn put(ctx: &Ctx, mut secret: Secret, before: Option<&Secret>) -> Result<(), ReconcileError> {
    let Some(before) = before else { return create(ctx, &secret).await };
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    secret.metadata.resource_version.clone_from(&before.metadata.resource_version);
    secret.type_.clone_from(&before.type_);
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    let done = secrets.replace(&name, &PostParams::default(), &secret).await;
    done.map(drop).doing(|| format!("replace Secret {namespace}/{name}"))
}

/// A Job is applied once: its template cannot be changed.
async fn run(ctx: &Ctx, found: &Dereferenced, job: k8s_openapi::api::batch::v1::Job) -> Result<(), ReconcileError> {
    if found.managed.jobs.iter().any(|there| there.name_any() == job.name_any()) {
        return Ok(());
    }
    kube_ext::apply(&ctx.client, Prepared(job)).await.map(drop)
}

async fn grow(ctx: &Ctx, volume: &PersistentVolumeClaim, size: &str) -> Result<(), ReconcileError> {
    let (namespace, name) = (volume.namespace().unwrap_or_default(), volume.name_any());
    let asked = volume.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    if asked.is_some_and(|asked| asked.0 == size) {
        return Ok(());
    }
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &namespace);
    let patch = Patch::Merge(json!({ "spec": { "resources": { "requests": { "storage": size } } } }));
    let done = volumes.patch(&name, &PatchParams::apply(FIELD_MANAGER), &patch).await;
    done.map(drop).doing(|| {
        format!(
            "grow PersistentVolumeClaim {namespace}/{name} to {size} (its StorageClass needs allowVolumeExpansion: true, and \
             quotas must leave room)"
        )
    })
}

async fn apply_peer(ctx: &Ctx, kind: &ApiResource, object: &DynamicObject) -> Result<(), ReconcileError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, kind);
    let done = api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await;
    done.map(drop).doing(|| format!("apply {} {namespace}/{name}", kind.kind))
}

async fn delete_peer(ctx: &Ctx, found: &Dereferenced, kind: &ApiResource, name: &str) -> Result<(), ReconcileError> {
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &found.namespace, kind);
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if kube_ext::is_not_served(&status) => Ok(()),
        done => done.map(drop).doing(|| format!("delete {} {}/{name}", kind.kind, found.namespace)),
    }
}

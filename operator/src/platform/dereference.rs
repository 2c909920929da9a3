//! Everything that a Platform refers to or is made of, as it stands. Nothing is judged here.

use std::{collections::BTreeMap, sync::Arc};

use contract::names;
use crds::{Platform, Tenant};
use k8s_openapi::{
    ByteString,
    api::{autoscaling::v2::HorizontalPodAutoscaler, batch::v1::Job, core::v1::Secret},
};
use kube::{Api, ResourceExt};

use super::{managed, rollout::Observed};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::owned_by,
    peers::{HttpRoute, PodMonitor, ScaledObject},
    stores::Key,
};

/// The data of a Secret; `None` where there is no such Secret.
pub type Data = Option<BTreeMap<String, ByteString>>;

#[derive(Debug)]
pub struct Dereferenced {
    pub platform: Arc<Platform>,
    pub namespace: String,
    pub name: String,
    /// Secret named in `spec.postgres.external`, or that of the managed one.
    pub postgres: Data,
    /// Secret named in `spec.redis.external`, or that of the managed one.
    pub redis: Data,
    /// Secret named in `spec.mail.smtp`.
    pub mail: Data,
    pub sealing_key: Data,
    /// Its pods' Deployments, and which of them takes the requests.
    pub observed: Observed,
    /// What is there of the PostgreSQL and Redis that the operator runs.
    pub managed: managed::Found,
    /// Migration Jobs of this Platform, oldest first.
    pub jobs: Vec<Arc<Job>>,
    /// Tenants that it serves, oldest first.
    pub tenants: Vec<Arc<Tenant>>,
    pub optional: Optional,
}

/// What a Platform may do without: kinds of other projects, and the objects whose status tells how they fare.
#[derive(Debug, Default)]
pub struct Optional {
    pub gateway_api: bool,
    pub prometheus_operator: bool,
    pub keda: bool,
    pub route: Option<Arc<HttpRoute>>,
    pub autoscaler: Option<Arc<HorizontalPodAutoscaler>>,
    pub scaled_object: Option<Arc<ScaledObject>>,
}

impl Optional {
    fn of(ctx: &Ctx, platform: &Platform, namespace: &str, name: &str) -> Self {
        let name = names::api(name);
        let stores = &ctx.stores;
        Self {
            gateway_api: ctx.installed.has::<HttpRoute>(),
            prometheus_operator: ctx.installed.has::<PodMonitor>(),
            keda: ctx.installed.has::<ScaledObject>(),
            route: stores.routes.get(namespace, &name).filter(|route| owned_by(&route.metadata, platform)),
            autoscaler: stores.autoscalers.get(namespace, &name).filter(|own| owned_by(&own.metadata, platform)),
            scaled_object: stores.scaled_objects.get(namespace, &name).filter(|own| owned_by(&own.metadata, platform)),
        }
    }
}

pub async fn dereference(ctx: &Ctx, platform: Arc<Platform>) -> Result<Dereferenced, ReconcileError> {
    let (namespace, name) = (platform.namespace().unwrap_or_default(), platform.name_any());
    let secrets = Api::<Secret>::namespaced(ctx.client.clone(), &namespace);
    let read = async |name: Option<&str>| match name {
        None => Ok(None),
        Some(name) => {
            let secret = secrets.get_opt(name).await.doing(|| format!("read Secret {namespace}/{name}"))?;
            Ok::<_, ReconcileError>(secret.map(|secret| secret.data.unwrap_or_default()))
        }
    };
    let external = |external: &Option<crds::platform::External>| external.as_ref().map(|e| e.secret_ref.name.clone());
    let (postgres, redis) = (external(&platform.spec.postgres.external), external(&platform.spec.redis.external));
    let mail = smtp_secret(&platform).map(str::to_owned);
    let sealing_key = names::sealing_key_secret(&name);
    let (postgres, redis, mail, sealing_key, observed, managed) = tokio::try_join!(
        read(postgres.as_deref()),
        read(redis.as_deref()),
        read(mail.as_deref()),
        read(Some(&sealing_key)),
        Observed::read(&ctx.client, &namespace, &name),
        managed::dereference(ctx, &platform),
    )?;
    let mut jobs = ctx.stores.jobs.find(&Key::Platform(namespace.clone(), name.clone()));
    jobs.retain(|job| owned_by(&job.metadata, platform.as_ref()) && !managed::is_ours(job));
    Ok(Dereferenced {
        postgres: postgres.or_else(|| managed.postgres_data()),
        redis: redis.or_else(|| managed.redis_data()),
        mail,
        sealing_key,
        observed,
        managed,
        jobs,
        tenants: ctx.stores.tenants_of(&platform),
        optional: Optional::of(ctx, &platform, &namespace, &name),
        platform,
        namespace,
        name,
    })
}

/// The Secret by which the API signs in to its mail server.
pub fn smtp_secret(platform: &Platform) -> Option<&str> {
    let reference = platform.spec.mail.as_ref()?.smtp.secret_ref.as_ref()?;
    Some(reference.name.as_str())
}

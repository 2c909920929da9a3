//! Everything that one Tenant's configuration is made of, as it stood at one moment: from the shelves what the watches
//! told, from the API server the few values that are not kept in memory.

use std::{collections::BTreeSet, sync::Arc};

use contract::names::{LABEL_PLATFORM, SEALING_KEY, config_map, sealing_key_secret};
use crds::{
    PaymentProvider, Platform, RateLimitPolicy, RoleBinding, SecretKeyRef, Tenant,
    conditions::reasons::{PLATFORM_AMBIGUOUS, PLATFORM_NOT_FOUND},
};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Resource, ResourceExt};

use super::{
    database::{self, Own},
    signing_key::{self, SigningKeys},
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    note::Note,
    render::{problem::Problem, secrets::Secrets},
    stores::{Kept, Key, Stores},
};

/// Each list is oldest first, which is the order in which claims are honoured.
#[derive(Clone)]
pub struct Dereferenced {
    pub tenant: Arc<Tenant>,
    pub platform: Result<Arc<Platform>, Problem>,
    /// Tenants of the same Platform, this one among them, that ask for one of its hostnames.
    pub claimants: Vec<Arc<Tenant>>,
    pub bindings: Vec<Arc<RoleBinding>>,
    pub providers: Vec<Arc<PaymentProvider>>,
    /// Those of the Platform and those of the Tenant.
    pub policies: Vec<Arc<RateLimitPolicy>>,
    /// Names of this namespace's providers and policies that cannot be read as their kind.
    pub unreadable_providers: BTreeSet<String>,
    pub unreadable_policies: BTreeSet<String>,
    pub secrets: Secrets,
    pub signing_keys: SigningKeys,
    /// The ConfigMap with the document that the API serves from now.
    pub stored: Option<ConfigMap>,
    /// Where the tenant's data is.
    pub database: Own,
}

pub async fn dereference(ctx: &Ctx, tenant: Arc<Tenant>) -> Result<Dereferenced, ReconcileError> {
    let (namespace, document) = (tenant.namespace().unwrap_or_default(), config_map(&tenant.name_any()));
    let mut found = shelved(&ctx.stores, tenant);
    let configs: Api<ConfigMap> = Api::namespaced(ctx.client.clone(), &namespace);
    let stored = async {
        let stored = configs.get_opt(&document).await;
        stored.doing(|| format!("read ConfigMap {namespace}/{document}"))
    };
    let signing_keys = async {
        match &found.platform {
            Ok(platform) => signing_key::ensure(ctx, &found.tenant, &platform.name_any()).await,
            Err(_) => Ok(SigningKeys::default()),
        }
    };
    let (secrets, signing_keys, stored) =
        tokio::try_join!(read(ctx, &namespace, found.secret_names()), signing_keys, stored)?;
    (found.secrets, found.signing_keys, found.stored) = (secrets, signing_keys, stored);
    if let Ok(platform) = &found.platform {
        found.database = if super::validate::is_in_shared_tables(&found) {
            Own::Shared
        } else {
            database::ensure(ctx, &found.tenant, platform).await?
        };
    }
    Ok(found)
}

/// What the shelves have; the values from the API server are still to come.
pub fn shelved(stores: &Stores, tenant: Arc<Tenant>) -> Dereferenced {
    let namespace = tenant.namespace().unwrap_or_default();
    let of_tenant = Key::Tenant(namespace.clone(), tenant.name_any());
    let platform = platform(stores, &tenant);
    let mut policies = stores.rate_limit_policies.find(&of_tenant);
    if let Ok(platform) = &platform {
        let of_platform = Key::Platform(namespace.clone(), platform.name_any());
        policies.extend(stores.rate_limit_policies.find(&of_platform));
    }
    Dereferenced {
        claimants: claimants(stores, &tenant, platform.as_deref().ok()),
        bindings: alive(stores.role_bindings.find(&of_tenant)),
        providers: alive(stores.payment_providers.find(&of_tenant)),
        policies: alive(policies),
        unreadable_providers: stores.payment_providers.unreadable(&namespace),
        unreadable_policies: stores.rate_limit_policies.unreadable(&namespace),
        tenant,
        platform,
        secrets: Secrets::default(),
        signing_keys: SigningKeys::default(),
        stored: None,
        database: Own::Shared,
    }
}

impl Dereferenced {
    /// The Secrets whose values are needed.
    pub fn secret_names(&self) -> BTreeSet<String> {
        let providers = self.providers.iter().flat_map(|provider| provider.spec.secret_keys());
        let signing = self.tenant.spec.auth.signing.secret_ref.iter();
        let clients = self.tenant.spec.auth.client_secrets();
        let sealing = self.platform.iter().map(|platform| sealing_key(platform).name);
        providers
            .map(|reference| reference.name.clone())
            .chain(signing.map(|reference| reference.name.clone()))
            .chain(clients.map(|reference| reference.name.clone()))
            .chain(sealing)
            .collect()
    }
}

/// Where a platform's sealing key is.
pub fn sealing_key(platform: &Platform) -> SecretKeyRef {
    SecretKeyRef::new(sealing_key_secret(&platform.name_any()), SEALING_KEY)
}

fn platform(stores: &Stores, tenant: &Tenant) -> Result<Arc<Platform>, Problem> {
    stores.platform_of(tenant).ok_or_else(|| match &tenant.spec.platform_ref {
        Some(reference) => Problem::refused(
            PLATFORM_NOT_FOUND,
            format!("spec.platformRef.name: there is no Platform {:?} in this namespace: create it, or name another", reference.name),
        ),
        None => match stores.platforms.within(&tenant.namespace().unwrap_or_default()).len() {
            0 => Problem::refused(PLATFORM_NOT_FOUND, "there is no Platform in this namespace: create one"),
            many => Problem::refused(
                PLATFORM_AMBIGUOUS,
                format!("there are {many} Platforms in this namespace: say in spec.platformRef.name which one serves this Tenant"),
            ),
        },
    })
}

/// A Tenant that is being deleted claims nothing any more.
fn claimants(stores: &Stores, tenant: &Tenant, platform: Option<&Platform>) -> Vec<Arc<Tenant>> {
    let same_platform = |rival: &Tenant| {
        let serving = stores.platform_of(rival);
        rival.namespace() == tenant.namespace()
            && serving.map(|platform| platform.name_any()) == platform.map(ResourceExt::name_any)
    };
    let found = tenant.spec.hostnames.iter().flat_map(|hostname| stores.tenants.find(&Key::Hostname(hostname.clone())));
    let mut claimants: Vec<_> = alive(found.collect());
    claimants.retain(|rival| same_platform(rival));
    claimants
}

/// What is being deleted counts as gone, whoever's finalizer still holds it.
fn alive<K: Resource>(mut objects: Vec<Arc<K>>) -> Vec<Arc<K>> {
    objects.retain(|object| object.meta().deletion_timestamp.is_none());
    objects
}

async fn read(ctx: &Ctx, namespace: &str, names: BTreeSet<String>) -> Result<Secrets, ReconcileError> {
    let reads = names.into_iter().map(async |name| {
        let secret = read_one(ctx, namespace, &name).await?;
        Ok::<_, ReconcileError>((name, secret))
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}

/// A Secret as it is now. A sealing key, which ten thousand Tenants share, is read anew only when the watch tells that it
/// is another.
async fn read_one(ctx: &Ctx, namespace: &str, name: &str) -> Result<Option<Secret>, ReconcileError> {
    let key = (namespace.to_owned(), name.to_owned());
    let noted = ctx.stores.secrets.get(namespace, name);
    let told = noted.as_ref().and_then(|note| note.version());
    let known = ctx.sealing_keys.lock().get(&key).cloned();
    if let Some(secret) = known.filter(|secret| told.is_some() && secret.resource_version().as_deref() == told) {
        return Ok(Some(secret));
    }
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let secret = api.get_opt(name).await.doing(|| format!("read Secret {namespace}/{name}"))?;
    let mut known = ctx.sealing_keys.lock();
    match &secret {
        Some(secret) if noted.is_some_and(|note| is_sealing_key(&note)) => drop(known.insert(key, secret.clone())),
        _ => drop(known.remove(&key)),
    }
    Ok(secret)
}

fn is_sealing_key(note: &Note<Secret>) -> bool {
    note.label(LABEL_PLATFORM).is_some_and(|platform| note.id().1 == sealing_key_secret(platform))
}

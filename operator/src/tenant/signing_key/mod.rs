//! The keys that sign a tenant's access tokens: made by the operator, each in a Secret of its own that is never
//! overwritten, and collected with the Tenant.
//!
//! The newest key of the wanted algorithm signs. With `rotateAfterSeconds` a key that has reached that age is followed by
//! a new one, and so is the key of a Tenant whose annotation `tenantry.dev/rotate-signing-key` says something new. The name
//! of a successor is derived from the moment it was due or from what the annotation says, so that two operators make one
//! and not two.
//!
//! No token is refused meanwhile: a new key first only verifies, and signs when every ready replica has it; what came
//! before goes on verifying until the last token that it signed has expired, and is then deleted.

mod make;
mod plan;

use std::sync::Arc;

use contract::{
    auth::SigningAlgorithm,
    codec,
    names::{DOCUMENT_KEY, SIGNING_KEY_PEM},
};
use crds::{
    Tenant, TenantStatus,
    tenant::{LoadedConfig, SigningKeyInUse},
};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt, api::PartialObjectMeta};

pub use self::make::{stand_in, stand_in_secret};
use self::{
    make::get_or_create,
    plan::{Plan, plan, rotation, successor},
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext,
    note::Note,
    stores::Key,
};

/// Marks a Secret that holds a tenant's signing key; the value is the algorithm.
pub const LABEL: &str = "tenantry.dev/signing-key";

/// The keys of one tenant at one moment.
#[derive(Debug, Clone, Default)]
pub struct SigningKeys {
    /// The first signs, all verify.
    pub live: Vec<SigningSecret>,
    /// Secrets whose last token has expired.
    retired: Vec<Arc<Note<Secret>>>,
    /// When a key is due next, to be made or to be retired.
    pub next: Option<Timestamp>,
    /// A new key only verifies, because some replica may not have it yet.
    pub introducing: bool,
}

/// A Secret with a key that the operator made.
#[derive(Debug, Clone)]
pub struct SigningSecret {
    pub algorithm: SigningAlgorithm,
    pub secret: Secret,
}

impl SigningSecret {
    /// Where in the Secret the PEM is.
    pub const fn data_key(&self) -> &'static str {
        data_key(self.algorithm)
    }
}

const fn data_key(algorithm: SigningAlgorithm) -> &'static str {
    match algorithm {
        SigningAlgorithm::EdDSA => SIGNING_KEY_PEM,
        SigningAlgorithm::ES256 => "es256.pem",
        SigningAlgorithm::RS256 => "rs256.pem",
        SigningAlgorithm::HS256 => "secret",
    }
}

/// The tenant's keys, of which the first is made if there is none or the newest is too old. None where the tenant brings
/// its own key.
pub async fn ensure(ctx: &Ctx, tenant: &Tenant, platform: &str) -> Result<SigningKeys, ReconcileError> {
    let signing = &tenant.spec.auth.signing;
    if signing.secret_ref.is_some() {
        return Ok(SigningKeys::default());
    }
    let namespace = tenant.namespace().unwrap_or_default();
    let known = ctx.stores.secrets.find(&Key::Tenant(namespace.clone(), tenant.name_any()));
    let status = ctx.tenant_statuses.of(tenant);
    let Plan { name, verifying, retired, next } = plan(tenant, status.signing_key.as_ref(), known, ctx.now());
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    let signer = get_or_create(&api, tenant, platform, &name, signing.algorithm).await?;
    let verifying = try_join_all(verifying.into_iter().map(|(algorithm, name)| {
        let api = &api;
        async move {
            let secret = api.get_opt(&name).await.doing(|| format!("read Secret {name}"))?;
            Ok::<_, ReconcileError>(secret.map(|secret| SigningSecret { algorithm, secret }))
        }
    }));
    let mut live = vec![SigningSecret { algorithm: signing.algorithm, secret: signer }];
    live.extend(verifying.await?.into_iter().flatten());
    Ok(SigningKeys { live, retired, next, introducing: false })
}

/// The keys that are there, as [`ensure`] would put them, without making one: for those who only look. The flag says
/// whether the operator would make another one.
pub async fn existing(
    client: &Client,
    tenant: &Tenant,
    known: Vec<Arc<PartialObjectMeta<Secret>>>,
    now: Timestamp,
) -> kube::Result<(SigningKeys, bool)> {
    if tenant.spec.auth.signing.secret_ref.is_some() {
        return Ok((SigningKeys::default(), false));
    }
    let status = tenant.status.as_ref().and_then(|status| status.signing_key.as_ref());
    let known = known.into_iter().map(|secret| Arc::new(Arc::unwrap_or_clone(secret).into())).collect();
    let Plan { name, verifying, retired, next } = plan(tenant, status, known, now);
    let api: Api<Secret> = Api::namespaced(client.clone(), &tenant.namespace().unwrap_or_default());
    let first = (tenant.spec.auth.signing.algorithm, name);
    let reads = std::iter::once(first).chain(verifying).map(|(algorithm, name)| {
        let api = &api;
        async move { Ok::<_, kube::Error>((algorithm, api.get_opt(&name).await?)) }
    });
    let found = try_join_all(reads).await?;
    let wanting = found.first().is_none_or(|(_, secret)| secret.is_none());
    let live = found.into_iter().filter_map(|(algorithm, secret)| Some(SigningSecret { algorithm, secret: secret? }));
    Ok((SigningKeys { live: live.collect(), retired, next, introducing: false }, wanting))
}

/// Lets the key that signs now go on signing while some ready replica may not have the new one: that replica would refuse
/// the tokens of the others. What the replicas have is told by the document that stands and by what they said of it.
pub fn introduce(keys: &mut SigningKeys, stored: Option<&ConfigMap>, status: &TenantStatus) {
    let name = |key: &SigningSecret| key.secret.name_any();
    let text = stored.and_then(|stored| stored.data.as_ref()?.get(DOCUMENT_KEY));
    let (Some(new), Some((revision, config))) = (keys.live.first().map(name), text.and_then(|t| codec::decode(t).ok()))
    else {
        return;
    };
    let served = &config.auth.signing_keys;
    let Some(signing) = served.first().filter(|signing| signing.id != new) else { return };
    let everywhere =
        |loaded: &LoadedConfig| loaded.revision == revision.as_str() && loaded.loaded_replicas >= loaded.ready_replicas;
    if served.iter().any(|key| key.id == new) && status.config.as_ref().is_some_and(everywhere) {
        return;
    }
    if let Some(at) = keys.live.iter().position(|key| name(key) == signing.id) {
        let signing = keys.live.remove(at);
        keys.live.insert(0, signing);
        keys.introducing = true;
    }
}

/// What the status says about the key that signs now, by its id in the document.
pub fn in_use(tenant: &Tenant, before: Option<&SigningKeyInUse>, id: &str, now: Timestamp) -> SigningKeyInUse {
    let carried_out = rotation(tenant).filter(|rotation| successor(tenant, rotation) == id);
    SigningKeyInUse {
        secret_name: id.to_owned(),
        since: before.filter(|before| before.secret_name == id).map_or(Time(now), |before| before.since.clone()),
        rotation: carried_out.map(str::to_owned).or_else(|| before.and_then(|before| before.rotation.clone())),
    }
}

/// Deletes the Secrets of keys that verify nothing any more. Only after a document without them was applied.
pub async fn retire(ctx: &Ctx, keys: &SigningKeys) -> Result<(), ReconcileError> {
    for secret in &keys.retired {
        kube_ext::delete::<Secret>(&ctx.client, &secret.identity()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;

    #[test]
    fn a_new_key_signs_only_when_every_ready_replica_has_it() {
        let signed = |ids: &[&str]| {
            let mut config = contract::TenantConfig::new(
                contract::TenantId::derive("shop", "acme"),
                contract::TenantName::new("acme").unwrap(),
            );
            config.auth.signing_keys = ids
                .iter()
                .map(|id| contract::auth::SigningKey {
                    id: (*id).into(),
                    algorithm: SigningAlgorithm::EdDSA,
                    key: serde_json::from_value("v1.0.x".into()).unwrap(),
                })
                .collect();
            let document = codec::encode(&config).unwrap();
            let data = [(DOCUMENT_KEY.to_owned(), document.text)].into();
            (document.revision.to_string(), ConfigMap { data: Some(data), ..ConfigMap::default() })
        };
        let loaded = |revision: &str, loaded_replicas| TenantStatus {
            config: Some(LoadedConfig { revision: revision.into(), loaded_replicas, ready_replicas: 2 }),
            ..TenantStatus::default()
        };
        let order = |stored: Option<&ConfigMap>, status: &TenantStatus| {
            let secret = |name: &str| SigningSecret {
                algorithm: SigningAlgorithm::EdDSA,
                secret: Secret {
                    metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
                    ..Secret::default()
                },
            };
            let mut keys = SigningKeys { live: vec![secret("new"), secret("old")], ..SigningKeys::default() };
            introduce(&mut keys, stored, status);
            (keys.live[0].secret.name_any(), keys.introducing)
        };
        let (first, alone) = signed(&["old"]);
        let (second, both) = signed(&["old", "new"]);
        assert_eq!(order(None, &TenantStatus::default()), ("new".into(), false), "nobody has been signed in yet");
        assert_eq!(order(Some(&alone), &loaded(&first, 2)), ("old".into(), true), "it is not in the document");
        assert_eq!(order(Some(&both), &loaded(&second, 1)), ("old".into(), true), "one replica has it");
        assert_eq!(order(Some(&both), &loaded(&first, 2)), ("old".into(), true), "they said so of another revision");
        assert_eq!(order(Some(&both), &loaded(&second, 2)), ("new".into(), false));
        let (_, turned) = signed(&["new", "old"]);
        assert_eq!(order(Some(&turned), &loaded(&second, 2)), ("new".into(), false), "what signs goes on signing");
    }
}

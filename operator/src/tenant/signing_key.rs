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

use std::sync::Arc;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{
    auth::SigningAlgorithm,
    codec,
    names::{ANNOTATION_ROTATE_SIGNING_KEY, DOCUMENT_KEY, SIGNING_KEY_PEM, signing_key_secret},
};
use crds::{
    Tenant, TenantStatus,
    tenant::{LoadedConfig, SigningKeyInUse},
};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PartialObjectMeta, PostParams},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{self, owner, tenant_labels},
    note::Note,
    stores::{Kept, Key},
};

/// Marks a Secret that holds a tenant's signing key; the value is the algorithm.
pub const LABEL: &str = "tenantry.dev/signing-key";
/// How long after its last token's end a key still verifies: clocks differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(120);

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

/// A new key as text, which signs nothing: for those who only look and may not, or cannot yet, see the real one.
pub fn stand_in(algorithm: SigningAlgorithm) -> Option<String> {
    generate(algorithm).ok().map(|pem| pem.to_string())
}

/// A stand-in for the key that the operator would make.
pub fn stand_in_secret(tenant: &Tenant) -> Option<SigningSecret> {
    let algorithm = tenant.spec.auth.signing.algorithm;
    let secret = build(tenant, "", &first_name(tenant), algorithm).ok()?;
    Some(SigningSecret { algorithm, secret })
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

/// What the annotation that asks for a new key says.
fn rotation(tenant: &Tenant) -> Option<&str> {
    tenant.annotations().get(ANNOTATION_ROTATE_SIGNING_KEY).map(String::as_str).filter(|text| !text.is_empty())
}

/// Name of the key that an annotation asks for.
fn successor(tenant: &Tenant, rotation: &str) -> String {
    format!("{}-{}", first_name(tenant), hex::encode(&Sha256::digest(rotation)[..4]))
}

/// Name of the first key of the wanted algorithm.
fn first_name(tenant: &Tenant) -> String {
    match tenant.spec.auth.signing.algorithm {
        SigningAlgorithm::EdDSA => signing_key_secret(&tenant.name_any()),
        other => format!("{}-{}", signing_key_secret(&tenant.name_any()), format!("{other:?}").to_lowercase()),
    }
}

/// Deletes the Secrets of keys that verify nothing any more. Only after a document without them was applied.
pub async fn retire(ctx: &Ctx, keys: &SigningKeys) -> Result<(), ReconcileError> {
    for secret in &keys.retired {
        kube_ext::delete::<Secret>(&ctx.client, &secret.identity()).await?;
    }
    Ok(())
}

#[derive(Debug)]
struct Plan {
    /// Name of the Secret that signs, be it there or not.
    name: String,
    verifying: Vec<(SigningAlgorithm, String)>,
    retired: Vec<Arc<Note<Secret>>>,
    next: Option<Timestamp>,
}

fn plan(tenant: &Tenant, in_use: Option<&SigningKeyInUse>, known: Vec<Arc<Note<Secret>>>, now: Timestamp) -> Plan {
    let auth = &tenant.spec.auth;
    let wanted = auth.signing.algorithm;
    let base = first_name(tenant);
    let created = |secret: &Note<Secret>| secret.created().unwrap_or(now);
    let signs = |name: &str| in_use.is_some_and(|in_use| in_use.secret_name == name);
    let mut keys: Vec<_> = known
        .into_iter()
        .filter(|secret| !secret.is_deleting() && secret.is_owned_by(tenant))
        .filter_map(|secret| Some((algorithm(secret.label(LABEL)?)?, secret)))
        .collect();
    // Newest first; of two that were made in one second the one that signs.
    let name = |secret: &Note<Secret>| secret.id().1.to_owned();
    keys.sort_by_key(|(_, secret)| std::cmp::Reverse((created(secret), signs(secret.id().1), name(secret))));
    let newest =
        keys.iter().find(|(algorithm, _)| *algorithm == wanted).map(|(_, secret)| (name(secret), created(secret)));
    let due = |born: Timestamp| {
        let age = auth.signing.rotate_after_seconds?;
        born.checked_add(SignedDuration::from_secs(age.into())).ok()
    };
    let asked = rotation(tenant).filter(|rotation| in_use.and_then(|i| i.rotation.as_deref()) != Some(*rotation));
    let born = |name: &str| keys.iter().find(|(_, key)| key.id().1 == name).map_or(now, |(_, key)| created(key));
    let (name, since) = match (newest, asked.map(|rotation| successor(tenant, rotation))) {
        (_, Some(asked)) => (asked.clone(), born(&asked)),
        (None, None) => (base, now),
        (Some((name, made)), None) => match due(made) {
            Some(due) if due <= now => (format!("{base}-{}", due.as_second()), now),
            _ => (name, made),
        },
    };
    // Tokens of the keys before were signed until the new one began to sign, at the latest. That is said by the status;
    // an operator that kept none began at once.
    let signs_since = match in_use {
        None => Some(since),
        Some(in_use) if in_use.secret_name == name => Some(in_use.since.0.max(since)),
        Some(_) => None,
    };
    let lifetime = SignedDuration::from_secs(auth.access_token_seconds.into()) + LEEWAY;
    let until = signs_since.map(|since| since.checked_add(lifetime).unwrap_or(Timestamp::MAX));
    let (retired, verifying): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .filter(|(_, secret)| secret.id().1 != name)
        .partition(|_| until.is_some_and(|until| until <= now));
    let next = due(since).into_iter().chain(until.filter(|_| !verifying.is_empty())).min();
    Plan {
        name,
        verifying: verifying.iter().map(|(algorithm, secret)| (*algorithm, secret.id().1.to_owned())).collect(),
        retired: retired.into_iter().map(|(_, secret)| secret).collect(),
        next,
    }
}

fn algorithm(label: &str) -> Option<SigningAlgorithm> {
    use SigningAlgorithm::{ES256, EdDSA, RS256};
    [EdDSA, ES256, RS256].into_iter().find(|algorithm| format!("{algorithm:?}") == label)
}

async fn get_or_create(
    api: &Api<Secret>,
    tenant: &Tenant,
    platform: &str,
    name: &str,
    algorithm: SigningAlgorithm,
) -> Result<Secret, ReconcileError> {
    let read = || async { api.get_opt(name).await.doing(|| format!("read Secret {name}")) };
    if let Some(secret) = read().await? {
        return Ok(secret);
    }
    // Create and not apply: of two operators that arrive here together one is refused, and both use what was stored.
    match api.create(&PostParams::default(), &build(tenant, platform, name, algorithm)?).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => read().await?.ok_or_else(|| {
            ReconcileError::waiting("SigningKeyMissing", format!("Secret {name:?} was deleted while it was being made"))
        }),
        created => created.doing(|| format!("create Secret {name}")),
    }
}

fn build(tenant: &Tenant, platform: &str, name: &str, algorithm: SigningAlgorithm) -> Result<Secret, ReconcileError> {
    let pem = generate(algorithm).map_err(|_| {
        ReconcileError::waiting(
            "SigningKeyFailed",
            format!("no {algorithm:?} key could be made: the system gave no randomness"),
        )
    })?;
    let mut labels = tenant_labels(platform, &tenant.name_any());
    labels.insert(LABEL.into(), format!("{algorithm:?}"));
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: tenant.namespace(),
            labels: Some(labels),
            owner_references: owner(tenant).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some([(data_key(algorithm).to_owned(), ByteString(pem.as_bytes().to_vec()))].into()),
        ..Secret::default()
    })
}

/// A new key as PKCS#8 PEM (RFC 5208, RFC 7468); version 1, which every PEM reader takes.
fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<String>, aws_lc_rs::error::Unspecified> {
    let rng = SystemRandom::new();
    let der = match algorithm {
        SigningAlgorithm::EdDSA => Ed25519KeyPair::generate_pkcs8v1(&rng)?.as_ref().to_vec(),
        SigningAlgorithm::ES256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)?.as_ref().to_vec()
        }
        SigningAlgorithm::RS256 => {
            let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&key)?.as_ref().to_vec()
        }
        // A shared secret is the tenant's to bring; the schema asks for its secretRef.
        SigningAlgorithm::HS256 => return Err(aws_lc_rs::error::Unspecified),
    };
    let der = Zeroizing::new(der);
    let body = Zeroizing::new(BASE64_STANDARD.encode(&*der));
    let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
    for line in body.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

    use super::*;

    #[test]
    fn a_generated_key_signs_tokens() {
        type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;
        let algorithms: [(SigningAlgorithm, Algorithm, Read); 3] = [
            (SigningAlgorithm::EdDSA, Algorithm::EdDSA, EncodingKey::from_ed_pem),
            (SigningAlgorithm::ES256, Algorithm::ES256, EncodingKey::from_ec_pem),
            (SigningAlgorithm::RS256, Algorithm::RS256, EncodingKey::from_rsa_pem),
        ];
        for (ours, theirs, read) in algorithms {
            let (one, two) = (generate(ours).unwrap(), generate(ours).unwrap());
            assert_ne!(one, two);
            let key = read(one.as_bytes()).unwrap();
            assert!(encode(&Header::new(theirs), &serde_json::json!({"sub": "a"}), &key).is_ok(), "{ours:?}");
        }
    }

    fn tenant() -> Tenant {
        let mut tenant = Tenant::new_minimal("acme", "acme.example");
        tenant.metadata.uid = Some("u-1".into());
        tenant.spec.auth.signing.rotate_after_seconds = Some(3600);
        tenant.spec.auth.access_token_seconds = 900;
        tenant
    }

    fn metadata(name: &str, algorithm: &str, born: i64) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            labels: Some([(LABEL.to_owned(), algorithm.to_owned())].into()),
            owner_references: owner(&tenant()).map(|owner| vec![owner]),
            creation_timestamp: Some(Time(at(born))),
            ..ObjectMeta::default()
        }
    }

    fn note(metadata: ObjectMeta) -> Arc<Note<Secret>> {
        Arc::new(PartialObjectMeta { metadata, ..PartialObjectMeta::default() }.into())
    }

    fn key(name: &str, algorithm: &str, born: i64) -> Arc<Note<Secret>> {
        note(metadata(name, algorithm, born))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_key_that_is_old_enough_gets_a_successor_and_verifies_until_its_last_token_is_over() {
        let first = || key("acme-signing-key", "EdDSA", 0);
        let fresh = plan(&tenant(), None, vec![], at(0));
        assert_eq!((fresh.name.as_str(), fresh.next), ("acme-signing-key", Some(at(3600))));
        let young = plan(&tenant(), None, vec![first()], at(3599));
        assert_eq!((young.name.as_str(), young.verifying.len()), ("acme-signing-key", 0));
        let due = plan(&tenant(), None, vec![first()], at(3601));
        assert_eq!(due.name, "acme-signing-key-3600");
        assert_eq!(due.verifying, [(SigningAlgorithm::EdDSA, "acme-signing-key".to_owned())]);
        let both = || vec![first(), key("acme-signing-key-3600", "EdDSA", 3601)];
        let after = plan(&tenant(), None, both(), at(4000));
        assert_eq!(
            (after.name.as_str(), after.verifying.len(), after.next),
            ("acme-signing-key-3600", 1, Some(at(3601 + 900 + 120)))
        );
        let over = plan(&tenant(), None, both(), at(3601 + 900 + 120));
        assert_eq!((over.verifying.len(), over.retired.len(), over.next), (0, 1, Some(at(7201))));
    }

    #[test]
    fn another_algorithm_begins_with_a_key_of_its_own() {
        let mut tenant = tenant();
        tenant.spec.auth.signing.algorithm = SigningAlgorithm::ES256;
        let plan = plan(&tenant, None, vec![key("acme-signing-key", "EdDSA", 0)], at(10));
        assert_eq!(plan.name, "acme-signing-key-es256");
        assert_eq!(plan.verifying, [(SigningAlgorithm::EdDSA, "acme-signing-key".to_owned())]);
    }

    #[test]
    fn a_secret_that_belongs_to_an_older_tenant_of_the_name_is_not_ours() {
        let stranger = ObjectMeta { owner_references: None, ..metadata("acme-signing-key-9", "EdDSA", 5) };
        assert_eq!(plan(&tenant(), None, vec![note(stranger)], at(10)).name, "acme-signing-key");
    }

    fn signing(name: &str, since: i64, rotation: Option<&str>) -> SigningKeyInUse {
        SigningKeyInUse { secret_name: name.into(), since: Time(at(since)), rotation: rotation.map(str::to_owned) }
    }

    #[test]
    fn an_annotation_asks_for_one_new_key_and_no_more() {
        let mut tenant = tenant();
        tenant.annotations_mut().insert(ANNOTATION_ROTATE_SIGNING_KEY.into(), "leaked".into());
        let old = || key("acme-signing-key", "EdDSA", 0);
        let before = signing("acme-signing-key", 0, None);
        let asked = plan(&tenant, Some(&before), vec![old()], at(10));
        assert!(asked.name.starts_with("acme-signing-key-"), "{}", asked.name);
        // While it does not sign, nothing is retired, however long that takes.
        let both = || vec![old(), key(&asked.name, "EdDSA", 10)];
        let waiting = plan(&tenant, Some(&before), both(), at(3_000));
        assert_eq!((waiting.name.as_str(), waiting.verifying.len(), waiting.retired.len()), (&*asked.name, 1, 0));
        let after = in_use(&tenant, Some(&before), &asked.name, at(3_000));
        assert_eq!(after, signing(&asked.name, 3_000, Some("leaked")));
        let done = plan(&tenant, Some(&after), both(), at(3_001));
        assert_eq!((done.name.as_str(), done.next), (&*asked.name, Some(at(10 + 3_600))));
        // The last token of the old key was signed when the new one began, not when it was made.
        let late = 3_000 + 900 + 120;
        tenant.spec.auth.signing.rotate_after_seconds = None;
        assert_eq!(plan(&tenant, Some(&after), both(), at(late - 1)).retired.len(), 0);
        assert_eq!(plan(&tenant, Some(&after), both(), at(late)).retired.len(), 1);
    }

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

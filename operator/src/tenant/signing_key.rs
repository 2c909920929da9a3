//! The keys that sign a tenant's access tokens: made by the operator, each in a Secret of its own that is never
//! overwritten, and collected with the Tenant.
//!
//! The newest key of the wanted algorithm signs. With `rotateAfterSeconds` a key that has reached that age is followed by
//! a new one; what came before goes on verifying until the last token that it signed has expired, and is then deleted.
//! The name of a successor is derived from the moment it was due, so that two operators make one and not two.

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
    names::{SIGNING_KEY_PEM, signing_key_secret},
};
use crds::Tenant;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PartialObjectMeta, PostParams},
};
use zeroize::Zeroizing;

use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    kube_ext::{self, owned_by, owner, tenant_labels},
    stores::Key,
};

/// Marks a Secret that holds a tenant's signing key; the value is the algorithm.
const LABEL: &str = "tenantry.dev/signing-key";
/// How long after its last token's end a key still verifies: clocks differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(120);

/// The keys of one tenant at one moment.
#[derive(Debug, Clone, Default)]
pub struct SigningKeys {
    /// The first signs, all verify.
    pub live: Vec<SigningSecret>,
    /// Secrets whose last token has expired.
    retired: Vec<Arc<PartialObjectMeta<Secret>>>,
    /// When a key is due next, to be made or to be retired.
    pub next: Option<Timestamp>,
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
    let Plan { name, verifying, retired, next } = plan(tenant, known, ctx.now());
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
    Ok(SigningKeys { live, retired, next })
}

/// Deletes the Secrets of keys that verify nothing any more. Only after a document without them was applied.
pub async fn retire(ctx: &Ctx, keys: &SigningKeys) -> Result<(), ReconcileError> {
    for secret in &keys.retired {
        kube_ext::delete::<Secret>(&ctx.client, secret.as_ref()).await?;
    }
    Ok(())
}

#[derive(Debug)]
struct Plan {
    /// Name of the Secret that signs, be it there or not.
    name: String,
    verifying: Vec<(SigningAlgorithm, String)>,
    retired: Vec<Arc<PartialObjectMeta<Secret>>>,
    next: Option<Timestamp>,
}

fn plan(tenant: &Tenant, known: Vec<Arc<PartialObjectMeta<Secret>>>, now: Timestamp) -> Plan {
    let auth = &tenant.spec.auth;
    let wanted = auth.signing.algorithm;
    let base = match wanted {
        SigningAlgorithm::EdDSA => signing_key_secret(&tenant.name_any()),
        other => format!("{}-{}", signing_key_secret(&tenant.name_any()), format!("{other:?}").to_lowercase()),
    };
    let created = |secret: &PartialObjectMeta<Secret>| secret.creation_timestamp().map_or(now, |time| time.0);
    let mut keys: Vec<_> = known
        .into_iter()
        .filter(|secret| secret.metadata.deletion_timestamp.is_none() && owned_by(&secret.metadata, tenant))
        .filter_map(|secret| Some((algorithm(secret.labels().get(LABEL)?)?, secret)))
        .collect();
    // Newest first.
    keys.sort_by_key(|(_, secret)| std::cmp::Reverse((created(secret), secret.name_any())));
    let newest =
        keys.iter().find(|(algorithm, _)| *algorithm == wanted).map(|(_, secret)| (secret.name_any(), created(secret)));
    let due = |born: Timestamp| {
        let age = auth.signing.rotate_after_seconds?;
        born.checked_add(SignedDuration::from_secs(age.into())).ok()
    };
    let (name, since) = match newest {
        None => (base, now),
        Some((name, born)) => match due(born) {
            Some(due) if due <= now => (format!("{base}-{}", due.as_second()), now),
            _ => (name, born),
        },
    };
    // Tokens of the keys before were signed until `since` at the latest.
    let lifetime = SignedDuration::from_secs(auth.access_token_seconds.into()) + LEEWAY;
    let until = since.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    let (retired, verifying): (Vec<_>, Vec<_>) =
        keys.into_iter().filter(|(_, secret)| secret.name_any() != name).partition(|_| until <= now);
    let next = due(since).into_iter().chain((!verifying.is_empty()).then_some(until)).min();
    Plan {
        name,
        verifying: verifying.iter().map(|(algorithm, secret)| (*algorithm, secret.name_any())).collect(),
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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

    fn key(name: &str, algorithm: &str, born: i64) -> Arc<PartialObjectMeta<Secret>> {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some([(LABEL.to_owned(), algorithm.to_owned())].into()),
            owner_references: owner(&tenant()).map(|owner| vec![owner]),
            creation_timestamp: Some(Time(at(born))),
            ..ObjectMeta::default()
        };
        Arc::new(PartialObjectMeta { metadata, ..PartialObjectMeta::default() })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_key_that_is_old_enough_gets_a_successor_and_verifies_until_its_last_token_is_over() {
        let first = || key("acme-signing-key", "EdDSA", 0);
        let fresh = plan(&tenant(), vec![], at(0));
        assert_eq!((fresh.name.as_str(), fresh.next), ("acme-signing-key", Some(at(3600))));
        let young = plan(&tenant(), vec![first()], at(3599));
        assert_eq!((young.name.as_str(), young.verifying.len()), ("acme-signing-key", 0));
        let due = plan(&tenant(), vec![first()], at(3601));
        assert_eq!(due.name, "acme-signing-key-3600");
        assert_eq!(due.verifying, [(SigningAlgorithm::EdDSA, "acme-signing-key".to_owned())]);
        let both = || vec![first(), key("acme-signing-key-3600", "EdDSA", 3601)];
        let after = plan(&tenant(), both(), at(4000));
        assert_eq!(
            (after.name.as_str(), after.verifying.len(), after.next),
            ("acme-signing-key-3600", 1, Some(at(3601 + 900 + 120)))
        );
        let over = plan(&tenant(), both(), at(3601 + 900 + 120));
        assert_eq!((over.verifying.len(), over.retired.len(), over.next), (0, 1, Some(at(7201))));
    }

    #[test]
    fn another_algorithm_begins_with_a_key_of_its_own() {
        let mut tenant = tenant();
        tenant.spec.auth.signing.algorithm = SigningAlgorithm::ES256;
        let plan = plan(&tenant, vec![key("acme-signing-key", "EdDSA", 0)], at(10));
        assert_eq!(plan.name, "acme-signing-key-es256");
        assert_eq!(plan.verifying, [(SigningAlgorithm::EdDSA, "acme-signing-key".to_owned())]);
    }

    #[test]
    fn a_secret_that_belongs_to_an_older_tenant_of_the_name_is_not_ours() {
        let mut stranger = Arc::unwrap_or_clone(key("acme-signing-key-9", "EdDSA", 5));
        stranger.metadata.owner_references = None;
        assert_eq!(plan(&tenant(), vec![Arc::new(stranger)], at(10)).name, "acme-signing-key");
    }
}

//! A key as a Secret: made once, never overwritten.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::auth::SigningAlgorithm;
use crds::Tenant;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use zeroize::Zeroizing;

use super::{LABEL, SigningSecret, data_key, plan::first_name};
use crate::{
    error::{Doing, ReconcileError},
    kube_ext::{owner, tenant_labels},
};

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

pub(super) async fn get_or_create(
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
}

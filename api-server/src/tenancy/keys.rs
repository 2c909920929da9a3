//! A tenant's signing keys, parsed once: the newest signs, all verify, the public ones are published as a JWK set.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contract::{
    Secret,
    auth::{SigningAlgorithm, SigningKey},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use sha2::{Digest, Sha256};

/// Keys of one tenant. `Debug` shows ids only.
pub struct SigningKeys {
    signing: Option<(String, Algorithm, EncodingKey)>,
    verifying: HashMap<String, (Algorithm, DecodingKey)>,
    /// The body of `/.well-known/jwks.json`.
    pub jwks: JwkSet,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("auth.signingKeys: key {id:?} was not sealed into the document")]
    Missing { id: String },
    #[error(
        "auth.signingKeys: key {id:?} is not a usable {algorithm:?} key ({reason}): give PKCS#8 PEM, or for HS256 a text of at least 32 bytes"
    )]
    Unusable { id: String, algorithm: SigningAlgorithm, reason: String },
}

impl SigningKeys {
    pub fn compile<'a>(keys: &[SigningKey], secret: impl Fn(&str) -> Option<&'a Secret>) -> Result<Self, KeyError> {
        let mut all = Self { signing: None, verifying: HashMap::new(), jwks: JwkSet { keys: vec![] } };
        for key in keys {
            let secret = secret(&key.id).ok_or_else(|| KeyError::Missing { id: key.id.clone() })?;
            all.add(key.algorithm, secret).map_err(|reason| KeyError::Unusable {
                id: key.id.clone(),
                algorithm: key.algorithm,
                reason,
            })?;
        }
        Ok(all)
    }

    fn add(&mut self, algorithm: SigningAlgorithm, secret: &Secret) -> Result<(), String> {
        let text = secret.expose().as_bytes();
        let pem =
            |parse: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>| parse(text).map_err(|e| e.to_string());
        let (algorithm, encoding) = match algorithm {
            SigningAlgorithm::EdDSA => (Algorithm::EdDSA, pem(EncodingKey::from_ed_pem)?),
            SigningAlgorithm::ES256 => (Algorithm::ES256, pem(EncodingKey::from_ec_pem)?),
            SigningAlgorithm::RS256 => (Algorithm::RS256, pem(EncodingKey::from_rsa_pem)?),
            // Shorter than the hash is weaker than the hash (RFC 7518, 3.2).
            SigningAlgorithm::HS256 if text.len() < 32 => return Err(format!("{} bytes", text.len())),
            SigningAlgorithm::HS256 => (Algorithm::HS256, EncodingKey::from_secret(text)),
        };
        let (kid, decoding) = if algorithm == Algorithm::HS256 {
            // A thumbprint of a shared secret would let anyone test guesses of it offline, as any HS256 token does; a
            // hash in another domain at least is no drop-in for the one in a token.
            let digest = Sha256::new().chain_update(b"tenantry kid").chain_update(text).finalize();
            (BASE64_URL_SAFE_NO_PAD.encode(&digest[..12]), DecodingKey::from_secret(text))
        } else {
            let mut jwk = Jwk::from_encoding_key(&encoding, algorithm).map_err(|e| e.to_string())?;
            let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|e| e.to_string())?;
            jwk.common.key_id = Some(kid.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            let decoding = DecodingKey::from_jwk(&jwk).map_err(|e| e.to_string())?;
            self.jwks.keys.push(jwk);
            (kid, decoding)
        };
        self.signing.get_or_insert((kid.clone(), algorithm, encoding));
        self.verifying.insert(kid, (algorithm, decoding));
        Ok(())
    }

    /// The key that signs: its id, its algorithm, itself.
    pub fn signing(&self) -> Option<(&str, Algorithm, &EncodingKey)> {
        self.signing.as_ref().map(|(kid, algorithm, key)| (kid.as_str(), *algorithm, key))
    }

    /// The key with this id and the one algorithm it may be used with.
    pub fn verifying(&self, kid: &str) -> Option<(Algorithm, &DecodingKey)> {
        self.verifying.get(kid).map(|(algorithm, key)| (*algorithm, key))
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.verifying.keys()).finish()
    }
}

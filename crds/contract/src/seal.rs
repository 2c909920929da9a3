//! Credentials in and out of a document: AES-256-GCM, bound to the tenant and to the field.
//!
//! The nonce is derived from key, place and content (as in SIV modes) and not drawn: the same credential in the same
//! place gives the same bytes, so a document's revision changes only when something in it did, and two different
//! contents never meet under one nonce.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Secret, TenantId};

/// Bytes in a sealing key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const VERSION: &str = "v1";

/// A sealed credential, as it stands in a document: `v1.<key id>.<base64url of nonce and ciphertext>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// The text, for where it is kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// From where it was kept. Whether it is one shows when it is opened.
impl From<String> for Sealed {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Why a credential could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the sealing key has {0} bytes instead of {KEY_BYTES}: its Secret must hold 32 random bytes")]
    KeyLength(usize),
    #[error("the sealed value of {field} is malformed: expected v1.<key id>.<base64url>")]
    Malformed { field: String },
    #[error(
        "{field} was sealed under key {sealed_under}, and this process holds key {held}: restart it with the platform's sealing key"
    )]
    OtherKey { field: String, sealed_under: String, held: String },
    #[error("{field} does not open for this tenant: it was changed, or moved from another tenant or field")]
    NotAuthentic { field: String },
    #[error("{field} could not be sealed")]
    Failed { field: String },
}

/// The platform's key, known to the operator and mounted into the API's pods.
#[derive(Clone)]
pub struct SealingKey {
    id: String,
    cipher: Zeroizing<[u8; KEY_BYTES]>,
    nonce: Zeroizing<[u8; KEY_BYTES]>,
}

impl SealingKey {
    /// Takes the 32 random bytes of the platform's Secret; the keys in use are derived from them, one a purpose.
    pub fn new(bytes: &[u8]) -> Result<Self, SealError> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().map_err(|_| SealError::KeyLength(bytes.len()))?;
        let derive = |purpose: &str| Zeroizing::new(hmac(bytes, &[b"tenantry seal v1", purpose.as_bytes()]));
        Ok(Self { id: hex::encode(&derive("id")[..4]), cipher: derive("encrypt"), nonce: derive("nonce") })
    }

    /// Seals `plain` for one field of one tenant.
    pub fn seal(&self, tenant: TenantId, field: &str, plain: &Secret) -> Result<Sealed, SealError> {
        let aad = aad(tenant, field);
        let nonce = &hmac(&self.nonce, &[&aad, plain.expose().as_bytes()])[..NONCE_BYTES];
        let payload = Payload { msg: plain.expose().as_bytes(), aad: &aad };
        let failed = || SealError::Failed { field: field.to_owned() };
        let text =
            self.cipher().encrypt(&Nonce::try_from(nonce).map_err(|_| failed())?, payload).map_err(|_| failed())?;
        let body = BASE64_URL_SAFE_NO_PAD.encode([nonce, text.as_slice()].concat());
        Ok(Sealed(format!("{VERSION}.{}.{body}", self.id)))
    }

    /// Opens what [`Self::seal`] made for the same field of the same tenant.
    pub fn open(&self, tenant: TenantId, field: &str, sealed: &Sealed) -> Result<Secret, SealError> {
        let malformed = || SealError::Malformed { field: field.to_owned() };
        let mut parts = sealed.0.splitn(3, '.');
        let (Some(VERSION), Some(id), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        if id != self.id {
            return Err(SealError::OtherKey { field: field.into(), sealed_under: id.into(), held: self.id.clone() });
        }
        let body = BASE64_URL_SAFE_NO_PAD.decode(body).map_err(|_| malformed())?;
        let (nonce, msg) = body.split_at_checked(NONCE_BYTES).ok_or_else(malformed)?;
        let nonce = Nonce::try_from(nonce).map_err(|_| malformed())?;
        let not_authentic = || SealError::NotAuthentic { field: field.to_owned() };
        let plain =
            self.cipher().decrypt(&nonce, Payload { msg, aad: &aad(tenant, field) }).map_err(|_| not_authentic())?;
        String::from_utf8(plain).map(Secret::new).map_err(|_| not_authentic())
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*self.cipher))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

fn aad(tenant: TenantId, field: &str) -> Vec<u8> {
    [tenant.as_uuid().as_bytes(), field.as_bytes()].concat()
}

/// HMAC-SHA256 over length-prefixed parts, so that no two lists of parts give the same input.
fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    // RFC 2104 pads a key with zeros to the block size; done here, the length is known and nothing can fail.
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&(*block).into());
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&[byte; KEY_BYTES]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let (acme, other) = (TenantId::derive("a", "acme"), TenantId::derive("a", "other"));
        let secret = Secret::new("sk_test_123");
        let sealed = key(1).seal(acme, "providers/stripe/secretKey", &secret).unwrap();
        assert_eq!(key(1).open(acme, "providers/stripe/secretKey", &sealed), Ok(secret));
        for (tenant, field) in [(other, "providers/stripe/secretKey"), (acme, "providers/stripe/webhook")] {
            assert_eq!(key(1).open(tenant, field, &sealed), Err(SealError::NotAuthentic { field: field.into() }));
        }
    }

    #[test]
    fn the_same_credential_gives_the_same_bytes_and_another_does_not() {
        let tenant = TenantId::derive("a", "acme");
        let seal = |key: &SealingKey, value: &str| key.seal(tenant, "f", &Secret::new(value)).unwrap();
        assert_eq!(seal(&key(1), "one"), seal(&key(1), "one"));
        assert_ne!(seal(&key(1), "one"), seal(&key(1), "two"));
        assert_ne!(seal(&key(1), "one"), seal(&key(2), "one"));
    }

    #[test]
    fn another_key_and_damage_are_told_apart() {
        let tenant = TenantId::derive("a", "acme");
        let sealed = key(1).seal(tenant, "f", &Secret::new("value")).unwrap();
        assert!(matches!(key(2).open(tenant, "f", &sealed), Err(SealError::OtherKey { .. })));
        let mut text = sealed.0.clone();
        let last = if text.pop() == Some('A') { 'Q' } else { 'A' };
        assert!(key(1).open(tenant, "f", &Sealed(format!("{text}{last}"))).is_err());
        for bad in ["", "v1", "v1.x", "v2.a.b", "v1..", "nonsense"] {
            assert!(key(1).open(tenant, "f", &Sealed(bad.into())).is_err(), "{bad}");
        }
        assert_eq!(SealingKey::new(b"short").unwrap_err(), SealError::KeyLength(5));
    }

    #[test]
    fn neither_a_key_nor_a_secret_can_be_printed() {
        let printed =
            format!("{:?} {:?}", SealingKey::new(b"0123456789abcdef0123456789abcdef"), Secret::new("hunter2"));
        assert!(!printed.contains("hunter2") && !printed.contains("0123456789abcdef0"), "{printed}");
    }
}

//! An authenticator in software: a P-256 key, what it signs, and the browser in front of it.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const ATTESTED: u8 = 0x40;

/// One passkey and the browser it is used in. What a test wants wrong it sets.
#[derive(Clone)]
pub struct Authenticator {
    pub key: Vec<u8>,
    pub id: Vec<u8>,
    pub user_handle: Vec<u8>,
    pub counter: u32,
    /// Whether it asked for a finger or a PIN.
    pub verified: bool,
    pub synchronised: bool,
    pub origin: String,
    /// In place of the host that the options name.
    pub rp_id: Option<String>,
}

impl Authenticator {
    pub fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self {
            key: key.to_pkcs8v1().unwrap().as_ref().to_vec(),
            id: rand::random::<[u8; 16]>().to_vec(),
            user_handle: vec![],
            counter: 0,
            verified: true,
            synchronised: false,
            origin: "https://acme.test".into(),
            rp_id: None,
        }
    }

    /// Answers `navigator.credentials.create`.
    pub fn create(&mut self, options: &Value) -> Value {
        let options = &options["publicKey"];
        self.user_handle = unpack(&options["user"]["id"]);
        let client = self.client_data("webauthn.create", &options["challenge"]);
        let data = self.authenticator_data(options["rp"]["id"].as_str().unwrap(), true);
        // {"fmt": "none", "attStmt": {}, "authData": data}
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(data);
        json!({
            "id": pack(&self.id), "rawId": pack(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": { "clientDataJSON": pack(&client), "attestationObject": pack(&object), "transports": ["internal"] },
        })
    }

    /// Answers `navigator.credentials.get`.
    pub fn get(&mut self, options: &Value) -> Value {
        let options = &options["publicKey"];
        let client = self.client_data("webauthn.get", &options["challenge"]);
        let data = self.authenticator_data(options["rpId"].as_str().unwrap(), false);
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key).unwrap();
        let signed = [&data[..], &Sha256::digest(&client)[..]].concat();
        let signature = key.sign(&SystemRandom::new(), &signed).unwrap();
        json!({
            "id": pack(&self.id), "rawId": pack(&self.id), "type": "public-key", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": pack(&client), "authenticatorData": pack(&data),
                "signature": pack(signature.as_ref()), "userHandle": pack(&self.user_handle),
            },
        })
    }

    fn client_data(&self, kind: &str, challenge: &Value) -> Vec<u8> {
        json!({ "type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false })
            .to_string()
            .into_bytes()
    }

    fn authenticator_data(&mut self, rp_id: &str, attested: bool) -> Vec<u8> {
        let rp_id = self.rp_id.as_deref().unwrap_or(rp_id);
        let mut flags = PRESENT;
        for (flag, set) in [(VERIFIED, self.verified), (BACKUP_ELIGIBLE, self.synchronised), (ATTESTED, attested)] {
            flags |= if set { flag } else { 0 };
        }
        let mut data = Sha256::digest(rp_id).to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        if attested {
            data.extend([0; 16]);
            data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
            data.extend(&self.id);
            data.extend(self.public_key());
        }
        data
    }

    /// COSE (RFC 9053): {1: 2 (EC2), 3: -7 (ES256), -1: 1 (P-256), -2: x, -3: y}
    fn public_key(&self) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key).unwrap();
        let point = key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", x, b"\x22\x58\x20", y].concat()
    }
}

pub fn pack(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn unpack(text: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

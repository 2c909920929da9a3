//! A namespace in YAML, looked at by the real shelves and the real [`validate`](super::validate::validate): a test
//! cannot begin from what a cluster could not hold.

use contract::{
    TenantConfig, TenantId,
    auth::SigningAlgorithm,
    names::{DOCUMENT_KEY, SIGNING_KEY_PEM},
    seal::SealingKey,
};
use crds::{PaymentProvider, Platform, RateLimitPolicy, RoleBinding, Tenant};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    build,
    dereference::{Dereferenced, shelved},
    signing_key::SigningSecret,
    validate::{ValidatedTenant, validate},
};
use crate::{kube_ext::Prepared, render::secrets::Secrets, stores::Stores};

/// PKCS#8 of a key that was made for these tests and signs nothing else.
const SIGNING_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
pub const SEALING_KEY: [u8; 32] = [7; 32];
pub const NOW: &str = "2026-11-21T12:00:00Z";

/// What stands in every scene: a Platform with its sealing key, and the Tenant `acme`.
pub const BASE: &str = "
kind: Platform
metadata: {name: main, creationTimestamp: 2026-01-01T00:00:00Z}
spec: {postgres: {external: {secretRef: {name: db}}}, redis: {external: {secretRef: {name: redis}}}}
---
kind: Secret
metadata: {name: main-sealing-key}
data: {key: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=}
---
kind: Tenant
metadata: {name: acme, generation: 1, creationTimestamp: 2026-01-02T00:00:00Z}
spec: {hostnames: [acme.example], plan: pro}
";

/// A namespace at one moment.
pub struct Scene {
    pub documents: Vec<Value>,
    pub stored: Option<ConfigMap>,
    pub now: Timestamp,
}

impl Scene {
    /// [`BASE`] and these documents, of which a later one replaces an earlier one of its kind and name.
    pub fn new(yaml: &str) -> Self {
        let mut documents: Vec<Value> = Vec::new();
        let all = format!("{BASE}---\n{yaml}");
        for text in all.split("\n---\n").filter(|text| !text.trim().is_empty()) {
            let document: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
            documents.retain(|known| {
                known["kind"] != document["kind"] || known["metadata"]["name"] != document["metadata"]["name"]
            });
            documents.push(document);
        }
        Self { documents, stored: None, now: NOW.parse().unwrap() }
    }

    /// The scene after what it renders was written, with these documents changed.
    pub fn then(&self, yaml: &str) -> Self {
        let Prepared(stored) = self.document();
        let mut next = Self::new("");
        next.documents.clone_from(&self.documents);
        for document in Self::new(yaml).documents {
            next.documents.retain(|known| {
                known["kind"] != document["kind"] || known["metadata"]["name"] != document["metadata"]["name"]
            });
            next.documents.push(document);
        }
        Self { stored: Some(stored), now: self.now, ..next }
    }

    pub fn without(mut self, kind: &str, name: &str) -> Self {
        self.documents.retain(|document| document["kind"] != kind || document["metadata"]["name"] != name);
        self
    }

    pub fn found(&self, tenant: &str) -> Dereferenced {
        let stores = Stores::default();
        let mut secrets = Vec::new();
        for document in &self.documents {
            match document["kind"].as_str().unwrap() {
                "Platform" => drop(stores.platforms.put(read::<Platform>(document))),
                "Tenant" => drop(stores.tenants.put(read::<Tenant>(document))),
                "RoleBinding" => drop(stores.role_bindings.put(read::<RoleBinding>(document))),
                "PaymentProvider" => drop(stores.payment_providers.put(read::<PaymentProvider>(document))),
                "RateLimitPolicy" => drop(stores.rate_limit_policies.put(read::<RateLimitPolicy>(document))),
                "Secret" => secrets.push(secret(document)),
                other => panic!("no kind {other}"),
            }
        }
        let mut found = shelved(&stores, stores.tenants.get("shop", tenant).unwrap());
        let named = found.secret_names();
        found.secrets = secrets
            .into_iter()
            .filter(|secret| named.contains(&secret.name_any()))
            .map(|secret| (secret.name_any(), Some(secret)))
            .collect::<Secrets>();
        if found.tenant.spec.auth.signing.secret_ref.is_none() {
            let mut secret = Secret {
                data: Some([(SIGNING_KEY_PEM.to_owned(), ByteString(SIGNING_KEY.into()))].into()),
                ..Secret::default()
            };
            secret.metadata.name = Some(format!("{tenant}-signing-key"));
            found.signing_keys.live = vec![SigningSecret { algorithm: SigningAlgorithm::EdDSA, secret }];
        }
        found.stored.clone_from(&self.stored);
        found
    }

    pub fn validated(&self) -> ValidatedTenant {
        validate(&self.found("acme"), self.now)
    }

    pub fn config(&self) -> TenantConfig {
        self.validated().config.expect("nothing is served").1
    }

    pub fn document(&self) -> Prepared<ConfigMap> {
        let found = self.found("acme");
        let (platform, config) = self.validated().config.expect("nothing is served");
        build::document(&found.tenant, &platform, &config).unwrap().1
    }

    pub fn text(&self) -> String {
        let Prepared(object) = self.document();
        object.data.unwrap().remove(DOCUMENT_KEY).unwrap()
    }
}

pub fn tenant_id() -> TenantId {
    TenantId::derive("shop", "acme")
}

pub fn sealing_key() -> SealingKey {
    SealingKey::new(&SEALING_KEY).unwrap()
}

fn read<K: DeserializeOwned + ResourceExt>(document: &Value) -> K {
    let mut document = document.clone();
    document["apiVersion"] = "tenantry.dev/v1alpha1".into();
    let mut object: K = serde_json::from_value(document).unwrap();
    object.meta_mut().namespace = Some("shop".into());
    object
}

fn secret(document: &Value) -> Secret {
    let mut secret: Secret = serde_json::from_value(document.clone()).unwrap();
    let texts = secret.string_data.take().into_iter().flatten();
    let texts: Vec<_> = texts.map(|(key, text)| (key, ByteString(text.into_bytes()))).collect();
    secret.data.get_or_insert_default().extend(texts);
    secret.metadata.namespace = Some("shop".into());
    secret.metadata.resource_version.get_or_insert_with(|| "1".into());
    secret
}

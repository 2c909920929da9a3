//! The Secrets that a rendering needs. Who may not read them gets stand-ins on both sides: what would change is then told
//! as well, only the revisions are not.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use contract::{auth::SigningAlgorithm, payments::Mode};
use crds::Platform;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use operator::{
    platform::{declared, dereference::smtp_secret},
    tenant::{
        dereference::{Dereferenced, sealing_key},
        signing_key,
    },
};

use crate::connect::Connection;

/// Requests under way at once.
pub const AT_ONCE: usize = 8;

/// Secrets by name, each read once.
#[derive(Default)]
pub struct Known {
    read: BTreeMap<String, Option<Secret>>,
    /// Reading was refused: everything is a stand-in.
    pub refused: bool,
}

impl Known {
    /// Reads what all of these need.
    pub async fn read(connection: &Connection, names: BTreeSet<String>) -> Result<Self> {
        let api = connection.api::<Secret>();
        let reads = stream::iter(names).map(|name| {
            let api = &api;
            async move { api.get_opt(&name).await.map(|secret| (name, secret)) }
        });
        match reads.buffer_unordered(AT_ONCE).try_collect::<BTreeMap<_, _>>().await {
            Ok(read) => Ok(Self { read, refused: false }),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Self { refused: true, ..Self::default() }),
            Err(error) => Err(error).context("cannot read Secrets"),
        }
    }

    /// What a Platform's pods are told from Secrets.
    pub fn of_platform(&self, platform: &Platform, changed: &BTreeMap<String, Option<Secret>>) -> declared::Secrets {
        let data = |name: Option<String>| {
            let name = name?;
            match changed.get(&name).or_else(|| self.read.get(&name)) {
                Some(secret) => secret.as_ref().map(|secret| secret.data.clone().unwrap_or_default()),
                // The same on both sides, so that only what differs is told.
                None if self.refused => Some([("uri".to_owned(), ByteString(b"stand-in".to_vec()))].into()),
                None => None,
            }
        };
        let [postgres, redis, mail, sealing] = names_of(platform);
        let mut sealing_key = data(sealing);
        if self.refused {
            let key = ByteString(vec![0; contract::seal::KEY_BYTES]);
            sealing_key = Some([(contract::names::SEALING_KEY.to_owned(), key)].into());
        }
        declared::Secrets { postgres: data(postgres), redis: data(redis), mail: data(mail), sealing_key }
    }

    /// Puts in what the rendering of `found` needs, with `changed` in place of what is stored.
    pub fn fill(&self, found: &mut Dereferenced, changed: &BTreeMap<String, Option<Secret>>) {
        let stand_ins = if self.refused { stand_ins(found) } else { BTreeMap::new() };
        let of = |name: &String| {
            let known = changed.get(name).or_else(|| stand_ins.get(name)).or_else(|| self.read.get(name));
            known.cloned().flatten()
        };
        found.secrets = found.secret_names().into_iter().map(|name| (name.clone(), of(&name))).collect();
    }
}

/// Secrets that a Platform reads: PostgreSQL's, Redis', the mail server's, and its sealing key.
pub fn names_of(platform: &Platform) -> [Option<String>; 4] {
    let (postgres, redis) = (&platform.spec.postgres.external, &platform.spec.redis.external);
    [
        postgres.as_ref().map(|external| external.secret_ref.name.clone()),
        redis.as_ref().map(|external| external.secret_ref.name.clone()),
        smtp_secret(platform).map(str::to_owned),
        Some(contract::names::sealing_key_secret(&platform.name_any())),
    ]
}

/// Secrets of the right form that open nothing.
fn stand_ins(found: &Dereferenced) -> BTreeMap<String, Option<Secret>> {
    let mut all: BTreeMap<String, Secret> = BTreeMap::new();
    let mut put = |name: &str, key: &str, text: String| {
        let secret = all.entry(name.to_owned()).or_insert_with(|| Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Secret::default()
        });
        secret.data.get_or_insert_default().insert(key.to_owned(), ByteString(text.into_bytes()));
    };
    if let Ok(platform) = &found.platform {
        let key = sealing_key(platform);
        put(&key.name, &key.key, "0".repeat(contract::seal::KEY_BYTES));
    }
    let signing = &found.tenant.spec.auth.signing;
    if let Some(reference) = &signing.secret_ref {
        let (key, text) = match signing.algorithm {
            SigningAlgorithm::HS256 => ("secret", "0".repeat(64)),
            algorithm => ("private.pem", signing_key::stand_in(algorithm).unwrap_or_default()),
        };
        put(&reference.name, key, text);
    }
    for provider in &found.providers {
        for reference in provider.spec.secret_keys() {
            put(&reference.name, &reference.key, "stand-in".into());
        }
        if let Some(stripe) = &provider.spec.stripe {
            let mode = if provider.spec.mode == Mode::Live { "live" } else { "test" };
            let key = &stripe.secret_key_secret_ref;
            put(&key.name, &key.key, format!("sk_{mode}_stand_in"));
            for reference in &stripe.webhook_signing_secret_refs {
                put(&reference.name, &reference.key, "whsec_stand_in".into());
            }
        }
    }
    all.into_iter().map(|(name, secret)| (name, Some(secret))).collect()
}

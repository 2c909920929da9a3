//! What of a Platform can be run: Secrets with the keys that are needed, hosts, and what is declared but not carried out.

mod wants;

use std::collections::BTreeMap;

use contract::seal::KEY_BYTES;
use crds::{
    Tenant,
    conditions::reasons,
    platform::{External, Smtp},
};
use k8s_openapi::ByteString;
use sha2::{Digest, Sha256};

use super::{
    dereference::{Data, Dereferenced},
    managed::{self, Verdict, names::Store},
};

/// A Platform that can be run, with nothing left to decide.
#[derive(Debug, Clone)]
pub struct ValidatedPlatform {
    pub image: String,
    /// What the API is told about its database, or why it cannot be.
    pub postgres: Result<Source, Problem>,
    pub redis: Result<Source, Problem>,
    /// What the API is told of its mail server.
    pub mail: Option<MailServer>,
    /// Whether the sealing key has to be made; a problem where the one that is there cannot be used.
    pub sealing_key: Result<SealingKey, Problem>,
    /// Hosts of the Ingress, sorted.
    pub hosts: Vec<String>,
    pub replicas: u32,
    /// What is declared and cannot be had here, with the cure.
    pub wants: Vec<Problem>,
    /// Fields that are declared and not carried out yet, as sentences.
    pub not_carried_out: Vec<&'static str>,
}

/// A Secret to connect with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub secret: String,
    pub shape: Shape,
    /// Which of the optional keys are there.
    pub optional: Vec<&'static str>,
    /// Changes with the Secret's content, and tells nothing about it.
    pub digest: String,
}

/// A mail server, and what of its Secret is there. What is missing keeps no pod from running: mails wait, and `wants` says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    pub smtp: Smtp,
    /// Whether the Secret has certificates.
    pub ca: bool,
    /// Changes with the Secret's content, and tells nothing about it; `None` without a Secret.
    pub digest: Option<String>,
}

/// How a Secret says where to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Uri,
    Parts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealingKey {
    Present,
    Missing,
}

/// Why something cannot be used: a reason for machines, a sentence with the cure for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub reason: &'static str,
    pub message: String,
}

const POSTGRES_PARTS: &[&str] = &["host", "port", "dbname", "username", "password"];
const POSTGRES_OPTIONAL: &[&str] = &["sslmode", "ca"];
const REDIS_PARTS: &[&str] = &["host", "port", "password"];

pub fn validate(found: &Dereferenced, default_image: &str) -> ValidatedPlatform {
    let spec = &found.platform.spec;
    let resolve = |what: Wanted<'_>| what.resolve(pepper(found));
    let bounds = spec.autoscaling.as_ref().filter(|autoscaling| autoscaling.enabled);
    ValidatedPlatform {
        image: spec.image.as_ref().map_or_else(|| default_image.to_owned(), crds::platform::Image::reference),
        postgres: resolve(Wanted {
            field: "spec.postgres",
            example: "uri (postgres://user:password@host:5432/database)",
            external: spec.postgres.external.as_ref(),
            managed: spec.postgres.managed.as_ref().map(|_| made_here(found, Store::Postgres)),
            data: &found.postgres,
            parts: POSTGRES_PARTS,
            optional: POSTGRES_OPTIONAL,
        }),
        redis: resolve(Wanted {
            field: "spec.redis",
            example: "uri (redis://:password@host:6379)",
            external: spec.redis.external.as_ref(),
            managed: spec.redis.managed.as_ref().map(|_| made_here(found, Store::Redis)),
            data: &found.redis,
            parts: REDIS_PARTS,
            optional: &["username"],
        }),
        mail: mail_server(found),
        sealing_key: sealing_key(found),
        hosts: hosts(found),
        // The autoscaler sets spec.replicas through /scale; between its bounds it decides. 0 is the stop of every
        // autoscaler: it leaves alone what was scaled to nothing.
        replicas: bounds.filter(|_| spec.replicas > 0).map_or(spec.replicas, |bounds| {
            spec.replicas.max(bounds.min_replicas).min(bounds.max_replicas.max(bounds.min_replicas))
        }),
        wants: wants::wants(found),
        not_carried_out: not_carried_out(found),
    }
}

struct Wanted<'a> {
    field: &'static str,
    example: &'static str,
    external: Option<&'a External>,
    /// Its Secret, and what is to be said while that is not there.
    managed: Option<(String, Verdict)>,
    data: &'a Data,
    parts: &'static [&'static str],
    optional: &'static [&'static str],
}

impl Wanted<'_> {
    fn resolve(self, pepper: &[u8]) -> Result<Source, Problem> {
        let Self { field, example, external, managed, data, parts, optional } = self;
        if let Some((secret, Verdict { reason, message, .. })) = managed {
            let Some(data) = data else { return Err(Problem { reason, message }) };
            return Ok(Source { secret, shape: Shape::Uri, optional: Vec::new(), digest: digest(pepper, data) });
        }
        let name = external.map(|External { secret_ref }| secret_ref.name.as_str()).unwrap_or_default();
        let Some(data) = data else {
            let message = format!(
                "{field}.external.secretRef.name is {name:?}, and there is no such Secret: create it with the key {example}",
            );
            return Err(Problem { reason: reasons::SECRET_NOT_FOUND, message });
        };
        let has = |key: &&str| data.get(*key).is_some_and(|value| !value.0.is_empty());
        let shape = if has(&"uri") {
            Shape::Uri
        } else if parts.iter().all(has) {
            Shape::Parts
        } else {
            let missing: Vec<_> = parts.iter().filter(|key| !has(key)).copied().collect();
            let message = format!(
                "Secret {name} named in {field}.external.secretRef lacks {}: add the key {example}, or all of {}",
                missing.join(", "),
                parts.join(", "),
            );
            return Err(Problem { reason: reasons::SECRET_KEY_NOT_FOUND, message });
        };
        let optional = optional.iter().filter(|key| has(key)).copied().collect();
        Ok(Source { secret: name.to_owned(), shape, optional, digest: digest(pepper, data) })
    }
}

/// The Secret of a managed store, and what is said while it is not there.
fn made_here(found: &Dereferenced, store: Store) -> (String, Verdict) {
    let verdict = match store {
        Store::Postgres => managed::postgres_verdict(found),
        Store::Redis => managed::redis_verdict(found),
    };
    let unknown = || Verdict { well: false, reason: reasons::STARTING, message: "the operator makes it".into() };
    (store.app(&found.name), verdict.unwrap_or_else(unknown))
}

/// The digest of a Secret's content as [`Source::digest`] has it.
pub fn secret_digest(found: &Dereferenced, data: &BTreeMap<String, ByteString>) -> String {
    digest(pepper(found), data)
}

fn pepper(found: &Dereferenced) -> &[u8] {
    let key = found.sealing_key.as_ref().and_then(|data| data.get(contract::names::SEALING_KEY));
    key.map(|key| key.0.as_slice()).unwrap_or_default()
}

/// A hash of the content under a key that nobody else has: short passwords cannot be guessed from it.
fn digest(pepper: &[u8], data: &BTreeMap<String, ByteString>) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once(pepper).chain(data.iter().flat_map(|(key, value)| [key.as_bytes(), &value.0])) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}

fn mail_server(found: &Dereferenced) -> Option<MailServer> {
    let smtp = found.platform.spec.mail.as_ref()?.smtp.clone();
    let data = found.mail.as_ref();
    let ca = data.and_then(|data| data.get("ca")).is_some_and(|ca| !ca.0.is_empty());
    Some(MailServer { smtp, ca, digest: data.map(|data| secret_digest(found, data)) })
}

fn sealing_key(found: &Dereferenced) -> Result<SealingKey, Problem> {
    let name = contract::names::sealing_key_secret(&found.name);
    let Some(data) = &found.sealing_key else { return Ok(SealingKey::Missing) };
    match data.get(contract::names::SEALING_KEY) {
        Some(key) if key.0.len() == KEY_BYTES => Ok(SealingKey::Present),
        other => Err(Problem {
            reason: reasons::SECRET_INVALID,
            message: format!(
                "Secret {name} must hold {KEY_BYTES} random bytes under the key {:?} and holds {}: put the original key \
                 back, or delete the Secret to have a new one made",
                contract::names::SEALING_KEY,
                other.map_or(0, |key| key.0.len()),
            ),
        }),
    }
}

/// Declared hosts, or else the hostnames that the tenants hold.
fn hosts(found: &Dereferenced) -> Vec<String> {
    let spec = &found.platform.spec;
    let (ingress, gateway) = (spec.ingress.iter().map(|i| &i.hosts), spec.gateway.iter().map(|g| &g.hosts));
    let declared = ingress.chain(gateway).next().cloned().unwrap_or_default();
    let mut hosts =
        if declared.is_empty() { found.tenants.iter().flat_map(|tenant| held(tenant)).collect() } else { declared };
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The hostnames that a Tenant holds after conflicts were resolved; before they were, those that it asks for.
pub fn held(tenant: &Tenant) -> Vec<String> {
    match &tenant.status {
        Some(status) if status.observed_generation.is_some() => status.hostnames.clone(),
        _ => tenant.spec.hostnames.clone(),
    }
}

fn not_carried_out(found: &Dereferenced) -> Vec<&'static str> {
    let spec = &found.platform.spec;
    let declared = [
        (spec.web_push.is_some(), "spec.webPush: no notification is pushed"),
        (spec.object_store.is_some(), "spec.objectStore: no file is stored"),
        (
            spec.observability.sentry_dsn_secret_ref.is_some(),
            "spec.observability.sentryDsnSecretRef: errors are only logged",
        ),
    ];
    declared.into_iter().filter(|(declared, _)| *declared).map(|(_, sentence)| sentence).collect()
}

#[cfg(test)]
mod tests;

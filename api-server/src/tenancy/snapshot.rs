//! One tenant, compiled: what every request would otherwise work out again.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
};

use contract::{
    Revision, RoleName, Secret, TenantConfig,
    access::{self, Permission, SubjectKind},
    auth::{IdentityProvider, SigningKey},
    codec::{self, DecodeError},
    payments::{Account, Provider},
    seal::{SealError, Sealed, SealingKey},
    tenant::{OwnDatabase, TenantState},
};
use jiff::Timestamp;

use super::keys::{KeyError, SigningKeys};
use crate::{
    condition::{self, Condition, Facts},
    limits::Limits,
};

/// A tenant as one revision of its document says it is. Never changed: a new document makes a new one.
#[derive(Debug)]
pub struct TenantSnapshot {
    pub revision: Revision,
    pub loaded_at: Timestamp,
    pub keys: SigningKeys,
    pub rate_limits: Limits,
    config: TenantConfig,
    /// Credentials by the field they were sealed under.
    secrets: HashMap<String, Secret>,
    /// Positions in `config.bindings` by subject; a user's e-mail address in lower case.
    subjects: HashMap<SubjectKind, HashMap<String, Vec<usize>>>,
    /// Of each binding.
    conditions: Vec<Option<Condition>>,
    origins: HashSet<String>,
}

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the document has no signing key in auth.signingKeys, so nobody could be signed in")]
    NoSigningKey,
    #[error(
        "the address of the tenant's database cannot be read: expected postgres://user:password@host:5432/database"
    )]
    Database,
    #[error("the document is of tenant {found}, and it stands in the place of {expected}")]
    Misplaced { expected: String, found: String },
}

impl TenantSnapshot {
    /// Reads a document and opens its credentials: whole, or not at all.
    pub fn compile(document: &str, key: &SealingKey, now: Timestamp) -> Result<Self, Rejection> {
        let (revision, config) = codec::decode(document)?;
        let secrets = open_all(&config, key)?;
        let keys = SigningKeys::compile(&config.auth.signing_keys, |id| secrets.get(&SigningKey::seal_field(id)))?;
        let mut subjects: HashMap<_, HashMap<String, Vec<usize>>> = HashMap::new();
        for (at, binding) in config.bindings.iter().enumerate() {
            for subject in &binding.subjects {
                let name = subject.compared().into_owned();
                subjects.entry(subject.kind).or_default().entry(name).or_default().push(at);
            }
        }
        let conditions =
            config.bindings.iter().map(|binding| binding.when.as_deref().map(condition::compile)).collect();
        let origins = config.cors.allowed_origins.iter().cloned().collect();
        let rate_limits = Limits::compile(&config);
        Ok(Self { revision, loaded_at: now, keys, rate_limits, config, secrets, subjects, conditions, origins })
    }

    /// A credential, by the field it was sealed under (`contract::payments::Provider::seal_field`).
    pub fn secret(&self, field: &str) -> Option<&Secret> {
        self.secrets.get(field)
    }

    pub fn config(&self) -> &TenantConfig {
        &self.config
    }

    /// Positions of the bindings that name this subject.
    pub fn bindings_of(&self, kind: SubjectKind, name: &str) -> &[usize] {
        self.subjects.get(&kind).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }

    /// Whether a binding counts for every request at this time.
    pub fn counts(&self, binding: usize, now: Timestamp) -> bool {
        self.conditions[binding].is_none() && self.lasts(binding, now)
    }

    /// Whether a binding counts at this time for requests that meet its condition.
    pub fn is_conditional(&self, binding: usize, now: Timestamp) -> bool {
        self.conditions[binding].is_some() && self.lasts(binding, now)
    }

    /// Whether the condition of a binding holds. One that cannot be evaluated does not.
    pub fn meets(&self, binding: usize, facts: &Facts) -> bool {
        self.conditions[binding].as_ref().is_none_or(|condition| condition.holds(facts) == Some(true))
    }

    fn lasts(&self, binding: usize, now: Timestamp) -> bool {
        self.config.bindings[binding].lasts(now)
    }

    /// What a role may do in this tenant: a built-in one always the same, another as the RoleBindings that bring it say. A
    /// role that nothing declares any more may do nothing.
    pub fn permissions_of(&self, role: &RoleName) -> Vec<Permission> {
        access::built_in(role).unwrap_or_else(|| {
            let declared = self.config.bindings.iter().filter(|binding| binding.role == *role);
            declared.flat_map(|binding| binding.permissions.iter().cloned()).collect()
        })
    }

    /// Whether there is such a role: built in, or declared by a RoleBinding.
    pub fn has_role(&self, role: &RoleName) -> bool {
        access::built_in_number(role).is_some() || self.config.bindings.iter().any(|binding| binding.role == *role)
    }

    pub fn allows_origin(&self, origin: &str) -> bool {
        self.origins.contains(origin)
    }

    pub fn is_suspended(&self) -> bool {
        self.config.state == TenantState::Suspended
    }

    /// `iss` of the tenant's tokens.
    pub fn issuer(&self) -> String {
        match self.config.hostnames.first() {
            Some(host) => format!("https://{host}"),
            None => self.urn(),
        }
    }

    /// Whether `iss` may stand in a token of this tenant: any of its hosts, since the first one may have changed.
    pub fn is_issuer(&self, iss: &str) -> bool {
        match iss.strip_prefix("https://") {
            Some(host) => self.config.hostnames.iter().any(|held| held.as_str() == host),
            None => iss == self.urn(),
        }
    }

    fn urn(&self) -> String {
        format!("urn:tenantry:{}", self.config.id)
    }
}

impl Deref for TenantSnapshot {
    type Target = TenantConfig;
    fn deref(&self) -> &TenantConfig {
        &self.config
    }
}

fn open_all(config: &TenantConfig, key: &SealingKey) -> Result<HashMap<String, Secret>, SealError> {
    let mut secrets = HashMap::new();
    for (field, sealed) in sealed_fields(config) {
        let secret = key.open(config.id, &field, sealed)?;
        secrets.insert(field, secret);
    }
    Ok(secrets)
}

/// Every sealed field of a document with the name it was sealed under.
fn sealed_fields(config: &TenantConfig) -> Vec<(String, &Sealed)> {
    let mut fields: Vec<_> =
        config.auth.signing_keys.iter().map(|key| (SigningKey::seal_field(&key.id), &key.key)).collect();
    fields.extend(
        config.auth.identity_providers.iter().filter_map(|provider| {
            Some((IdentityProvider::seal_field(&provider.name), provider.client_secret.as_ref()?))
        }),
    );
    fields.extend(config.database.iter().map(|own| (OwnDatabase::SEAL_FIELD.to_owned(), &own.uri)));
    for provider in &config.providers {
        let mut add =
            |credential: &str, sealed| fields.push((Provider::seal_field(&provider.name, credential), sealed));
        match &provider.account {
            Account::Stripe { secret_key, webhook_signing_secrets, .. } => {
                add("secretKey", secret_key);
                for (at, secret) in webhook_signing_secrets.iter().enumerate() {
                    add(&format!("webhookSigningSecrets/{at}"), secret);
                }
            }
            Account::Cryptomus { payment_key, payout_key, .. } => {
                add("paymentKey", payment_key);
                if let Some(payout_key) = payout_key {
                    add("payoutKey", payout_key);
                }
            }
        }
    }
    fields
}

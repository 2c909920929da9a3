//! The document: all that the API knows of a tenant.

use serde::{Deserialize, Serialize};

use crate::{
    Hostname, TenantId, TenantName, access::Binding, auth::Auth, limits::Limit, payments::Provider, seal::Sealed,
};

/// One tenant as the API serves it. Lists are kept sorted by [`TenantConfig::normalize`], so that equal tenants have
/// equal documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantConfig {
    pub id: TenantId,
    pub name: TenantName,
    pub display_name: String,
    /// Hostnames that this tenant holds, after conflicts were resolved.
    pub hostnames: Vec<Hostname>,
    /// A label for metrics and limits; free text of low cardinality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    pub state: TenantState,
    /// Where the tenant's data is, if not in the database that the others share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<OwnDatabase>,
    #[serde(default)]
    pub dialect: Dialect,
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub cors: Cors,
    #[serde(default)]
    pub branding: Branding,
    #[serde(default)]
    pub quotas: Quotas,
    #[serde(default)]
    pub bindings: Vec<Binding>,
    #[serde(default)]
    pub providers: Vec<Provider>,
    #[serde(default)]
    pub limits: Vec<Limit>,
}

impl TenantConfig {
    /// A tenant with nothing but its name; the defaults of everything else.
    #[must_use]
    pub fn new(id: TenantId, name: TenantName) -> Self {
        Self {
            id,
            display_name: name.to_string(),
            name,
            hostnames: Vec::new(),
            plan: None,
            state: TenantState::Active,
            database: None,
            dialect: Dialect::default(),
            auth: Auth::default(),
            cors: Cors::default(),
            branding: Branding::default(),
            quotas: Quotas::default(),
            bindings: Vec::new(),
            providers: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// Puts every list whose order means nothing into one order. Signing keys and webhook secrets keep theirs.
    pub fn normalize(&mut self) {
        self.hostnames.sort();
        self.hostnames.dedup();
        self.cors.allowed_origins.sort();
        self.bindings.sort_by(|a, b| a.name.cmp(&b.name));
        for binding in &mut self.bindings {
            binding.permissions.sort();
            binding.subjects.sort();
        }
        self.providers.sort_by(|a, b| a.name.cmp(&b.name));
        self.limits.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// A database that holds one tenant's data alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDatabase {
    /// `postgres://…`, sealed under [`Self::SEAL_FIELD`].
    pub uri: Sealed,
}

impl OwnDatabase {
    pub const SEAL_FIELD: &str = "database/uri";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TenantState {
    Active,
    /// Every request is refused with 403; the data is kept.
    Suspended,
}

/// The shape of answers that the tenant's frontends expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Dialect {
    /// `{success, data, message}`
    #[default]
    Envelope,
    /// Top-level fields, errors as `{code, message}`.
    Flat,
    /// `{token, user}`, errors as `{error, details}`.
    Legacy,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// Origins (`https://app.example.com`) that browsers may call from, with credentials.
    pub allowed_origins: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Branding {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// Where links in mails and returns from a payment page lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail_from: Option<String>,
}

/// Upper bounds; absent means none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quotas {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
}

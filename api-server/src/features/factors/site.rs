//! Where passkeys are made and used: the host that was asked (the relying party's id), and the pages that may ask for it.
//!
//! A browser offers a passkey to pages of its host alone. A frontend on another one (`app.acme.com` beside `api.acme.com`) is
//! named in the document at `/.well-known/webauthn`, as Related Origin Requests of WebAuthn Level 3 have it.

use url::Url;
use webauthn_rs::{Webauthn, WebauthnBuilder};

use super::{challenges::LIFETIME, model::FactorsError};
use crate::tenancy::TenantSnapshot;

/// One host of a tenant.
#[derive(Debug, Clone)]
pub struct Site {
    pub rp_id: String,
    origins: Vec<Url>,
}

impl Site {
    /// The host that was asked, where the tenant holds it; else its first one (a request that names its tenant by a header).
    pub fn of(tenant: &TenantSnapshot, asked: Option<&str>) -> Result<Self, FactorsError> {
        let held = tenant.hostnames.iter().find(|host| Some(host.as_str()) == asked);
        let host = held.or(tenant.hostnames.first()).ok_or(FactorsError::NoHost)?;
        Ok(Self { rp_id: host.to_string(), origins: origins(tenant) })
    }

    /// What checks ceremonies of this site.
    pub fn webauthn(&self, name: &str) -> Result<Webauthn, FactorsError> {
        let own = Url::parse(&format!("https://{}", self.rp_id)).map_err(|_| FactorsError::NoHost)?;
        let builder = WebauthnBuilder::new(&self.rp_id, &own).map_err(|_| FactorsError::NoHost)?;
        let time = std::time::Duration::try_from(LIFETIME).unwrap_or_default();
        let builder =
            self.origins.iter().fold(builder.rp_name(name).timeout(time), WebauthnBuilder::append_allowed_origin);
        builder.build().map_err(|_| FactorsError::NoHost)
    }
}

/// The pages from which a tenant's passkeys are used: its hosts, its frontend, and whoever may call from a browser.
pub fn origins(tenant: &TenantSnapshot) -> Vec<Url> {
    let hosts = tenant.hostnames.iter().map(|host| format!("https://{host}"));
    let frontend = tenant.branding.frontend_url.clone();
    let all = hosts.chain(frontend).chain(tenant.cors.allowed_origins.iter().cloned());
    let mut origins: Vec<Url> = vec![];
    for url in all.filter_map(|text| Url::parse(&text).ok()) {
        // Without path and query, which an origin does not have.
        let Ok(origin) = Url::parse(&url.origin().ascii_serialization()) else { continue };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

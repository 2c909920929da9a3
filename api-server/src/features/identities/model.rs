//! The rules of the room, without a database and without HTTP.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contract::{TenantConfig, auth::IdentityProvider};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;
use uuid::Uuid;

use super::openid::ProviderError;
use crate::{
    error::Detail,
    extract::UserId,
    features::{auth::AuthError, users::UsersError},
};

/// How long somebody may stay at the provider.
pub const FLOW_LASTS: SignedDuration = SignedDuration::from_mins(10);

/// The secret of one sign-in under way, which only the browser holds. What goes through other hands (state, nonce) and what
/// proves the browser to the provider (the code verifier) are derived from it, so nothing of it need be kept here.
pub struct FlowSecret([u8; 32]);

impl FlowSecret {
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// `None` for what cannot be one.
    pub fn given(text: &str) -> Option<Self> {
        BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The secret itself, for the one answer that carries it.
    pub fn expose(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is stored.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// Ties the answer to the question (RFC 6749, section 10.12).
    pub fn state(&self) -> String {
        self.derive("state")
    }

    /// Whether a state that came back is this one's.
    pub fn is_state(&self, given: &str) -> bool {
        self.state().as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Ties the ID token to the question (OpenID Connect Core, section 15.5.2).
    pub fn nonce(&self) -> String {
        self.derive("nonce")
    }

    /// 43 characters, as RFC 7636, section 4.1 asks.
    pub fn code_verifier(&self) -> String {
        self.derive("code verifier")
    }

    pub fn code_challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.code_verifier()))
    }

    fn derive(&self, purpose: &str) -> String {
        // A key of 32 bytes is below HMAC's block and always taken.
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0);
        mac.map(|mac| BASE64_URL_SAFE_NO_PAD.encode(mac.chain_update(purpose).finalize().into_bytes()))
            .unwrap_or_default()
    }
}

/// A sign-in under way, as it is kept.
#[derive(Debug)]
pub struct Flow {
    pub provider: String,
    pub redirect_uri: String,
    /// Whose account is to be linked; `None` where somebody signs in.
    pub user: Option<UserId>,
    pub expires_at: Timestamp,
}

/// An account elsewhere that one can sign in with.
#[derive(Debug)]
pub struct Identity {
    pub id: Uuid,
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
}

/// The provider of this name.
pub fn provider<'a>(tenant: &'a TenantConfig, name: &str) -> Result<&'a IdentityProvider, IdentityError> {
    let found = tenant.auth.identity_providers.iter().find(|provider| provider.name == name);
    found.ok_or(IdentityError::NoSuchProvider)
}

/// Where the provider may send people back to: a page of the tenant's own frontends, so that nobody has codes sent to
/// themselves.
pub fn redirect_uri(tenant: &TenantConfig, given: &str) -> Result<Url, IdentityError> {
    let fault = |code, message: String| IdentityError::RedirectUri(Detail::new("redirectUri", code, message));
    let url = Url::parse(given).map_err(|_| fault("INVALID", "give the full address of a page".into()))?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(fault("INVALID", "give an address without user and fragment".into()));
    }
    let origin = url.origin().ascii_serialization();
    let frontend = tenant.branding.frontend_url.as_deref().and_then(|url| Url::parse(url).ok());
    let known = tenant.cors.allowed_origins.contains(&origin)
        || frontend.is_some_and(|frontend| frontend.origin() == url.origin())
        || tenant.hostnames.iter().any(|host| origin == format!("https://{host}"));
    if !known {
        let message = format!(
            "{origin} is no origin of this tenant: have it added to the Tenant's cors.allowedOrigins or branding.frontendUrl"
        );
        return Err(fault("UNKNOWN_ORIGIN", message));
    }
    Ok(url)
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the tenant has no such provider of identity")]
    NoSuchProvider,
    #[error("the address to return to is refused")]
    RedirectUri(Detail),
    #[error("the sign-in is unknown, used or expired")]
    NoSuchFlow,
    #[error("the answer belongs to another sign-in")]
    OtherFlow,
    #[error("the user has no such identity")]
    NoSuchIdentity,
    #[error("the provider vouches for no address")]
    NoVerifiedEmail,
    #[error("an account with this address exists and is not linked")]
    AccountExists,
    #[error("the tenant takes no new accounts from this provider")]
    NoNewAccounts,
    #[error("the identity is linked to another account")]
    LinkedElsewhere,
    #[error("it is the last way to sign in")]
    LastWayIn,
    #[error("the account is deactivated")]
    Deactivated,
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests {
    use contract::{Hostname, TenantId, TenantName};

    use super::*;

    #[test]
    fn what_is_derived_differs_by_purpose_and_comes_back_with_the_secret() {
        let secret = FlowSecret::random();
        let again = FlowSecret::given(&secret.expose()).unwrap();
        assert_eq!(secret.state(), again.state());
        assert!(again.is_state(&secret.state()) && !again.is_state(&secret.nonce()) && !again.is_state(""));
        let all = [secret.state(), secret.nonce(), secret.code_verifier(), secret.expose()];
        assert!(all.iter().all(|text| text.len() == 43));
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 4);
        assert!(FlowSecret::given("short").is_none() && FlowSecret::given("").is_none());
    }

    #[test]
    fn people_return_to_the_tenants_own_pages_only() {
        let mut tenant = TenantConfig::new(TenantId::derive("test", "acme"), TenantName::new("acme").unwrap());
        tenant.hostnames = vec![Hostname::new("acme.test").unwrap()];
        tenant.branding.frontend_url = Some("https://shop.acme.test/start".into());
        tenant.cors.allowed_origins = vec!["http://localhost:5173".into()];
        let good = ["https://acme.test/back", "https://shop.acme.test/signed-in?x=1", "http://localhost:5173/callback"];
        for url in good {
            assert!(redirect_uri(&tenant, url).is_ok(), "{url}");
        }
        let bad = [
            "https://evil.test/",
            "http://acme.test/",
            "https://acme.test.evil.test/",
            "https://acme.test@evil.test/",
            "https://user@acme.test/",
            "https://shop.acme.test:444/",
            "https://acme.test/#code",
            "//acme.test/",
            "javascript:alert(1)",
            "",
        ];
        for url in bad {
            assert!(redirect_uri(&tenant, url).is_err(), "{url}");
        }
    }
}

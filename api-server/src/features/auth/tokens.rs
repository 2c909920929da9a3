//! Access tokens (JWT, signed with the tenant's newest key) and refresh tokens (random, kept as a hash).

use std::{ops::Deref, sync::Arc};

use contract::{RoleName, TenantId};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use uuid::Uuid;

use super::step_up::Standing;
use crate::{
    extract::{CurrentUser, SessionId, UserId},
    tenancy::TenantSnapshot,
};

/// Clocks of two machines may differ by this much.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);
/// Tokens whose signature was checked lately. A check costs some 50 µs, a look here well under one.
const CACHED_TOKENS: u64 = 100_000;
const LONGEST_TOKEN: usize = 8 * 1024;

/// What an access token says. `role` and `roles` are for frontends; the server looks both up anew on every request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    pub sub: UserId,
    pub jti: Uuid,
    pub sid: SessionId,
    pub tid: TenantId,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    /// How surely the user was recognized: `aal1`, by one factor, or `aal2`, by two.
    pub aal: String,
    /// The same, where OpenID Connect looks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By what: `pwd`, `otp`, `recovery`, `hwk`, `swk`, `fed`; `mfa` where two factors were shown.
    pub amr: Vec<String>,
    /// When the user last proved who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// Absent for a whole session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(rename = "userId")]
    pub user_id: UserId,
    pub email: String,
    pub role: RoleName,
    pub roles: Vec<RoleName>,
}

/// The scope of a session that may only set up a second factor.
const ENROLMENT: &str = "factors:enrol";

impl Claims {
    /// Whether the session may do less than its user. Any scope limits: what this version cannot name it must not exceed.
    pub fn is_limited(&self) -> bool {
        self.scope.is_some()
    }
}

/// Why an access token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("Invalid token")]
    Invalid,
    #[error("Token expired")]
    Expired,
    #[error("Invalid token: it belongs to another tenant")]
    OtherTenant,
}

/// Checks access tokens, and remembers what was checked.
#[derive(Clone)]
pub struct Tokens {
    /// By the SHA-256 of the whole token (a prefix would let a forged signature ride on a good one), with the key that
    /// checked it: when that key leaves the tenant's document, the token is checked again and fails.
    verified: Cache<[u8; 32], Arc<Verified>>,
}

pub struct Verified {
    kid: String,
    claims: Claims,
}

impl Deref for Verified {
    type Target = Claims;
    fn deref(&self) -> &Claims {
        &self.claims
    }
}

impl Tokens {
    pub fn new() -> Self {
        Self { verified: Cache::new(CACHED_TOKENS) }
    }

    /// Checks signature, issuer, audience, tenant and times.
    pub fn check(&self, tenant: &TenantSnapshot, token: &str, now: Timestamp) -> Result<Arc<Verified>, TokenError> {
        let claims = self.check_but_for_expiry(tenant, token, now)?;
        if now.as_second() >= claims.exp.saturating_add(LEEWAY.as_secs()) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// As [`Tokens::check`], for the routes that a client calls because its token has expired.
    pub fn check_but_for_expiry(
        &self,
        tenant: &TenantSnapshot,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Verified>, TokenError> {
        let claims = self.verified(tenant, token)?;
        // The keys are the tenant's own, unless two tenants were given one shared secret.
        if claims.tid != tenant.id || claims.aud != tenant.name.as_str() || !tenant.is_issuer(&claims.iss) {
            return Err(TokenError::OtherTenant);
        }
        if claims.nbf > now.as_second().saturating_add(LEEWAY.as_secs()) {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }

    /// A token whose signature is good by a key that the tenant has now.
    fn verified(&self, tenant: &TenantSnapshot, token: &str) -> Result<Arc<Verified>, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.get(&digest).filter(|known| tenant.keys.verifying(&known.kid).is_some()) {
            return Ok(known);
        }
        let verified = Arc::new(verify(tenant, token)?);
        self.verified.insert(digest, Arc::clone(&verified));
        Ok(verified)
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

/// The key is found by `kid` among the tenant's own, and each key has one algorithm: a token cannot choose either.
fn verify(tenant: &TenantSnapshot, token: &str) -> Result<Verified, TokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
    // What is critical and not understood is refused (RFC 7515, 4.1.11); nothing is understood. And a key's other kinds of
    // tokens, should there ever be some, are no access tokens (RFC 8725, 3.11).
    if header.crit.is_some() || header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(TokenError::Invalid);
    }
    let kid = header.kid.ok_or(TokenError::Invalid)?;
    let (algorithm, key) = tenant.keys.verifying(&kid).ok_or(TokenError::Invalid)?;
    let mut validation = Validation::new(algorithm);
    // Times, issuer, audience and tenant are looked at on every use, by the house's clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_required_spec_claims::<&str>(&["exp", "iss", "aud", "sub"]);
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|_| TokenError::Invalid)?.claims;
    Ok(Verified { kid, claims })
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the tenant has no signing key")]
    NoKey,
    #[error("the token could not be signed: {0}")]
    Failed(#[from] jsonwebtoken::errors::Error),
}

/// Signs an access token for `user`.
pub fn sign(
    tenant: &TenantSnapshot,
    user: &CurrentUser,
    standing: &Standing,
    now: Timestamp,
) -> Result<String, SignError> {
    let (kid, algorithm, key) = tenant.keys.signing().ok_or(SignError::NoKey)?;
    let iat = now.as_second();
    let claims = Claims {
        iss: tenant.issuer(),
        aud: tenant.name.to_string(),
        sub: user.id,
        jti: Uuid::now_v7(),
        sid: user.session,
        tid: tenant.id,
        iat,
        nbf: iat,
        exp: iat + i64::from(tenant.auth.access_token_seconds),
        aal: standing.proof.level().into(),
        acr: Some(standing.proof.level().into()),
        amr: standing.proof.amr(),
        auth_time: Some(standing.authenticated_at.as_second()),
        scope: user.limited.then(|| ENROLMENT.into()),
        user_id: user.id,
        email: user.email.clone(),
        role: user.role.clone(),
        roles: user.roles(),
    };
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    Ok(jsonwebtoken::encode(&header, &claims, key)?)
}

/// A refresh token as the client holds it: 64 bytes in hex.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshSecret(String);

impl RefreshSecret {
    /// The first token of a session.
    pub fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 64]>()))
    }

    /// The token that follows this one under the id of its row. It can be worked out again only by who holds this one,
    /// so a client whose answer got lost is given the same successor, though no token is stored.
    pub fn successor(&self, id: Uuid) -> Self {
        let mac = <Hmac<Sha512> as KeyInit>::new_from_slice(self.0.as_bytes());
        // HMAC takes a key of any length, so this cannot fail; a random token would merely be an unknown one.
        mac.map_or_else(
            |_| Self::random(),
            |mac| Self(hex::encode(mac.chain_update(id.as_bytes()).finalize().into_bytes())),
        )
    }

    pub fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What is stored.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The token itself, for the one answer that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

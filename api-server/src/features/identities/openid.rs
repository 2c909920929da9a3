//! The protocol: discovery, the way to the provider and back, and what is checked before a word of it is believed.
//!
//! Sources: OpenID Connect Core 1.0 (section 3.1), Discovery 1.0, RFC 6749, RFC 7636 (PKCE), RFC 9207 (`iss` in the answer).

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use contract::{Secret, auth::IdentityProvider};
use http::{HeaderValue, Method, Response, header};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{JwkSet, PublicKeyUse},
};
use moka::sync::Cache;
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::model::FlowSecret;
use crate::infra::{Clock, Outbound, outbound::without_url};

/// How long a provider's configuration and keys are used without asking again.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// A token with an unknown key makes us look for new keys, this often at most.
const KEYS_FRESH: SignedDuration = SignedDuration::from_secs(30);
/// How far the provider's clock may be from ours.
const LEEWAY: i64 = 60;
/// The longest that one call may take; a sign-in makes four of them at most.
const PATIENCE: Duration = Duration::from_secs(6);
const PROVIDERS: u64 = 10_000;

/// The algorithms of an ID token that are believed: asymmetric ones only, since the set of keys is public.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why a provider did not tell who somebody is. Nothing here is shown to the caller but its kind.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or not with what the protocol asks for.
    #[error("{url}: {why}")]
    Unavailable { url: String, why: String },
    /// Its configuration is not what the Tenant says, or it does not know our client.
    #[error("the provider's settings do not fit: {0}")]
    Settings(String),
    /// The code is used, expired, or of somebody else.
    #[error("the provider refuses the code: {0}")]
    Refused(String),
    /// What it says does not hold.
    #[error("the ID token is not to be believed: {0}")]
    Untrusted(&'static str),
}

/// Who somebody is, as their provider says and we have checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub subject: String,
    /// Where the provider gives one.
    pub email: Option<String>,
    /// Whether the provider has verified the address.
    pub email_verified: bool,
    pub name: Option<String>,
    pub given_name: Option<String>,
    pub family_name: Option<String>,
}

/// Speaks with providers, and remembers what they publish.
#[derive(Clone)]
pub struct OpenId {
    outbound: Outbound,
    clock: Clock,
    /// By issuer.
    known: Cache<String, Arc<Known>>,
}

struct Known {
    looked_up: Timestamp,
    metadata: Metadata,
    keys: JwkSet,
}

/// What a provider says of itself (Discovery 1.0, section 3), as far as it is used.
#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    userinfo_endpoint: Option<Url>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// What came back with the browser.
pub struct Returned<'a> {
    pub code: &'a str,
    pub iss: Option<&'a str>,
    pub redirect_uri: &'a str,
}

impl OpenId {
    pub fn new(outbound: Outbound, clock: Clock) -> Self {
        Self { outbound, clock, known: Cache::new(PROVIDERS) }
    }

    /// Where the browser goes to sign in.
    pub async fn authorization_url(
        &self,
        provider: &IdentityProvider,
        redirect_uri: &str,
        flow: &FlowSecret,
    ) -> Result<Url, ProviderError> {
        let known = self.known(provider, FRESH).await?;
        let mut url = known.metadata.authorization_endpoint.clone();
        let scope = std::iter::once("openid").chain(provider.scopes.iter().map(String::as_str)).collect::<Vec<_>>();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", &scope.join(" "))
            .append_pair("state", &flow.state())
            .append_pair("nonce", &flow.nonce())
            .append_pair("code_challenge", &flow.code_challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Exchanges the code and says who came back.
    pub async fn identify(
        &self,
        provider: &IdentityProvider,
        client_secret: Option<&Secret>,
        flow: &FlowSecret,
        returned: &Returned<'_>,
    ) -> Result<Person, ProviderError> {
        let known = self.known(provider, FRESH).await?;
        match returned.iss {
            Some(iss) if iss != provider.issuer => {
                return Err(ProviderError::Untrusted("the answer comes from another issuer"));
            }
            None if known.metadata.authorization_response_iss_parameter_supported => {
                return Err(ProviderError::Untrusted("the answer does not say its issuer, as this provider's do"));
            }
            _ => {}
        }
        let tokens = self.exchange(&known.metadata, provider, client_secret, flow, returned).await?;
        let claims = self.checked(known.as_ref(), provider, &tokens.id_token, &flow.nonce()).await?;
        let (person, endpoint) = (claims.person(), &known.metadata.userinfo_endpoint);
        match (person.email.is_some(), endpoint, &tokens.access_token) {
            (false, Some(endpoint), Some(token)) => self.userinfo(endpoint, token, person).await,
            _ => Ok(person),
        }
    }

    async fn exchange(
        &self,
        metadata: &Metadata,
        provider: &IdentityProvider,
        client_secret: Option<&Secret>,
        flow: &FlowSecret,
        returned: &Returned<'_>,
    ) -> Result<Tokens, ProviderError> {
        let verifier = flow.code_verifier();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", returned.code),
            ("redirect_uri", returned.redirect_uri),
            ("code_verifier", &verifier),
        ];
        let mut authorization = None;
        // RFC 8414, section 2: without a word about it, client_secret_basic is what a server takes.
        let methods = metadata.token_endpoint_auth_methods_supported.as_ref();
        let basic = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        match client_secret {
            Some(secret) if basic => authorization = Some(basic_credentials(&provider.client_id, secret)),
            Some(secret) => {
                form.extend([("client_id", provider.client_id.as_str()), ("client_secret", secret.expose())]);
            }
            None => form.push(("client_id", &provider.client_id)),
        }
        let body = serde_urlencoded::to_string(&form).map_err(|error| ProviderError::Settings(error.to_string()))?;
        let mut request = reqwest::Request::new(Method::POST, metadata.token_endpoint.clone());
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        *request.body_mut() = Some(body.into());
        let answer = self.send(request).await?;
        if answer.status().is_client_error() {
            let refusal: Refusal = serde_json::from_slice(answer.body()).unwrap_or_default();
            return Err(match refusal.error.as_str() {
                // Section 5.2 of RFC 6749: these are about the code; the others about the client.
                "invalid_grant" | "invalid_request" => ProviderError::Refused(refusal.error),
                _ => {
                    ProviderError::Settings(format!("its token endpoint answers {} {}", answer.status(), refusal.error))
                }
            });
        }
        read(&metadata.token_endpoint, &answer)
    }

    /// The claims of an ID token, after every check of Core 1.0, section 3.1.3.7.
    async fn checked(
        &self,
        known: &Known,
        provider: &IdentityProvider,
        token: &str,
        nonce: &str,
    ) -> Result<Claims, ProviderError> {
        let untrusted = ProviderError::Untrusted;
        let header = jsonwebtoken::decode_header(token).map_err(|_| untrusted("it is no JWT"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(untrusted("it is signed by an algorithm that proves nothing here"));
        }
        let kid = header.kid.as_deref();
        let key = match key(&known.keys, kid, header.alg) {
            Some(key) => Some(key),
            None => key(&self.known(provider, KEYS_FRESH).await?.keys, kid, header.alg),
        };
        let key = key.ok_or(untrusted("it is signed by a key that the provider does not publish"))?;
        let mut validation = Validation::new(header.alg);
        // Times by the house's clock; issuer and audience below, where they can be told apart.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims::<&str>(&["exp", "iss", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|_| untrusted("its signature is not the provider's, or a claim is missing"))?
            .claims;
        let now = self.clock.now().as_second();
        if claims.iss != provider.issuer {
            return Err(untrusted("it is of another issuer"));
        }
        if !claims.aud.contains(&provider.client_id) {
            return Err(untrusted("it is for another client"));
        }
        let alone = claims.aud.len() == 1 && claims.azp.is_none();
        if !alone && claims.azp.as_deref() != Some(provider.client_id.as_str()) {
            return Err(untrusted("it was given to another client"));
        }
        if now >= claims.exp.saturating_add(LEEWAY) || claims.iat > now.saturating_add(LEEWAY) {
            return Err(untrusted("it is not of this time"));
        }
        if claims.nonce.as_deref() != Some(nonce) {
            return Err(untrusted("it answers another question"));
        }
        if claims.sub.is_empty() || claims.sub.len() > 255 {
            return Err(untrusted("its subject is none"));
        }
        Ok(claims)
    }

    /// What the ID token left out (Core 1.0, section 5.3). Only of the same subject.
    async fn userinfo(&self, endpoint: &Url, token: &str, person: Person) -> Result<Person, ProviderError> {
        let mut request = reqwest::Request::new(Method::GET, endpoint.clone());
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let bearer = bearer.map_err(|_| ProviderError::Untrusted("its access token cannot be sent"))?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        let answer = self.send(request).await?;
        let claims: UserInfo = read(endpoint, &answer)?;
        if claims.sub != person.subject {
            return Err(ProviderError::Untrusted("the user's details are of another subject"));
        }
        let UserInfo { sub: _, profile } = claims;
        Ok(Person {
            email: profile.email,
            email_verified: profile.email_verified,
            name: person.name.or(profile.name),
            given_name: person.given_name.or(profile.given_name),
            family_name: person.family_name.or(profile.family_name),
            subject: person.subject,
        })
    }

    /// What a provider publishes, not older than `age`.
    async fn known(&self, provider: &IdentityProvider, age: SignedDuration) -> Result<Arc<Known>, ProviderError> {
        let now = self.clock.now();
        if let Some(known) = self.known.get(&provider.issuer)
            && now.duration_since(known.looked_up) < age
        {
            return Ok(known);
        }
        let known = Arc::new(self.look_up(provider, now).await?);
        self.known.insert(provider.issuer.clone(), Arc::clone(&known));
        Ok(known)
    }

    async fn look_up(&self, provider: &IdentityProvider, now: Timestamp) -> Result<Known, ProviderError> {
        let url = format!("{}/.well-known/openid-configuration", provider.issuer.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| ProviderError::Settings(format!("issuer: {error}")))?;
        let metadata: Metadata = self.get(&url).await?;
        if metadata.issuer != provider.issuer {
            let message =
                format!("it calls itself {:?}, and the Tenant calls it {:?}", metadata.issuer, provider.issuer);
            return Err(ProviderError::Settings(message));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        if let Some(url) = endpoints.into_iter().chain(&metadata.userinfo_endpoint).find(|url| !is_safe(url)) {
            return Err(ProviderError::Settings(format!("{url} is not https")));
        }
        let keys = self.get(&metadata.jwks_uri).await?;
        Ok(Known { looked_up: now, metadata, keys })
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, ProviderError> {
        read(url, &self.send(reqwest::Request::new(Method::GET, url.clone())).await?)
    }

    async fn send(&self, mut request: reqwest::Request) -> Result<Response<Bytes>, ProviderError> {
        let url = request.url().to_string();
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let unavailable = |why| ProviderError::Unavailable { url: url.clone(), why };
        match tokio::time::timeout(PATIENCE, self.outbound.send(request)).await {
            Ok(answer) => answer.map_err(|error| unavailable(without_url(error))),
            Err(_) => Err(unavailable(format!("nothing came within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// The one key that may check this token: by its id, or where the token has none, the only one that fits.
fn key(keys: &JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let mut fitting = keys.keys.iter().filter_map(|jwk| {
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        let says = jwk.common.key_algorithm.is_none_or(|says| format!("{says:?}") == format!("{algorithm:?}"));
        let named = kid.is_none() || jwk.common.key_id.as_deref() == kid;
        let key = (signs && says && named).then(|| DecodingKey::from_jwk(jwk).ok()).flatten();
        key.filter(|key| key.family() == algorithm.family())
    });
    let first = fitting.next();
    // With an id, the first of that name counts; without, there must be no choice.
    first.filter(|_| kid.is_some() || fitting.next().is_none())
}

/// `https`, or this machine.
fn is_safe(url: &Url) -> bool {
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (here && url.scheme() == "http")
}

/// RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
fn basic_credentials(id: &str, secret: &Secret) -> String {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret.expose()))))
}

fn read<T: DeserializeOwned>(url: &Url, answer: &Response<Bytes>) -> Result<T, ProviderError> {
    let unavailable = |why| ProviderError::Unavailable { url: url.to_string(), why };
    if !answer.status().is_success() {
        return Err(unavailable(format!("it answers {}", answer.status())));
    }
    // Where it broke, and not what stood there: it may be a token.
    serde_json::from_slice(answer.body()).map_err(|error| {
        unavailable(format!(
            "its answer is not as the protocol says, at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    azp: Option<String>,
    exp: i64,
    #[serde(default)]
    iat: i64,
    nonce: Option<String>,
    #[serde(flatten)]
    profile: Profile,
}

impl Claims {
    fn person(self) -> Person {
        let Profile { email, email_verified, name, given_name, family_name } = self.profile;
        Person { subject: self.sub, email, email_verified, name, given_name, family_name }
    }
}

#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(flatten)]
    profile: Profile,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    email: Option<String>,
    #[serde(deserialize_with = "yes")]
    email_verified: bool,
    name: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// A truth value, which some providers write as a string; anything else is no.
fn yes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value == true || value == "true")
}

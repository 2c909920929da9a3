//! How a tenant's people prove who they are.

use contract::auth::{CharacterClass, EmailVerification, ExistingAccounts, Mfa, NewAccounts, SigningAlgorithm};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::refs::{SecretKeyRef, SecretRef};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.refreshTokenSeconds > self.accessTokenSeconds").message("auth.refreshTokenSeconds must be greater than auth.accessTokenSeconds: a refresh token outlives the access tokens it is traded for"))]
pub struct AuthPolicy {
    /// Lifetime of an access token, in seconds.
    #[serde(default = "default_access_token_seconds")]
    #[schemars(range(min = 60, max = 86_400))]
    pub access_token_seconds: u32,

    /// Lifetime of a refresh token, in seconds. It is replaced at every use.
    #[serde(default = "default_refresh_token_seconds")]
    #[schemars(range(min = 300, max = 31_536_000))]
    pub refresh_token_seconds: u32,

    /// How long a refresh token that was just used still gives its successor (a lost answer, a second tab), in seconds.
    /// 0 is strict. Later use means theft: the whole session ends.
    #[serde(default = "default_refresh_reuse_seconds")]
    #[schemars(range(min = 0, max = 60))]
    pub refresh_reuse_seconds: u32,

    /// What a new password must be like.
    #[serde(default)]
    pub password: PasswordPolicy,

    /// `Required` gives no tokens before the e-mail address is verified.
    #[serde(default)]
    pub email_verification: EmailVerification,

    /// Second factor: `Off` (never asked for), `Optional` (asked for where the account has one) or `Required` (an account
    /// without one can sign in to set one up, and to nothing else). A tenant that begins to require it ends sessions without
    /// one at their next refresh.
    #[serde(default)]
    pub mfa: Mfa,

    /// Providers of identity (OpenID Connect) that people may sign in with, besides passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub identity_providers: Vec<IdentityProvider>,

    /// How access tokens are signed.
    #[serde(default)]
    pub signing: Signing,
}

impl AuthPolicy {
    /// The keys of Secrets that its identity providers name.
    pub fn client_secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        self.identity_providers.iter().filter_map(|provider| provider.client_secret_ref.as_ref())
    }
}

fn default_access_token_seconds() -> u32 {
    contract::auth::Auth::default().access_token_seconds
}

fn default_refresh_token_seconds() -> u32 {
    contract::auth::Auth::default().refresh_token_seconds
}

fn default_refresh_reuse_seconds() -> u32 {
    contract::auth::Auth::default().refresh_reuse_seconds
}

impl Default for AuthPolicy {
    fn default() -> Self {
        Self {
            access_token_seconds: default_access_token_seconds(),
            refresh_token_seconds: default_refresh_token_seconds(),
            refresh_reuse_seconds: default_refresh_reuse_seconds(),
            password: PasswordPolicy::default(),
            email_verification: EmailVerification::default(),
            mfa: Mfa::default(),
            identity_providers: Vec::new(),
            signing: Signing::default(),
        }
    }
}

/// Pattern of an issuer: `https`, without query and fragment; `http` only on this machine, for a provider under development.
const ISSUER: &str = r"^(https://[^\s/?#@]+|http://(localhost|127(\.[0-9]{1,3}){3})(:[0-9]{1,5})?)(/[^\s?#]*)?$";

/// An OpenID provider. In its settings, the address to return to is the page of the frontend that finishes the sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProvider {
    /// Names the provider in the API's paths. Accounts are linked to the issuer, so a provider may be renamed.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// What stands on the button; the name when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub display_name: Option<String>,

    /// The provider's issuer, such as `https://accounts.example.com`, exactly as its own configuration says it.
    #[schemars(length(max = 512), regex(pattern = ISSUER))]
    pub issuer: String,

    /// Client id that the provider gave this tenant.
    #[schemars(length(min = 1, max = 512))]
    pub client_id: String,

    /// Client secret that the provider gave; left out for a public client, which proves itself by PKCE alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,

    /// What to ask for besides `openid`.
    #[serde(default = "default_scopes")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 200), regex(pattern = r"^[\x21\x23-\x5B\x5D-\x7E]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,

    /// Whether somebody new gets an account by signing in: `Allow` or `Refuse`.
    #[serde(default)]
    pub new_accounts: NewAccounts,

    /// What becomes of a first sign-in with the address of an account that exists. `Refuse`: the user signs in as before and
    /// links the provider from there. `LinkVerifiedEmail`: linked where both sides have verified the address; only for a
    /// provider that owns the addresses it vouches for, since whoever runs it can then sign in as anybody.
    #[serde(default)]
    pub existing_accounts: ExistingAccounts,
}

fn default_scopes() -> Vec<String> {
    vec!["email".to_owned(), "profile".to_owned()]
}

/// Applies when a password is set, not when it is used: a stricter policy locks nobody out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordPolicy {
    /// Least length, in characters.
    #[serde(default = "default_min_length")]
    #[schemars(range(min = 8, max = 100))]
    pub min_length: u16,

    /// Kinds of characters that must each occur: `Lower`, `Upper`, `Digit`, `Symbol`.
    #[serde(default = "default_character_classes")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub character_classes: Vec<CharacterClass>,

    /// Refuse passwords that are known from breaches.
    #[serde(default = "default_true")]
    pub breached_check: bool,

    /// Cost of hashing a password with argon2id.
    #[serde(default)]
    pub argon2: Argon2,
}

fn default_min_length() -> u16 {
    contract::auth::PasswordPolicy::default().min_length
}

fn default_character_classes() -> Vec<CharacterClass> {
    contract::auth::PasswordPolicy::default().character_classes
}

fn default_true() -> bool {
    true
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self {
            min_length: default_min_length(),
            character_classes: default_character_classes(),
            breached_check: true,
            argon2: Argon2::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Argon2 {
    /// Memory, in KiB.
    #[serde(default = "default_memory_kib")]
    #[schemars(range(min = 19_456, max = 1_048_576))]
    pub memory_kib: u32,

    /// Passes over the memory.
    #[serde(default = "default_iterations")]
    #[schemars(range(min = 2, max = 20))]
    pub iterations: u32,

    /// Lanes.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 16))]
    pub parallelism: u32,
}

fn default_memory_kib() -> u32 {
    contract::auth::Argon2::default().memory_kib
}

fn default_iterations() -> u32 {
    contract::auth::Argon2::default().iterations
}

fn default_parallelism() -> u32 {
    contract::auth::Argon2::default().parallelism
}

impl Default for Argon2 {
    fn default() -> Self {
        Self { memory_kib: default_memory_kib(), iterations: default_iterations(), parallelism: default_parallelism() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.algorithm != 'HS256' || has(self.secretRef)").message("auth.signing.secretRef is required with algorithm HS256: name the Secret that holds the shared secret").reason(Reason::FieldValueRequired))]
pub struct Signing {
    /// Algorithm of the tokens' signature: `EdDSA`, `ES256`, `RS256` or `HS256`. Everyone who verifies HS256 can also
    /// sign; prefer one of the others, whose public keys are published under `/.well-known/jwks.json`.
    #[serde(default)]
    pub algorithm: SigningAlgorithm,

    /// Make a new key after this many seconds; the old one goes on verifying until its last token has expired. Keys are
    /// kept for ever when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3600, max = 315_360_000))]
    pub rotate_after_seconds: Option<u32>,

    /// Secret with a key of your own: the shared secret under `secret` for HS256, a PKCS#8 PEM under `private.pem` for the
    /// others. The operator makes a key when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

//! How a tenant's people prove who they are.

use serde::{Deserialize, Serialize};

use crate::seal::Sealed;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Auth {
    /// Lifetime of an access token, in seconds.
    pub access_token_seconds: u32,
    /// Lifetime of a refresh token, in seconds.
    pub refresh_token_seconds: u32,
    /// How long a refresh token that was just used still gives its successor (a lost answer, a second tab); 0 is strict.
    pub refresh_reuse_seconds: u32,
    pub password: PasswordPolicy,
    pub email_verification: EmailVerification,
    pub mfa: Mfa,
    /// By name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identity_providers: Vec<IdentityProvider>,
    /// Newest first: the first signs, all verify.
    pub signing_keys: Vec<SigningKey>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            access_token_seconds: 900,
            refresh_token_seconds: 604_800,
            refresh_reuse_seconds: 10,
            password: PasswordPolicy::default(),
            email_verification: EmailVerification::default(),
            mfa: Mfa::default(),
            identity_providers: Vec::new(),
            signing_keys: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PasswordPolicy {
    /// In characters, after NFC normalization.
    pub min_length: u16,
    /// Character classes that must each occur.
    pub character_classes: Vec<CharacterClass>,
    /// Refuse passwords of the list of breached ones.
    pub breached_check: bool,
    pub argon2: Argon2,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        use CharacterClass::{Digit, Lower, Upper};
        Self {
            min_length: 8,
            character_classes: vec![Lower, Upper, Digit],
            breached_check: true,
            argon2: Argon2::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum CharacterClass {
    Lower,
    Upper,
    Digit,
    Symbol,
}

/// Parameters of argon2id. The default is the second recommended option of RFC 9106, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Argon2 {
    /// Memory in KiB.
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
}

impl Default for Argon2 {
    fn default() -> Self {
        Self { memory_kib: 65_536, iterations: 3, parallelism: 4 }
    }
}

impl Argon2 {
    /// The least that a tenant may choose (OWASP Password Storage: 19 MiB, t=2, p=1).
    pub const FLOOR: Self = Self { memory_kib: 19_456, iterations: 2, parallelism: 1 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum EmailVerification {
    Required,
    #[default]
    Optional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Mfa {
    Off,
    #[default]
    Optional,
    Required,
}

/// An OpenID provider that people may sign in with (OpenID Connect Core 1.0).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProvider {
    /// Names the provider in paths, in the seal and in what is kept of an account; unique within the tenant.
    pub name: String,
    /// What stands on the button.
    pub display_name: String,
    /// The provider's `iss`; its configuration is at `<issuer>/.well-known/openid-configuration`.
    pub issuer: String,
    pub client_id: String,
    /// Left out for a public client, which proves itself by PKCE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Sealed>,
    /// What is asked for besides `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub new_accounts: NewAccounts,
    #[serde(default)]
    pub existing_accounts: ExistingAccounts,
}

impl IdentityProvider {
    /// The field name under which [`Self::client_secret`] is sealed.
    #[must_use]
    pub fn seal_field(name: &str) -> String {
        format!("auth/identityProviders/{name}/clientSecret")
    }
}

/// Whether somebody of whom the tenant does not know gets an account by signing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum NewAccounts {
    #[default]
    Allow,
    Refuse,
}

/// What becomes of a first sign-in with the address of an account that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum ExistingAccounts {
    /// It is refused: the user signs in as before and links the provider from there.
    #[default]
    Refuse,
    /// It is linked where both sides have verified the address. Only for a provider that owns the addresses it vouches for:
    /// whoever runs it can sign in as anybody.
    LinkVerifiedEmail,
}

/// One key that signs or verifies a tenant's access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Names the key in the documents' seal (`auth/signingKeys/<id>`): the Secret's name. A token's `kid` is the RFC 7638
    /// thumbprint of the public key, which the API computes.
    pub id: String,
    pub algorithm: SigningAlgorithm,
    /// PKCS#8 PEM of the private key; for HS256 the shared secret's text.
    pub key: Sealed,
}

impl SigningKey {
    /// The field name under which [`SigningKey::key`] is sealed.
    #[must_use]
    pub fn seal_field(id: &str) -> String {
        format!("auth/signingKeys/{id}")
    }
}

/// JOSE algorithm (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum SigningAlgorithm {
    #[default]
    EdDSA,
    ES256,
    RS256,
    HS256,
}

//! Wire types and handlers.

mod login;
mod passkeys;
mod step_up;
mod totp;

use axum::extract::FromRequestParts;
use contract::Secret;
use http::{StatusCode, request::Parts};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    ceremonies::{Answered, Ceremony},
    challenges::LIFETIME,
    model::{FactorsError, Shown},
    service::Activated,
    site::Site,
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::Tenant,
    features::auth::SessionOut,
    infra::Token,
    middleware,
};

pub use passkeys::well_known;

pub fn router() -> OpenApiRouter<App> {
    totp::router().merge(login::router()).merge(step_up::router()).merge(passkeys::router())
}

/// The host that was asked, as passkeys know it. Whether there is one shows when it is needed.
pub struct SiteOf(Result<Site, FactorsError>);

impl SiteOf {
    pub fn get(&self) -> Result<&Site, FactorsError> {
        self.0.as_ref().map_err(|_| FactorsError::NoHost)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SiteOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let tenant = Tenant::from_request_parts(parts, state).await?;
        let host = middleware::host(&parts.uri, &parts.headers);
        Ok(Self(Site::of(&tenant, host.as_deref())))
    }
}

/// A factor that counts from now on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivatedOut {
    /// Told this once, and with the first factor only. Each stands in for a factor once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["k7mq-3xta-b2ny-hc5e"]))]
    pub recovery_codes: Vec<String>,
    /// How many other sessions of the user ended.
    #[schema(example = 1)]
    pub sessions_ended: usize,
    /// The tokens of a whole session, for who came with a token that was good for setting up a factor only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionOut>,
}

impl From<Activated> for ActivatedOut {
    fn from(activated: Activated) -> Self {
        Self {
            recovery_codes: activated.recovery_codes.iter().map(ToString::to_string).collect(),
            sessions_ended: activated.sessions_ended,
            session: activated.entered.map(SessionOut::from),
        }
    }
}

/// A factor: one of the fields.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FactorBody {
    /// Of the authenticator app.
    #[schema(example = "287082")]
    code: Option<String>,
    /// In any case, with or without dashes. Good once.
    #[serde(alias = "recovery_code")]
    #[schema(example = "k7mq-3xta-b2ny-hc5e")]
    recovery_code: Option<String>,
    /// What a passkey answered to the options that were asked for this.
    passkey: Option<PasskeyAnswer>,
}

/// What a passkey answered.
#[derive(Deserialize, ToSchema)]
pub struct PasskeyAnswer {
    /// As the options came with it. Good once.
    ceremony: String,
    /// What `navigator.credentials.get` gave, as its `toJSON()` has it.
    #[schema(value_type = Object)]
    credential: Value,
}

impl PasskeyAnswer {
    pub fn read(self, site: &Site) -> Result<Answered, ApiError> {
        let credential = Box::new(credential(self.credential)?);
        Ok(Answered { ceremony: Token::given(&self.ceremony), credential, site: site.clone() })
    }
}

/// What a browser's half of a ceremony begins with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CeremonyOut {
    /// Give it back with the answer.
    pub ceremony: String,
    /// For `navigator.credentials`: `publicKey`, binary fields in base64url, as
    /// `PublicKeyCredential.parseRequestOptionsFromJSON` and `parseCreationOptionsFromJSON` take it.
    #[schema(value_type = Object)]
    pub options: Value,
    /// Seconds there are to answer.
    #[schema(example = 300)]
    pub expires_in: i64,
}

impl From<Ceremony> for CeremonyOut {
    fn from(ceremony: Ceremony) -> Self {
        let Ceremony { token, options } = ceremony;
        Self { ceremony: token.expose().to_owned(), options, expires_in: LIFETIME.as_secs() }
    }
}

/// A browser's object in Rust's types, or which of its fields is wrong.
pub fn credential<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => "credential".to_owned(),
            path => format!("credential.{path}"),
        };
        ApiError::validation(vec![Detail::new(field, "INVALID", error.inner().to_string())])
    })
}

impl FactorBody {
    /// What is shown, if anything.
    pub fn read(self, site: &SiteOf) -> Result<Option<Shown>, ApiError> {
        let code = self.code.map(|code| Shown::Code(Secret::new(code)));
        let recovery = self.recovery_code.map(|code| Shown::RecoveryCode(Secret::new(code)));
        let passkey = match self.passkey {
            Some(answer) => Some(Shown::Passkey(answer.read(site.get()?)?)),
            None => None,
        };
        let mut shown = [code, recovery, passkey].into_iter().flatten();
        match (shown.next(), shown.next()) {
            (one, None) => Ok(one),
            (_, Some(second)) => {
                let message = "give one proof, not several";
                Err(ApiError::validation(vec![Detail::new(second.field(), "TOO_MANY", message)]))
            }
        }
    }

    pub fn required(self, site: &SiteOf) -> Result<Shown, ApiError> {
        let missing = || Detail::new("code", "REQUIRED", "give code, recoveryCode or passkey");
        self.read(site)?.ok_or_else(|| ApiError::validation(vec![missing()]))
    }
}

impl From<FactorsError> for ApiError {
    fn from(error: FactorsError) -> Self {
        let unauthorized = |code, message: &'static str| Self::new(StatusCode::UNAUTHORIZED, code, message);
        match error {
            FactorsError::Off => {
                Self::conflict("This tenant does not use second factors (auth.mfa: Off)").with_code("MFA_OFF")
            }
            FactorsError::Demanded => {
                Self::conflict("This tenant demands a second factor, and it is your last: set up another one first")
                    .with_code("MFA_DEMANDED")
            }
            FactorsError::NotSetUp => {
                Self::conflict("No authenticator app is being set up, or its time is over: POST /auth/2fa/setup")
                    .with_code("MFA_NOT_SET_UP")
            }
            FactorsError::NoFactor => {
                Self::conflict("The account has no such factor: see GET /auth/2fa").with_code("NO_FACTOR")
            }
            FactorsError::WrongProof => {
                unauthorized("INVALID_MFA_CODE", "The code is wrong, or was used before: wait for the next one")
            }
            FactorsError::Wrong(field) => {
                let message = match field {
                    "code" => "it is wrong, or was used before; a code of an app is good once, for a minute",
                    "recoveryCode" => "it is wrong, was used before, or newer ones have taken its place",
                    _ => "it is wrong",
                };
                Self::validation(vec![Detail::new(field, "WRONG", message)])
            }
            FactorsError::InvalidToken => {
                unauthorized("INVALID_MFA_TOKEN", "The sign-in is unknown, finished or over: begin it anew")
            }
            FactorsError::NoHost => {
                Self::conflict("This tenant has no hostname that a passkey could be made for").with_code("NO_HOST")
            }
            FactorsError::TooManyPasskeys => Self::conflict("You have as many passkeys as anyone may have: delete one")
                .with_code("TOO_MANY_PASSKEYS"),
            FactorsError::PasskeyTaken => Self::conflict("This passkey is known already").with_code("PASSKEY_TAKEN"),
            FactorsError::NoSuchPasskey => Self::not_found("No such passkey"),
            FactorsError::InvalidCeremony => {
                unauthorized("INVALID_CEREMONY", "The ceremony is unknown, finished or over: ask for new options")
            }
            FactorsError::WrongPasskey => {
                unauthorized("INVALID_PASSKEY", "The passkey is not known here, or its answer is not right")
            }
            FactorsError::Ceremony(reason) => Self::validation(vec![Detail::new("credential", "INVALID", reason)]),
            FactorsError::Seal(error) => Self::internal(error),
            FactorsError::Totp(error) | FactorsError::State(error) => Self::internal(error),
            FactorsError::Auth(error) => error.into(),
            FactorsError::Users(error) => error.into(),
            FactorsError::Database(error) => error.into(),
        }
    }
}

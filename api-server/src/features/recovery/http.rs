//! Wire types and handlers.

use axum::extract::State;
use contract::Secret;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{model::RecoveryError, service::Proof};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Json, Tenant, Valid, Validate, Violations},
    features::{
        auth::{Device, FactorStepUp, MAX_PASSWORD_CHARS},
        mail::Wish,
        users::{self, UserOut, email_rules},
    },
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(forgot_password))
        .routes(routes!(reset_password))
        .routes(routes!(verify_email))
        .routes(routes!(resend_verification))
        .routes(routes!(change_email))
        .routes(routes!(confirm_email))
        .routes(routes!(unlock_account))
}

/// An address, and nothing else.
#[derive(Deserialize, ToSchema)]
pub struct AddressBody {
    #[schema(example = "ada@example.com", max_length = 255)]
    email: String,
}

impl Validate for AddressBody {
    fn validate(&self, violations: &mut Violations) {
        email_rules(&self.email, violations);
    }
}

/// A token as a mail's link has it.
#[derive(Deserialize, ToSchema)]
pub struct TokenBody {
    #[schema(example = "…")]
    token: String,
}

impl Validate for TokenBody {
    fn validate(&self, violations: &mut Violations) {
        token_rules(&self.token, violations);
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordReset {
    /// As the mail's link has it.
    #[schema(example = "…")]
    token: String,
    /// Held to the tenant's password policy.
    #[serde(alias = "newPassword", alias = "new_password")]
    #[schema(example = "Correct-Horse-7", max_length = 100, format = Password)]
    password: String,
}

impl Validate for PasswordReset {
    fn validate(&self, violations: &mut Violations) {
        token_rules(&self.token, violations);
        violations.require(!self.password.is_empty(), "password", "REQUIRED", "give a new password");
    }
}

/// The mail's `token`, or the `email` and the `code` that it was told.
#[derive(Deserialize, ToSchema)]
pub struct Verification {
    #[schema(example = "…")]
    token: Option<String>,
    #[schema(example = "ada@example.com")]
    email: Option<String>,
    #[schema(example = "042137")]
    code: Option<String>,
}

impl Verification {
    fn proof(self) -> Option<Proof> {
        match self {
            Self { token: Some(token), email: None, code: None } => Some(Proof::Token(Secret::new(token))),
            Self { token: None, email: Some(email), code: Some(code) } => {
                Some(Proof::Code { email: users::email(&email)?, code: Secret::new(code) })
            }
            _ => None,
        }
    }
}

impl Validate for Verification {
    fn validate(&self, violations: &mut Violations) {
        match (&self.token, &self.email, &self.code) {
            (Some(token), None, None) => token_rules(token, violations),
            (None, Some(email), Some(_)) => email_rules(email, violations),
            _ => violations.require(false, "token", "REQUIRED", "give the mail's token, or email and code"),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailChange {
    /// The new address.
    #[serde(alias = "newEmail", alias = "new_email")]
    #[schema(example = "ada.king@example.com", max_length = 255)]
    email: String,
    /// The password as of now, as proof.
    #[serde(alias = "password", alias = "current_password")]
    #[schema(example = "Correct-Horse-7", format = Password)]
    current_password: String,
}

impl Validate for EmailChange {
    fn validate(&self, violations: &mut Violations) {
        email_rules(&self.email, violations);
        violations.require(!self.current_password.is_empty(), "currentPassword", "REQUIRED", "give your password");
        let short = self.current_password.chars().count() <= MAX_PASSWORD_CHARS;
        violations.require(short, "currentPassword", "TOO_LONG", "use at most 100 characters");
    }
}

fn token_rules(token: &str, violations: &mut Violations) {
    violations.require(!token.trim().is_empty(), "token", "REQUIRED", "give the token of the mail's link");
    violations.require(token.len() <= 200, "token", "TOO_LONG", "give the token of the mail's link, unchanged");
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PasswordResetOut {
    /// How many sessions were ended: all.
    #[schema(example = 2)]
    sessions_ended: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EmailChangeOut {
    /// The address that the account is to have.
    #[schema(example = "ada.king@example.com")]
    pending_email: String,
    /// Both mails are to be confirmed before.
    expires_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EmailConfirmedOut {
    /// Whether both have confirmed and the address has changed; else the other one is waited for.
    changed: bool,
    /// The address of the account as of now.
    #[schema(example = "ada.king@example.com")]
    email: String,
}

/// An answer without data.
#[derive(Serialize, ToSchema)]
struct Nothing {}

const MAILED: &str = "If there is something to send to this address, it is on its way";

/// Ask for a mail with a link to set a new password.
///
/// The answer is the same whether the address has an account or not.
#[utoipa::path(post, path = "/auth/forgot-password", operation_id = "forgot_password", tag = "auth",
    request_body = AddressBody, responses(
    (status = 200, description = "Taken down", body = Envelope<Nothing>),
    (status = 400, description = "The address is none", body = ErrorBody),
    (status = 409, description = "This platform sends no mail", body = ErrorBody),
    (status = 429, description = "Too many mails were asked for", body = ErrorBody),
))]
async fn forgot_password(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<AddressBody>>,
) -> Answer<Nothing> {
    let email = address(&body.email)?;
    app.recovery.ask(tenant.id, &email, Wish::ResetPassword, "FORGOT_PASSWORD", &device).await?;
    Ok(Reply::ok(Nothing {}).with_message(MAILED))
}

/// Set a password by the token of a mail: a new one, or the first of somebody who was invited. All sessions end.
#[utoipa::path(post, path = "/auth/reset-password", operation_id = "reset_password", tag = "auth",
    request_body = PasswordReset, responses(
    (status = 200, description = "Set; sign in with it", body = Envelope<PasswordResetOut>),
    (status = 400, description = "The link is used, replaced or expired, or the password breaks the tenant's policy", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn reset_password(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<PasswordReset>>,
) -> Answer<PasswordResetOut> {
    let (token, password) = (Secret::new(body.token), Secret::new(body.password));
    let sessions_ended = app.recovery.reset_password(&tenant.0, &token, password, &device).await?;
    Ok(Reply::ok(PasswordResetOut { sessions_ended }).with_message("Password set: sign in with it"))
}

/// Show that an address is one's own, by the token or the code of a mail.
#[utoipa::path(post, path = "/auth/verify-email", operation_id = "verify_email", tag = "auth",
    request_body = Verification, responses(
    (status = 200, description = "Verified", body = Envelope<UserOut>),
    (status = 400, description = "Link or code is wrong, used, replaced or expired", body = ErrorBody),
    (status = 429, description = "Too many attempts", body = ErrorBody),
))]
async fn verify_email(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<Verification>>,
) -> Answer<UserOut> {
    let proof = body.proof().ok_or(RecoveryError::InvalidLink)?;
    let user = app.recovery.verify_email(&tenant.0, proof, &device).await?;
    Ok(Reply::ok(UserOut::from(&user)).with_message("Verified: sign in"))
}

/// Ask for the mail with the link and code again. The former ones are good no more.
///
/// The answer is the same whether the address has an account that waits for it or not.
#[utoipa::path(post, path = "/auth/resend-verification", operation_id = "resend_verification", tag = "auth",
    request_body = AddressBody, responses(
    (status = 200, description = "Taken down", body = Envelope<Nothing>),
    (status = 400, description = "The address is none", body = ErrorBody),
    (status = 409, description = "This platform sends no mail", body = ErrorBody),
    (status = 429, description = "Too many mails were asked for", body = ErrorBody),
))]
async fn resend_verification(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<AddressBody>>,
) -> Answer<Nothing> {
    let email = address(&body.email)?;
    app.recovery.ask(tenant.id, &email, Wish::VerifyEmail, "RESEND_VERIFICATION", &device).await?;
    Ok(Reply::ok(Nothing {}).with_message(MAILED))
}

/// Begin to change one's address. It changes when the mails to the old and to the new one are both confirmed.
#[utoipa::path(put, path = "/auth/email", operation_id = "change_email", tag = "auth", request_body = EmailChange,
    security(("bearer" = [])), responses(
    (status = 200, description = "Both addresses are asked", body = Envelope<EmailChangeOut>),
    (status = 400, description = "The password is wrong, or the address is none", body = ErrorBody),
    (status = 403, description = "The account has a second factor, which was not shown lately: `STEP_UP_REQUIRED`", body = ErrorBody),
    (status = 409, description = "This platform sends no mail", body = ErrorBody),
    (status = 429, description = "Too many attempts, or too many mails were asked for", body = ErrorBody),
    (status = 503, description = "Too many are signing in: come again after `Retry-After`", body = ErrorBody),
))]
async fn change_email(
    me: FactorStepUp,
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<EmailChange>>,
) -> Answer<EmailChangeOut> {
    let email = address(&body.email)?;
    let password = Secret::new(body.current_password);
    let expires_at = app.recovery.change_email(&tenant.0, &me, password, &email, &device).await?;
    Ok(Reply::ok(EmailChangeOut { pending_email: email, expires_at }).with_message("Confirm both mails"))
}

/// Agree to a change of address, by the token of the mail to the old or to the new one.
#[utoipa::path(post, path = "/auth/email/confirm", operation_id = "confirm_email", tag = "auth",
    request_body = TokenBody, responses(
    (status = 200, description = "Noted; with the second one the address has changed", body = Envelope<EmailConfirmedOut>),
    (status = 400, description = "The link is used, replaced or expired", body = ErrorBody),
    (status = 409, description = "Meanwhile somebody else has the address", body = ErrorBody),
))]
async fn confirm_email(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<TokenBody>>,
) -> Answer<EmailConfirmedOut> {
    let change = app.recovery.confirm_email(&tenant.0, &Secret::new(body.token), &device).await?;
    Ok(Reply::ok(EmailConfirmedOut { changed: change.changed, email: change.email }))
}

/// Lift the delay that wrong passwords brought about, by the token of a mail.
#[utoipa::path(post, path = "/auth/unlock", operation_id = "unlock_account", tag = "auth",
    request_body = TokenBody, responses(
    (status = 200, description = "The account can be tried at once", body = Envelope<Nothing>),
    (status = 400, description = "The link is used, replaced or expired", body = ErrorBody),
))]
async fn unlock_account(
    State(app): State<App>,
    tenant: Tenant,
    device: Device,
    Valid(Json(body)): Valid<Json<TokenBody>>,
) -> Answer<Nothing> {
    app.recovery.unlock(&tenant.0, &Secret::new(body.token), &device).await?;
    Ok(Reply::ok(Nothing {}).with_message("Sign in again"))
}

/// A checked address in the form in which it is kept.
fn address(given: &str) -> Result<String, ApiError> {
    users::email(given).ok_or_else(|| ApiError::internal("a checked address is none"))
}

impl From<RecoveryError> for ApiError {
    fn from(error: RecoveryError) -> Self {
        let bad = |code, message: &'static str| Self::new(StatusCode::BAD_REQUEST, code, message);
        match error {
            RecoveryError::InvalidLink => {
                bad("INVALID_LINK", "The link is wrong, used, replaced or expired: ask for a new one")
            }
            RecoveryError::InvalidCode => {
                bad("INVALID_CODE", "The code is wrong, used or expired: look again, or ask for a new one")
            }
            RecoveryError::SameAddress => {
                Self::validation(vec![Detail::new("email", "UNCHANGED", "use another address than the account has")])
            }
            RecoveryError::Auth(error) => error.into(),
            RecoveryError::Mail(error) => error.into(),
            RecoveryError::Users(error) => error.into(),
            RecoveryError::Database(error) => error.into(),
        }
    }
}

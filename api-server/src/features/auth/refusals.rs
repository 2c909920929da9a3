//! What this room's errors say to who asked.

use http::{HeaderValue, StatusCode, header};

use super::{hashing::HashError, model::AuthError, step_up::RECENT, tokens::TokenError};
use crate::{
    error::{ApiError, Detail},
    features::factors::Held,
};

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let unauthorized = |code, message: &'static str| Self::new(StatusCode::UNAUTHORIZED, code, message);
        match error {
            AuthError::Users(error) => error.into(),
            AuthError::Mail(error) => error.into(),
            AuthError::NoSuchSession => Self::not_found("No such session"),
            AuthError::WrongPassword => {
                Self::validation(vec![Detail::new("currentPassword", "WRONG", "it is not the current password")])
            }
            AuthError::Password(faults) => Self::validation(faults),
            AuthError::FactorRequired => {
                unauthorized("MFA_REQUIRED", "This tenant demands a second factor by now: sign in again")
            }
            AuthError::StepUpRequired(held) => step_up_required(held),
            AuthError::InvalidCredentials => unauthorized("INVALID_CREDENTIALS", "Invalid credentials"),
            AuthError::Throttled(seconds) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOO_MANY_ATTEMPTS",
                "Too many attempts: wait, or reset the password",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds)),
            AuthError::EmailNotVerified => Self::forbidden("Verify your address first").with_code("EMAIL_NOT_VERIFIED"),
            AuthError::InvalidRefreshToken => {
                unauthorized("INVALID_REFRESH_TOKEN", "Invalid refresh token: sign in again")
            }
            AuthError::TokenReused => {
                unauthorized("TOKEN_REUSED", "Token reuse detected: the session has ended, sign in again")
            }
            AuthError::SessionEnded => Self::invalid_token("The session has ended: sign in again"),
            AuthError::Token(TokenError::Expired) => Self::invalid_token("Token expired"),
            AuthError::Token(error) => Self::invalid_token(error.to_string()),
            AuthError::Hash(HashError::Busy) => {
                Self::unavailable("Too many are signing in at this moment: try again", 2)
            }
            AuthError::Hash(error) => Self::internal(error),
            AuthError::Sign(error) => Self::internal(error),
            AuthError::Database(error) => error.into(),
        }
    }
}

/// Says what would do, in the body and as RFC 9470 wants it. Not a 401: a client would fetch a new access token, in vain.
fn step_up_required(held: Held) -> ApiError {
    let methods = if held.any() { held.methods() } else { vec!["password"] };
    let ways = methods.iter().map(|way| Detail::new(*way, "ACCEPTED", "show it with POST /auth/step-up"));
    let level = if held.any() { "aal2" } else { "aal1" };
    let challenge = format!(
        "Bearer error=\"insufficient_user_authentication\", acr_values=\"{level}\", max_age=\"{}\"",
        RECENT.as_secs()
    );
    let error = ApiError::forbidden("Prove again who you are with POST /auth/step-up, then repeat the request")
        .with_code("STEP_UP_REQUIRED")
        .with_details(ways.collect());
    match HeaderValue::from_str(&challenge) {
        Ok(challenge) => error.with_header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => error,
    }
}

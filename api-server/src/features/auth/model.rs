//! Users and their passwords: the rules, without a database and without HTTP.

use contract::{
    Secret,
    auth::{CharacterClass, PasswordPolicy},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    breached::is_breached,
    hashing::HashError,
    tokens::{SignError, TokenError},
};
use crate::{
    error::Detail,
    extract::SessionId,
    features::{
        factors::Held,
        mail::MailError,
        users::{FullName, UsersError},
    },
};

/// Who registers without anyone having said what they are.
pub use contract::access::DEFAULT_ROLE;
/// Hashing a password costs with its length: this bounds it.
pub const MAX_PASSWORD_CHARS: usize = 100;

/// What somebody who registers gives, checked.
#[derive(Debug)]
pub struct NewUser {
    pub email: String,
    pub password: Secret,
    pub name: FullName,
}

/// What keeps `password` from the tenant's policy; nothing when it passes.
pub fn password_faults(password: &str, policy: &PasswordPolicy) -> Vec<Detail> {
    let fault = |code, message| Detail::new("password", code, message);
    let mut faults = vec![];
    let length = password.chars().count();
    if length < usize::from(policy.min_length) {
        faults.push(Detail::new("password", "TOO_SHORT", format!("use at least {} characters", policy.min_length)));
    }
    if length > MAX_PASSWORD_CHARS {
        faults.push(Detail::new("password", "TOO_LONG", format!("use at most {MAX_PASSWORD_CHARS} characters")));
    }
    for class in &policy.character_classes {
        let (has, code, message) = match class {
            CharacterClass::Lower => {
                (password.chars().any(char::is_lowercase), "NEEDS_LOWER", "use a lower-case letter")
            }
            CharacterClass::Upper => {
                (password.chars().any(char::is_uppercase), "NEEDS_UPPER", "use an upper-case letter")
            }
            CharacterClass::Digit => (password.chars().any(char::is_numeric), "NEEDS_DIGIT", "use a digit"),
            CharacterClass::Symbol => (
                password.chars().any(|c| !c.is_alphanumeric()),
                "NEEDS_SYMBOL",
                "use a character that is no letter and no digit",
            ),
        };
        if !has {
            faults.push(fault(code, message));
        }
    }
    if policy.breached_check && is_breached(password) {
        faults.push(fault("BREACHED", "this password, or nearly this one, is on lists of stolen ones: use another"));
    }
    faults
}

/// Which sessions a logout is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogoutScope {
    /// This session.
    #[default]
    Local,
    /// All of the user's sessions but this.
    Others,
    /// All of the user's sessions.
    #[serde(alias = "global")]
    All,
}

/// A sign-in that counts, on one device.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A refresh token as it is kept.
#[derive(Debug)]
pub struct RefreshToken {
    pub id: uuid::Uuid,
    pub used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the password breaks the tenant's policy")]
    Password(Vec<Detail>),
    #[error("wrong address or password")]
    InvalidCredentials,
    #[error("too many attempts: wait {0} seconds")]
    Throttled(u32),
    #[error("the address is not verified")]
    EmailNotVerified,
    #[error("the refresh token is unknown, expired or of an ended session")]
    InvalidRefreshToken,
    #[error("the refresh token was used before")]
    TokenReused,
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error("the session has ended")]
    SessionEnded,
    #[error("the user has no such session")]
    NoSuchSession,
    #[error("the current password is wrong")]
    WrongPassword,
    #[error("the tenant demands a second factor, which this session was opened without")]
    FactorRequired,
    #[error("the route asks for a proof that is more recent, or surer")]
    StepUpRequired(Held),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_held_to_the_tenants_policy() {
        let policy = PasswordPolicy::default();
        let codes = |password: &str| {
            password_faults(password, &policy).into_iter().map(|f| f.code.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(codes("Correct-Horse-7"), Vec::<String>::new());
        assert_eq!(codes("short"), ["TOO_SHORT", "NEEDS_UPPER", "NEEDS_DIGIT"]);
        assert_eq!(codes("Password123"), ["BREACHED"]);
        assert_eq!(codes(&format!("Aa1{}", "x".repeat(98))), ["TOO_LONG"]);
    }
}

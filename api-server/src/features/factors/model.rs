//! Factors: the rules, without a database and without HTTP.

use std::fmt;

use contract::{Secret, seal::SealError};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use webauthn_rs::prelude::WebauthnError;

use super::ceremonies::Answered;
use crate::{
    extract::UserId,
    features::{auth::AuthError, users::UsersError},
};

/// How many recovery codes there are in a set.
pub const RECOVERY_CODES: usize = 10;

/// Which factors an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    pub totp: bool,
    pub passkeys: i64,
    /// Those that were not used yet.
    pub recovery_codes: i64,
}

impl Held {
    /// Whether there is a factor. Recovery codes stand in for one and are none themselves.
    pub fn any(&self) -> bool {
        self.totp || self.passkeys > 0
    }

    /// What can be shown, as an answer names it.
    pub fn methods(&self) -> Vec<&'static str> {
        let all = [("totp", self.totp), ("passkey", self.passkeys > 0), ("recoveryCode", self.recovery_codes > 0)];
        all.into_iter().filter_map(|(name, there)| (self.any() && there).then_some(name)).collect()
    }
}

/// What somebody shows to prove who they are, besides or in place of a password.
pub enum Shown {
    /// Of the authenticator app.
    Code(Secret),
    RecoveryCode(Secret),
    Passkey(Answered),
}

impl Shown {
    /// The field of a request that carries it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Code(_) => "code",
            Self::RecoveryCode(_) => "recoveryCode",
            Self::Passkey(_) => "passkey",
        }
    }
}

/// A recovery code: 80 random bits in base32, in groups that can be read out.
pub struct RecoveryCode(String);

impl RecoveryCode {
    pub fn random() -> Self {
        Self(totp_rs::Secret::from(rand::random::<[u8; 10]>()).to_base32())
    }

    /// As somebody typed it: in any case, with or without its dashes.
    pub fn given(text: &Secret) -> Self {
        Self(text.expose().chars().filter(char::is_ascii_alphanumeric).take(64).collect::<String>().to_uppercase())
    }

    /// What is kept. With the user's id in it, so that equal codes of two users would not show.
    pub fn digest(&self, user: UserId) -> [u8; 32] {
        Sha256::new().chain_update(user.0.as_bytes()).chain_update(&self.0).finalize().into()
    }
}

/// For the one answer that carries it.
impl fmt::Display for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, letter) in self.0.to_lowercase().chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

/// An authenticator app, as it is kept.
#[derive(Debug, Default)]
pub struct StoredTotp {
    /// Sealed; `None` where none is active.
    pub secret: Option<String>,
    pub activated_at: Option<Timestamp>,
    /// Sealed, with the time after which it is void.
    pub temporary: Option<(String, Timestamp)>,
}

/// A passkey, as it is kept.
#[derive(Debug, Clone)]
pub struct StoredPasskey {
    pub id: Uuid,
    pub user: UserId,
    /// The host that it was made for.
    pub rp_id: String,
    /// The authenticator's own name of it.
    pub credential_id: Vec<u8>,
    /// What a check of its signatures needs: nothing of it is secret.
    pub credential: Value,
    pub counter: i64,
    pub name: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum FactorsError {
    #[error("the tenant does not use second factors")]
    Off,
    #[error("the tenant demands a second factor, and this is the last one")]
    Demanded,
    #[error("no authenticator app is being set up, or its time is over")]
    NotSetUp,
    #[error("the account has no second factor")]
    NoFactor,
    /// At a login.
    #[error("wrong code")]
    WrongProof,
    /// By somebody who is signed in; names the field.
    #[error("wrong {0}")]
    Wrong(&'static str),
    #[error("unknown, used or expired token of a login or ceremony")]
    InvalidToken,
    #[error("the tenant has no hostname that a passkey could be made for")]
    NoHost,
    #[error("the account has as many passkeys as anyone may have")]
    TooManyPasskeys,
    #[error("this passkey is known already")]
    PasskeyTaken,
    #[error("no such passkey")]
    NoSuchPasskey,
    #[error("unknown, used or expired ceremony")]
    InvalidCeremony,
    /// At a login.
    #[error("the passkey is unknown, or its answer wrong")]
    WrongPasskey,
    /// While one is made; says what is wrong with the answer.
    #[error("{0}")]
    Ceremony(String),
    #[error("the state of a ceremony: {0}")]
    State(String),
    #[error("the authenticator app's secret: {0}")]
    Seal(#[from] SealError),
    #[error("the QR code: {0}")]
    Totp(String),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<WebauthnError> for FactorsError {
    fn from(error: WebauthnError) -> Self {
        Self::Ceremony(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_known_however_it_is_typed() {
        let (code, user) = (RecoveryCode::random(), UserId(uuid::Uuid::now_v7()));
        let printed = code.to_string();
        assert_eq!(printed.len(), 19, "{printed}");
        assert_eq!(printed.matches('-').count(), 3);
        for typed in [printed.clone(), printed.to_uppercase(), printed.replace('-', " "), printed.replace('-', "")] {
            assert_eq!(RecoveryCode::given(&Secret::new(typed)).digest(user), code.digest(user));
        }
        assert_ne!(code.digest(user), code.digest(UserId(uuid::Uuid::now_v7())));
        assert_ne!(RecoveryCode::random().to_string(), printed);
    }

    #[test]
    fn recovery_codes_alone_are_no_factor() {
        assert!(!Held { recovery_codes: 3, ..Held::default() }.any());
        let all = Held { totp: true, passkeys: 1, recovery_codes: 3 };
        assert_eq!(all.methods(), ["totp", "passkey", "recoveryCode"]);
        assert!(Held { recovery_codes: 3, ..Held::default() }.methods().is_empty());
    }
}

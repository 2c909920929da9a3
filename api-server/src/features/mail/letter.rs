//! What a mail says, before it has words.

use std::fmt;

use contract::Secret;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::features::auth::Device;

/// A mail's matter. Serialized only to be sealed: some hold a token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "letter", rename_all = "kebab-case")]
pub enum Letter {
    /// Somebody asked, by an address alone. Whether there is such an account is looked up when the mail is about to be
    /// sent, so that the answer to the request says nothing about it, neither by words nor by time.
    Wish {
        wish: Wish,
    },
    Welcome,
    /// To somebody for whom an administrator made an account: the first password is theirs to choose.
    Invitation {
        #[serde(with = "exposed")]
        token: Secret,
    },
    ResetPassword {
        #[serde(with = "exposed")]
        token: Secret,
    },
    VerifyEmail {
        #[serde(with = "exposed")]
        token: Secret,
        #[serde(with = "exposed")]
        code: Secret,
    },
    /// To the address that an account is to leave.
    LeaveAddress {
        #[serde(with = "exposed")]
        token: Secret,
        new: String,
    },
    /// To the address that an account is to have.
    TakeAddress {
        #[serde(with = "exposed")]
        token: Secret,
    },
    /// To both addresses.
    EmailChanged {
        new: String,
    },
    PasswordChanged {
        place: Place,
    },
    AccountLocked {
        #[serde(with = "exposed")]
        token: Secret,
    },
    TokenReused {
        place: Place,
    },
    NewSignIn {
        place: Place,
    },
}

/// What is asked for by an address; the first three by anybody, with the address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    ResetPassword,
    VerifyEmail,
    Unlock,
    /// By an administrator, for an account that has no password yet.
    Invitation,
}

/// From where something was done, for its owner to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub ip: String,
    pub user_agent: Option<String>,
    pub at: Timestamp,
}

impl Place {
    pub fn of(device: &Device, at: Timestamp) -> Self {
        Self { ip: device.ip.clone(), user_agent: device.user_agent.clone(), at }
    }
}

impl Letter {
    /// News is sent late rather than never, but not later than this. A letter with a token ends with the token.
    pub const WORTH: SignedDuration = SignedDuration::from_hours(72);

    /// Its name: of the template, and in lists.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Wish { wish: Wish::ResetPassword } | Self::ResetPassword { .. } => "reset-password",
            Self::Wish { wish: Wish::VerifyEmail } | Self::VerifyEmail { .. } => "verify-email",
            Self::Wish { wish: Wish::Unlock } | Self::AccountLocked { .. } => "account-locked",
            Self::Wish { wish: Wish::Invitation } | Self::Invitation { .. } => "invitation",
            Self::Welcome => "welcome",
            Self::LeaveAddress { .. } => "leave-address",
            Self::TakeAddress { .. } => "take-address",
            Self::EmailChanged { .. } => "email-changed",
            Self::PasswordChanged { .. } => "password-changed",
            Self::TokenReused { .. } => "token-reused",
            Self::NewSignIn { .. } => "new-sign-in",
        }
    }
}

/// The kind alone: some letters hold a token.
impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Letter({})", self.kind())
    }
}

/// A secret on its way into what is sealed, and out again.
mod exposed {
    use contract::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

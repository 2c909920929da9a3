//! What mailed tokens are for, how long they are good, and what can be wrong with them.

use contract::{Secret, TenantId, seal::Sealed};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    extract::UserId,
    features::{auth::AuthError, mail::MailError, users::UsersError},
    limits::{
        counters::Charge,
        rate::{Algorithm, Rate},
    },
};

/// Wrong codes after which the code is void; its link stays good.
pub const CODE_TRIES: i32 = 5;

/// The one thing that a mailed token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The first password of an account that an administrator made.
    Invitation,
    ResetPassword,
    VerifyEmail,
    Unlock,
    /// The old address agrees to a change.
    LeaveAddress,
    /// The new address agrees to a change.
    TakeAddress,
}

impl Purpose {
    const ALL: [Self; 6] =
        [Self::Invitation, Self::ResetPassword, Self::VerifyEmail, Self::Unlock, Self::LeaveAddress, Self::TakeAddress];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::ResetPassword => "reset-password",
            Self::VerifyEmail => "verify-email",
            Self::Unlock => "unlock",
            Self::LeaveAddress => "leave-address",
            Self::TakeAddress => "take-address",
        }
    }

    /// How long a token is good. The mails say so in words.
    pub fn lifetime(self) -> SignedDuration {
        match self {
            Self::ResetPassword | Self::Unlock => SignedDuration::from_hours(1),
            Self::VerifyEmail | Self::LeaveAddress | Self::TakeAddress => SignedDuration::from_hours(24),
            // Nobody waits for it: it comes on a Friday, or in a holiday.
            Self::Invitation => SignedDuration::from_hours(7 * 24),
        }
    }

    /// The other half of a change of address.
    pub fn other_half(self) -> Option<Self> {
        match self {
            Self::LeaveAddress => Some(Self::TakeAddress),
            Self::TakeAddress => Some(Self::LeaveAddress),
            Self::Invitation | Self::ResetPassword | Self::VerifyEmail | Self::Unlock => None,
        }
    }

    /// Whether it sets a password.
    pub fn sets_password(self) -> bool {
        matches!(self, Self::Invitation | Self::ResetPassword)
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// Mails that may be asked for to one address: who did not get the first needs a second, and nobody needs a hundred.
const MAILS: u64 = 4;
/// Mails that may be asked for from one network address, to whomever: many people can share it, and a mail costs them little.
const MAILS_FROM: u64 = 100;

/// What one more mail costs: so many at once, and evenly as many an hour. `ip` is `None` where it is not known who asks.
pub fn charges(tenant: TenantId, email: &str, ip: Option<&str>) -> Vec<Charge> {
    // Redis is no place for a list of users.
    let account = hex::encode(&Sha256::digest(email)[..16]);
    let from = ip.map(|ip| (format!("from:{ip}"), MAILS_FROM));
    let counters = [(format!("to:{account}"), MAILS)].into_iter().chain(from);
    let charges = counters.map(|(name, limit)| Charge {
        key: format!("mails:{{{tenant}}}:{name}"),
        rate: Rate { algorithm: Algorithm::TokenBucket { burst: limit }, limit, window_ms: 3_600_000 },
        cost: 1,
        enforced: true,
    });
    charges.collect()
}

/// A code for people to type: six digits.
pub fn random_code() -> Secret {
    Secret::new(format!("{:06}", rand::random_range(0..1_000_000_u32)))
}

/// A token as it is kept.
#[derive(Debug)]
pub struct MailedToken {
    pub id: Uuid,
    pub user: UserId,
    pub purpose: Purpose,
    pub email: String,
    pub confirmed_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

/// A code that may be tried.
#[derive(Debug)]
pub struct MailedCode {
    pub id: Uuid,
    pub user: UserId,
    pub sealed: Sealed,
}

/// How far a change of address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressChange {
    pub changed: bool,
    /// The address of the account now.
    pub email: String,
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("the link is unknown, used, replaced or expired")]
    InvalidLink,
    #[error("the code is wrong, void or expired")]
    InvalidCode,
    #[error("it is the address already")]
    SameAddress,
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_six_digits_also_where_they_begin_with_zero() {
        assert!((0..100).all(|_| random_code().expose().len() == 6));
    }

    #[test]
    fn every_purpose_is_read_as_it_is_written() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::parse(purpose.as_str()), Some(purpose));
            assert_eq!(purpose.other_half().and_then(Purpose::other_half), purpose.other_half().map(|_| purpose));
        }
        assert_eq!(Purpose::parse("anything"), None);
    }
}

//! The rules, without a database and without HTTP.

use contract::access::Permission;
use jiff::{SignedDuration, Timestamp};
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::extract::UserId;

/// Every key begins so: programs that look for leaked secrets know it by that.
pub const MARK: &str = "tnt_";
/// 40 letters and digits: 238 bits.
const RANDOM_CHARS: usize = 40;
const CHECK_CHARS: usize = 6;
const VISIBLE_CHARS: usize = 12;
/// Keys that count, of one user.
pub const MAX_PER_USER: i64 = 100;
pub const MAX_SCOPES: usize = 50;
pub const MAX_NAME_CHARS: usize = 100;
pub const DEFAULT_DAYS: u16 = 90;
pub const MAX_DAYS: u16 = 366;
/// How exactly the last use is kept.
pub const USE_KEPT: SignedDuration = SignedDuration::from_secs(60);

/// A key as its machine holds it.
pub struct KeySecret(String);

impl KeySecret {
    pub fn random() -> Self {
        let random = Alphanumeric.sample_string(&mut rand::rng(), RANDOM_CHARS);
        Self(format!("{MARK}{random}{}", check(&random)))
    }

    /// A text that has the form of a key. Anything else is refused here, without a look at the database.
    pub fn given(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(MARK)?;
        let (random, sum) = rest.split_at_checked(RANDOM_CHARS)?;
        (rest.len() == RANDOM_CHARS + CHECK_CHARS && sum == check(random)).then(|| Self(text.to_owned()))
    }

    /// What is stored. One round is enough: nobody guesses 238 bits.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The part that stays visible.
    pub fn prefix(&self) -> &str {
        self.0.get(..VISIBLE_CHARS).unwrap_or_default()
    }

    /// The key itself, for the one answer that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Tells a key from a typing error. It is no proof of anything.
fn check(random: &str) -> String {
    hex::encode(&Sha256::digest(random)[..CHECK_CHARS / 2])
}

/// What somebody asks for, checked.
#[derive(Debug)]
pub struct NewKey {
    pub name: String,
    pub scopes: Vec<Permission>,
    pub days: u16,
}

/// A key as it is kept.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: Uuid,
    pub user: UserId,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<Permission>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    #[error("the key is unknown, revoked or expired, or its user may not sign in any more")]
    Invalid,
    #[error("no such key")]
    NoSuchKey,
    #[error("another key has this name")]
    NameTaken,
    #[error("the scope {0} reaches further than who asks")]
    ScopeTooFar(Permission),
    #[error("a RoleBinding gives more to a key of this name than who asks may do")]
    NameReserved,
    #[error("the user has as many keys as anyone may have")]
    TooMany,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_form_and_a_typing_error_is_not_looked_up() {
        let key = KeySecret::random();
        assert!(key.expose().starts_with(MARK) && key.expose().starts_with(key.prefix()));
        assert_eq!(KeySecret::given(key.expose()).unwrap().digest(), key.digest());
        assert_ne!(KeySecret::random().digest(), key.digest());
        for at in MARK.len()..key.expose().len() {
            let mut typo = key.expose().as_bytes().to_vec();
            typo[at] ^= 1;
            assert!(KeySecret::given(&String::from_utf8(typo).unwrap()).is_none(), "{at}");
        }
        for bad in
            ["", "tnt_", "tnt_x", &format!("{}0", key.expose()), &key.expose()[4..], "tnt_ééééééééééééééééééééééé"]
        {
            assert!(KeySecret::given(bad).is_none(), "{bad}");
        }
    }
}

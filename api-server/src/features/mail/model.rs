//! Mails on their way: what is written down, and what can be wrong.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::letter::Letter;
use crate::extract::{User, UserId};

/// After the first refusal for now; each further one makes it twice as long.
const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(30);
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(1);

/// A mail to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// The address.
    pub to: String,
    /// Whom it is addressed to, where that is known.
    pub name: Option<String>,
    /// Whose account it is about; what is left of it goes with the account.
    pub user: Option<UserId>,
    pub letter: Letter,
    /// After this it is not sent any more; `None` leaves that to the letter.
    pub expires_at: Option<Timestamp>,
}

impl Message {
    /// A letter to a user, at the address of their account.
    pub fn to_user(user: &User, letter: Letter) -> Self {
        let (to, name) = (user.email.clone(), Some(user.name.clone()));
        Self { to, name, user: Some(user.id), letter, expires_at: None }
    }

    /// A letter to an address of which nothing is known.
    pub fn to_address(to: impl Into<String>, letter: Letter) -> Self {
        Self { to: to.into(), name: None, user: None, letter, expires_at: None }
    }

    #[must_use]
    pub fn until(self, expires_at: Timestamp) -> Self {
        Self { expires_at: Some(expires_at), ..self }
    }
}

/// What a row's sealed part holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Content {
    pub name: Option<String>,
    pub letter: Letter,
}

/// A row that this sender has taken, until its lease ends.
#[derive(Debug)]
pub struct Claimed {
    pub id: Uuid,
    pub recipient: String,
    pub content: Option<String>,
    pub attempts: u32,
    pub created_at: Timestamp,
}

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailState {
    /// It waits to be sent, for the first time or again.
    Queued,
    /// The server has taken it.
    Sent,
    /// It was given up.
    Dead,
}

impl MailState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Dead => "dead",
        }
    }
}

/// A mail as a list shows it: without what it says.
#[derive(Debug)]
pub struct Listed {
    pub id: Uuid,
    pub user: Option<UserId>,
    pub kind: String,
    pub recipient: String,
    pub state: String,
    pub attempts: u32,
    pub last_error: Option<String>,
    pub due_at: Timestamp,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// How long a mail waits after this many refusals. `jitter` is between 0 and 1: replicas must not come back all at once.
pub fn delay(refusals: u32, jitter: f64) -> SignedDuration {
    let factor = 1_i32.checked_shl(refusals.saturating_sub(1)).filter(|factor| *factor > 0).unwrap_or(i32::MAX);
    let delay = FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY);
    let extra = delay.as_secs_f64() * 0.25 * jitter.clamp(0.0, 1.0);
    delay.saturating_add(SignedDuration::try_from_secs_f64(extra).unwrap_or_default())
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("no mail server is configured")]
    NotConfigured,
    #[error("there is no such mail")]
    NoSuchMail,
    #[error("the mail is not dead")]
    NotDead,
    #[error("the mail has expired")]
    Expired,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_longest_and_jitter_only_adds() {
        let seconds = |refusals| delay(refusals, 0.0).as_secs();
        assert_eq!([1, 2, 3, 8, 40, u32::MAX].map(seconds), [30, 60, 120, 3_600, 3_600, 3_600]);
        assert_eq!((delay(1, 1.0).as_millis(), delay(1, 7.0).as_millis()), (37_500, 37_500));
    }
}

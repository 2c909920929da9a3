//! The rules of the room, without a connection.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use contract::{RoleName, TenantId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::extract::{CurrentUser, User, UserId};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Signed out, banned, deleted, or the password was changed elsewhere.
    SessionEnded,
    /// The access token's time is over, and no new one came.
    TokenExpired,
    /// The key that signed the token was withdrawn, or the tenant has another issuer.
    TokenInvalid,
    TenantSuspended,
    TenantGone,
    /// More events than one client may send.
    TooManyEvents,
    /// Nobody knows whether the session still counts.
    Unavailable,
    Shutdown,
    /// The client does not read what it is sent.
    TooSlow,
    /// The client did not answer a ping.
    Silent,
    /// What was sent is no Socket.IO.
    Protocol,
    /// No token, or none that counts.
    Refused,
    /// No connect packet in time.
    NeverJoined,
    /// The client went.
    Left,
}

impl End {
    pub const ALL: [Self; 14] = [
        Self::SessionEnded,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::TenantSuspended,
        Self::TenantGone,
        Self::TooManyEvents,
        Self::Unavailable,
        Self::Shutdown,
        Self::TooSlow,
        Self::Silent,
        Self::Protocol,
        Self::Refused,
        Self::NeverJoined,
        Self::Left,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionEnded => "session_ended",
            Self::TokenExpired => "token_expired",
            Self::TokenInvalid => "token_invalid",
            Self::TenantSuspended => "tenant_suspended",
            Self::TenantGone => "tenant_gone",
            Self::TooManyEvents => "too_many_events",
            Self::Unavailable => "unavailable",
            Self::Shutdown => "shutdown",
            Self::TooSlow => "too_slow",
            Self::Silent => "ping_timeout",
            Self::Protocol => "protocol_error",
            Self::Refused => "refused",
            Self::NeverJoined => "connect_timeout",
            Self::Left => "client_left",
        }
    }

    /// What the client is told, and whether it should come again. After a disconnect packet clients do not reconnect by
    /// themselves, which with the same token would be in vain; after a bare close they do.
    pub fn farewell(self) -> Farewell {
        match self {
            Self::SessionEnded | Self::TokenExpired | Self::TokenInvalid | Self::TenantSuspended | Self::TenantGone => {
                Farewell { event: Some("session-ended"), for_good: true, code: POLICY }
            }
            Self::TooManyEvents => Farewell { event: Some("going-away"), for_good: true, code: POLICY },
            Self::Unavailable | Self::Shutdown => {
                Farewell { event: Some("going-away"), for_good: false, code: GOING_AWAY }
            }
            Self::Protocol => Farewell { event: None, for_good: false, code: PROTOCOL_ERROR },
            Self::Refused | Self::NeverJoined | Self::TooSlow | Self::Silent => {
                Farewell { event: None, for_good: false, code: POLICY }
            }
            Self::Left => Farewell { event: None, for_good: false, code: NORMAL },
        }
    }
}

/// Codes of RFC 6455, 7.4.1.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const POLICY: u16 = 1008;

/// The last that a client hears.
pub struct Farewell {
    pub event: Option<&'static str>,
    pub for_good: bool,
    pub code: u16,
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub tenant: TenantId,
    pub user: UserId,
}

/// What a socket was told last of a user, in eight bytes: it is compared twice a second for every socket. Names, address and
/// standing are in it; when they signed in last is no news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News(u64);

impl News {
    /// Of another, as `GET /users/{id}` shows them.
    pub fn of(user: &User) -> Self {
        Self::with(user, &[])
    }

    /// Of oneself: also the roles that bindings give.
    pub fn own(me: &CurrentUser) -> Self {
        Self::with(me, &me.roles())
    }

    fn with(user: &User, roles: &[RoleName]) -> Self {
        let User { email, name, first_name, last_name, role, assigned_roles, email_verified, is_active, .. } = user;
        let mut hasher = DefaultHasher::new();
        (email, name, first_name, last_name, email_verified, is_active).hash(&mut hasher);
        (role, assigned_roles, roles).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A room as clients name it, within their tenant: `user:<id>`, or `user-<id>`, or the id alone.
pub fn room_user(name: &str) -> Option<UserId> {
    let id = name.strip_prefix("user:").or_else(|| name.strip_prefix("user-")).unwrap_or(name);
    Uuid::try_parse(id).ok().map(UserId)
}

/// The name that clients are told.
pub fn room_name(user: UserId) -> String {
    format!("user:{user}")
}

/// How much one client may send: [`Allowance::BURST`] at once, then [`Allowance::EACH`] for one more.
pub struct Allowance {
    /// When it would be whole again.
    whole_at: Instant,
}

impl Allowance {
    pub const BURST: u32 = 50;
    pub const EACH: Duration = Duration::from_millis(50);

    pub fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Takes one; false when nothing is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let whole_at = self.whole_at.max(now) + Self::EACH;
        if whole_at > now + Self::EACH * Self::BURST {
            return false;
        }
        self.whole_at = whole_at;
        true
    }
}

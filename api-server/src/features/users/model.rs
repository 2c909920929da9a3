//! Accounts: the rules, without a database and without HTTP.

use contract::{RoleName, Secret, access};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

use crate::extract::User;

const MAX_EMAIL_CHARS: usize = 255;
const MAX_NAME_CHARS: usize = 100;

/// A name in its three forms; the seeds of the API's clients know it as one or as two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullName {
    pub name: String,
    pub first: Option<String>,
    pub last: Option<String>,
}

impl FullName {
    /// Fills in the form that was not given. `None` when nothing was.
    pub fn of(name: Option<&str>, first: Option<&str>, last: Option<&str>) -> Option<Self> {
        let clean = |part: Option<&str>| part.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
        let (name, first, last) = (clean(name), clean(first), clean(last));
        if let Some(name) = name {
            let (head, tail) = name.split_once(' ').unwrap_or((&name, ""));
            let first = first.or_else(|| Some(head.to_owned()));
            let last = last.or_else(|| clean(Some(tail)));
            return Some(Self { name, first, last });
        }
        let name = [first.as_deref(), last.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        (!name.is_empty()).then_some(Self { name, first, last })
    }

    pub fn is_short_enough(&self) -> bool {
        self.name.chars().count() <= MAX_NAME_CHARS
    }
}

/// An address in the form in which it is kept, or `None` when it is none. One address has one form, whichever keyboard wrote
/// its capitals and accents: two accounts must not differ in what nobody sees.
pub fn email(given: &str) -> Option<String> {
    // Composed again at the end: a small letter may go together with the accent that follows where its capital did not.
    let email: String = given.trim().nfc().collect::<String>().to_lowercase().nfc().collect();
    let (local, domain) = email.rsplit_once('@')?;
    // Quoted addresses, which may have everything in them, nobody has.
    let seen = |c: char| !c.is_whitespace() && !c.is_control() && !is_invisible(c) && !"@<>,;:\"()[]\\".contains(c);
    let plain = |part: &str| !part.is_empty() && part.chars().all(seen);
    let domain_ok = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
    (plain(local) && plain(domain) && domain_ok && email.chars().count() <= MAX_EMAIL_CHARS).then_some(email)
}

/// Characters that show nothing, or turn the order of those that follow.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Which users of a list.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of the address, in any case.
    pub email: Option<String>,
    /// The primary role.
    pub role: Option<RoleName>,
    pub is_active: Option<bool>,
}

/// The order of a list of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
pub enum Sort {
    #[default]
    #[serde(rename = "-createdAt")]
    NewestFirst,
    #[serde(rename = "createdAt")]
    OldestFirst,
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameBackwards,
}

impl Sort {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewestFirst => "-createdAt",
            Self::OldestFirst => "createdAt",
            Self::Name => "name",
            Self::NameBackwards => "-name",
        }
    }
}

/// What an administrator gives for a new account, checked.
#[derive(Debug)]
pub struct NewAccount {
    pub email: String,
    pub name: FullName,
    pub password: Option<Secret>,
    /// Without a password: whether its owner is mailed a link to choose one.
    pub invite: bool,
    pub role: RoleName,
}

/// What of an account is to become different.
#[derive(Debug, Default)]
pub struct Change {
    pub name: Option<FullName>,
    pub email: Option<String>,
    pub role: Option<RoleName>,
    pub is_active: Option<bool>,
}

impl Change {
    /// Whether the change is one that only somebody who may do as much as the user can make.
    pub fn is_weighty(&self) -> bool {
        self.email.is_some() || self.role.is_some() || self.is_active.is_some()
    }

    /// The fields that it names, for the audit.
    pub fn fields(&self) -> Vec<&'static str> {
        [
            ("name", self.name.is_some()),
            ("email", self.email.is_some()),
            ("role", self.role.is_some()),
            ("isActive", self.is_active.is_some()),
        ]
        .into_iter()
        .filter_map(|(field, given)| given.then_some(field))
        .collect()
    }
}

/// A role that users of a tenant can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// A number for built-in roles, which some clients know them by; the name for others.
    pub id: String,
    pub name: RoleName,
    pub description: String,
    pub permissions: Vec<access::Permission>,
    /// RoleBindings that bring it; empty for a built-in one.
    pub declared_by: Vec<String>,
}

/// Why a user has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Primary,
    Assigned(jiff::Timestamp),
    /// By this RoleBinding, until its end.
    Declared(String, Option<jiff::Timestamp>),
}

/// A user with all their roles, each with its source.
#[derive(Debug)]
pub struct Holder {
    pub user: User,
    pub roles: Vec<(Role, Source)>,
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("a user with this address exists")]
    EmailTaken,
    #[error("the tenant has as many users as its quota allows")]
    QuotaReached,
    #[error("no such user")]
    NoSuchUser,
    #[error("{0} is no role of this tenant")]
    NoSuchRole(String),
    #[error("the user does not have this role")]
    NotAssigned,
    #[error("the role is given by the RoleBinding {0}")]
    Declared(String),
    #[error("it is the user's primary role")]
    Primary,
    #[error("it reaches further than who asks")]
    ReachesFurther,
    #[error("the user has a password")]
    HasPassword,
    #[error("the account is deactivated")]
    Deactivated,
    #[error("nobody locks themselves out")]
    Oneself,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_in_all_its_forms() {
        let name = |n, f, l| FullName::of(n, f, l).map(|name| (name.name, name.first, name.last));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            name(Some(" Ada Lovelace "), None, None),
            Some(("Ada Lovelace".into(), some("Ada"), some("Lovelace")))
        );
        assert_eq!(
            name(None, Some("Ada"), Some("Lovelace")),
            Some(("Ada Lovelace".into(), some("Ada"), some("Lovelace")))
        );
        assert_eq!(name(None, Some("Ada"), None), Some(("Ada".into(), some("Ada"), None)));
        assert_eq!(name(None, Some(" "), None), None);
    }

    #[test]
    fn an_address_is_kept_in_lower_case() {
        assert_eq!(email(" Ada@Example.COM "), Some("ada@example.com".into()));
        // One address, whichever keyboard composed its accents; and what is kept is kept the same when read again.
        for given in ["ZOE\u{308}@x.y", "zo\u{eb}@x.y", "Zo\u{cb}@X.Y"] {
            assert_eq!(email(given).as_deref(), Some("zo\u{eb}@x.y"), "{given}");
        }
        for given in ["\u{130}@x.y", "A\u{345}@x.y", "\u{1e9e}@x.y", "\u{3a3}@x.y"] {
            let kept = email(given).unwrap();
            assert_eq!(email(&kept), Some(kept.clone()), "{given}");
        }
        for bad in [
            "",
            "ada",
            "ada@",
            "@x.y",
            "a b@x.y",
            "a@b@x.y",
            "ada@localhost",
            "ada@x..y",
            &format!("{}@x.y", "a".repeat(260)),
            // Not to be seen, or turning what follows: the address of another, to whoever reads it.
            "ad\u{200b}a@x.y",
            "ada\u{ad}@x.y",
            "\u{feff}ada@x.y",
            "ada\u{202e}@x.y",
            "ada@x\u{2060}.y",
            // What begins or ends an address in a mail's head.
            "ada<b@x.y",
            "ada,b@x.y",
            "\"ada@x.y",
        ] {
            assert_eq!(email(bad), None, "{bad}");
        }
    }
}

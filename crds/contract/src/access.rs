//! Who may do what: permissions, roles and the bindings that give roles to subjects.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::RoleName;

/// The right to do one thing with one kind of thing, written `resource:verb`; `*` stands for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    resource: String,
    verb: String,
}

/// A permission that is not of the form `resource:verb`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a permission: use resource:verb in lower case such as payments:read, or '*' for either part")]
pub struct InvalidPermission(String);

impl Permission {
    /// Makes a permission from its two parts; each is `*` or lower-case letters, digits, `-` and `_`.
    pub fn new(resource: &str, verb: &str) -> Result<Self, InvalidPermission> {
        let part = |p: &str| {
            p == "*"
                || (1..=63).contains(&p.len())
                    && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if part(resource) && part(verb) {
            Ok(Self { resource: resource.to_owned(), verb: verb.to_owned() })
        } else {
            Err(InvalidPermission(format!("{resource}:{verb}")))
        }
    }

    /// Whether who holds `self` may do `wanted` (`resource:verb` without wildcards).
    #[must_use]
    pub fn allows(&self, resource: &str, verb: &str) -> bool {
        (self.resource == "*" || self.resource == resource) && (self.verb == "*" || self.verb == verb)
    }

    /// Whether it is about this resource, whatever may be done with it.
    #[must_use]
    pub fn is_about(&self, resource: &str) -> bool {
        self.resource == "*" || self.resource == resource
    }

    /// Whether `self` reaches at least as far as `other`, wildcards included.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.allows(&other.resource, &other.verb)
    }
}

impl FromStr for Permission {
    type Err = InvalidPermission;
    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let (resource, verb) = text.split_once(':').ok_or_else(|| InvalidPermission(text.to_owned()))?;
        Self::new(resource, verb)
    }
}

impl TryFrom<String> for Permission {
    type Error = InvalidPermission;
    fn try_from(text: String) -> Result<Self, InvalidPermission> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> String {
        permission.to_string()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.verb)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The roles that every tenant has, and what they may do: the union of the roles in the four design documents.
///
/// `self`-service (one's own profile, payments, sessions) needs no permission; these are rights over what is another's,
/// or acts that not every signed-in person may do.
pub const BUILT_IN_ROLES: &[(&str, &[&str])] = &[
    ("ADMIN", &["*:*"]),
    ("SUPPORT", &["users:read", "payments:read", "transactions:read", "tickets:*"]),
    ("VENDOR", &["payments:initiate", "payments:read", "payments:update", "payments:cancel", "payments:report"]),
    ("CUSTOMER", &["payments:pay", "payments:cancel"]),
    ("USER", &["payments:pay", "payments:cancel"]),
    ("GUEST", &[]),
];

/// The role of a person whom nobody gave another.
pub const DEFAULT_ROLE: &str = "USER";

/// The position of a built-in role in [`BUILT_IN_ROLES`], counted from 1: a number for clients that know roles by one.
/// New roles are added at the end, so that it stays.
#[must_use]
pub fn built_in_number(role: &RoleName) -> Option<usize> {
    BUILT_IN_ROLES.iter().position(|(name, _)| *name == role.as_str()).map(|at| at + 1)
}

/// The permissions of a built-in role, or `None` when there is no such role.
#[must_use]
pub fn built_in(role: &RoleName) -> Option<Vec<Permission>> {
    let (_, permissions) = BUILT_IN_ROLES.iter().find(|(name, _)| *name == role.as_str())?;
    Some(permissions.iter().filter_map(|p| p.parse().ok()).collect())
}

/// A role given to subjects, as one RoleBinding declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// `metadata.name` of the RoleBinding.
    pub name: String,
    pub role: RoleName,
    /// What the role may do: of the built-in role, or the binding's own inline rules. Resolved by the operator.
    pub permissions: Vec<Permission>,
    pub subjects: Vec<Subject>,
    /// From this moment on the binding counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// A CEL expression over `request`; the binding counts only where it is true, and not where it cannot be evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// Whom a binding means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    pub kind: SubjectKind,
    /// A user's e-mail address (matched in lower case) or id; a group's name; an API key's name.
    pub name: String,
}

impl Subject {
    /// What its name is compared by: e-mail addresses and ids of users in lower case, other names as they are.
    #[must_use]
    pub fn compared(&self) -> Cow<'_, str> {
        match self.kind {
            SubjectKind::User => self.name.to_lowercase().into(),
            SubjectKind::Group | SubjectKind::ApiKey => self.name.as_str().into(),
        }
    }
}

impl Binding {
    /// Whether its time is not over.
    #[must_use]
    pub fn lasts(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum SubjectKind {
    User,
    Group,
    ApiKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_allows_all_and_nothing_else_reaches_further() {
        let may = |held: &str, resource, verb| held.parse::<Permission>().unwrap().allows(resource, verb);
        assert!(may("*:*", "payments", "read") && may("payments:*", "payments", "read"));
        assert!(may("*:read", "payments", "read") && may("payments:read", "payments", "read"));
        assert!(!may("payments:read", "payments", "update") && !may("payments:*", "users", "read"));
        let covers =
            |held: &str, other: &str| held.parse::<Permission>().unwrap().covers(&other.parse::<Permission>().unwrap());
        assert!(
            covers("*:*", "payments:*") && covers("payments:*", "payments:*") && covers("payments:*", "payments:read")
        );
        assert!(!covers("payments:*", "*:read") && !covers("payments:read", "payments:*") && !covers("*:read", "*:*"));
        for bad in ["payments", "payments:", ":read", "Payments:read", "a:b:c", "pay ments:read"] {
            assert!(bad.parse::<Permission>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_built_in_role_is_well_formed() {
        for (name, permissions) in BUILT_IN_ROLES {
            let role = RoleName::new(*name).unwrap();
            assert_eq!(built_in(&role).unwrap().len(), permissions.len(), "{name}");
        }
        assert!(built_in(&RoleName::new("NOBODY").unwrap()).is_none());
    }
}

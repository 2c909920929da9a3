//! Names and ids with their rules, so that a value that was parsed once needs no second look.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A value that breaks the rule of its type. The message names the type, the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}: {rule}")]
pub struct InvalidId {
    what: &'static str,
    value: String,
    rule: &'static str,
}

macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses the value; see the type for its rule.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) { Ok(Self(value)) } else { Err(InvalidId { what: $what, value, rule: $rule }) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

checked_string!(
    /// `metadata.name` of a Tenant. Shorter than a DNS label, because other names are made from it.
    TenantName,
    "tenant name",
    "use at most 50 lower-case letters, digits and '-', beginning and ending with a letter or digit",
    |name| name.len() <= 50 && is_dns_label(name)
);

checked_string!(
    /// A DNS name in lower case (RFC 1123), without a port and without a final dot.
    Hostname,
    "hostname",
    "use a DNS name in lower case such as api.example.com, without port or wildcard",
    |name| name.len() <= 253 && name.split('.').all(is_dns_label)
);

checked_string!(
    /// A currency or asset code: ISO 4217 (`USD`) or a crypto asset (`USDT`).
    Currency,
    "currency code",
    "use 3 to 16 upper-case letters and digits such as USD",
    |code| (3..=16).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
);

checked_string!(
    /// A role's name, kept in upper case: roles are matched without regard to case.
    RoleName,
    "role name",
    "use 1 to 50 upper-case letters, digits, '_' and '-', beginning with a letter",
    |name| (1..=50).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
);

checked_string!(
    /// The first 16 hex digits of the SHA-256 of a document's content.
    Revision,
    "revision",
    "use 16 lower-case hex digits",
    |hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

impl Revision {
    /// The revision that a SHA-256 digest gives.
    #[must_use]
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        Self(hex::encode(&digest[..8]))
    }
}

impl RoleName {
    /// Parses a role name as a person writes it, in any case.
    pub fn parse(name: &str) -> Result<Self, InvalidId> {
        Self::new(name.to_ascii_uppercase())
    }
}

fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A tenant's id in the database and in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(Uuid);

impl TenantId {
    /// UUIDv5 namespace of tenant ids: the UUIDv5 of `tenantry.dev` in the DNS namespace of RFC 9562.
    const NAMESPACE: Uuid = Uuid::from_u128(0x7753_3d27_8206_5870_acc4_fb08_0ec8_83ec);

    /// The id of the Tenant with this namespace and name. Derived and not drawn, so that a Tenant that is deleted with
    /// `deletionPolicy: Retain` and applied again finds its data.
    #[must_use]
    pub fn derive(namespace: &str, name: &str) -> Self {
        Self(Uuid::new_v5(&Self::NAMESPACE, format!("{namespace}/{name}").as_bytes()))
    }

    #[must_use]
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_and_refused_with_the_rule() {
        assert!(TenantName::new("acme-2").is_ok());
        assert!(TenantName::new("a".repeat(51)).is_err());
        assert!(Hostname::new("api.acme.example").is_ok());
        for bad in ["", "API.acme", "a..b", "-a", "a-", "*.acme", "acme:80", "a_b", "acme."] {
            let error = Hostname::new(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?} is not a hostname")), "{error}");
        }
        assert!(Currency::new("USDT").is_ok());
        assert!(Currency::new("usd").is_err());
        assert_eq!(RoleName::parse("billing-admin").unwrap().as_str(), "BILLING-ADMIN");
    }

    #[test]
    fn a_tenant_keeps_its_id_when_it_is_made_again() {
        assert_eq!(TenantId::derive("prod", "acme"), TenantId::derive("prod", "acme"));
        assert_ne!(TenantId::derive("prod", "acme"), TenantId::derive("staging", "acme"));
        assert_eq!(TenantId::derive("prod", "acme").as_uuid().get_version_num(), 5);
    }
}

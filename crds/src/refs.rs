//! How objects name each other: always within their own namespace, never by value.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pattern of `metadata.name` (RFC 1123 subdomain).
pub(crate) const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of a hostname in lower case, without port and wildcard.
pub(crate) const HOSTNAME: &str = OBJECT_NAME;
/// Pattern of an `http` or `https` URL without query and fragment.
pub(crate) const URL: &str = r"^https?://[^\s/?#]+(/[^\s?#]*)?$";

/// A Platform in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PlatformRef {
    /// Name of the Platform.
    #[schemars(length(min = 1, max = 50), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// A Tenant in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct TenantRef {
    /// Name of the Tenant.
    #[schemars(length(min = 1, max = 50), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// A Secret in the same namespace, whose keys are known by what it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key in the Secret's `data`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What a policy is attached to: a whole Platform or one Tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct TargetRef {
    /// Kind of the target: `Platform` (every tenant that it serves) or `Tenant`.
    pub kind: TargetKind,
    /// Name of the target.
    #[schemars(length(min = 1, max = 50), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    Platform,
    Tenant,
}

macro_rules! named {
    ($($reference:ident),*) => {$(
        impl<N: Into<String>> From<N> for $reference {
            fn from(name: N) -> Self {
                Self { name: name.into() }
            }
        }
    )*};
}

named!(PlatformRef, TenantRef, SecretRef);

impl SecretKeyRef {
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { name: name.into(), key: key.into() }
    }
}

impl TargetRef {
    pub fn platform(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Platform, name: name.into() }
    }

    pub fn tenant(name: impl Into<String>) -> Self {
        Self { kind: TargetKind::Tenant, name: name.into() }
    }
}

//! Who asks, and whether they may: bearer tokens, RBAC, impersonation, reviews.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

mod attributes;
mod authenticate;
mod bootstrap;
mod escalation;
mod rbac;
mod review;
mod tokens;

pub use attributes::Attributes;
pub use bootstrap::{aggregate, objects as bootstrap};
pub use rbac::CLUSTER_ROLES;
pub use review::review;
pub use tokens::Tokens;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

/// What the kubeconfig that the server hands out is called.
const ADMIN: &str = "tenantry:admin";
const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whoever sends a request. The default may do nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().map(ToString::to_string).collect();
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Whoever holds the administrator's token.
    pub fn admin() -> Self {
        Self::new(ADMIN, &[MASTERS, AUTHENTICATED])
    }

    /// The server itself, and the controllers in it.
    pub fn server() -> Arc<Self> {
        Arc::new(Self::new("system:apiserver", &[MASTERS, AUTHENTICATED]))
    }

    fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    fn service_account(namespace: &str, name: &str) -> Self {
        let own = format!("system:serviceaccounts:{namespace}");
        Self::new(format!("{SERVICE_ACCOUNT}{namespace}:{name}"), &["system:serviceaccounts", &own, AUTHENTICATED])
    }

    /// May do anything, whatever the roles say.
    fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// `authentication.k8s.io/v1` UserInfo.
    pub fn info(&self) -> Value {
        let mut info = json!({ "username": self.name, "groups": self.groups });
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

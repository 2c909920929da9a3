//! Who the API is in the cluster, and the one thing that it may do there: watch documents. It reads no Secret.

use contract::names;
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
};

use super::{super::dereference::Dereferenced, meta};

pub fn service_account(found: &Dereferenced) -> ServiceAccount {
    ServiceAccount { metadata: meta(found, names::api(&found.name)), ..ServiceAccount::default() }
}

pub fn role(found: &Dereferenced) -> Role {
    let documents = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".into()]),
        verbs: ["get", "list", "watch"].map(Into::into).into(),
        ..PolicyRule::default()
    };
    Role { metadata: meta(found, names::api(&found.name)), rules: Some(vec![documents]) }
}

pub fn role_binding(found: &Dereferenced) -> RoleBinding {
    let name = names::api(&found.name);
    RoleBinding {
        metadata: meta(found, name.clone()),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "Role".into(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name,
            namespace: Some(found.namespace.clone()),
            ..Subject::default()
        }]),
    }
}

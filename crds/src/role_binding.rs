//! RoleBinding: who may do what in a tenant's API. Not the RBAC of Kubernetes, whose nouns it borrows.

use contract::{RoleName, access::SubjectKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::refs::TenantRef;

/// Which role, for whom, in which tenant.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "RoleBinding",
    namespaced,
    status = "RoleBindingStatus",
    doc = "A RoleBinding gives a role in a tenant's API to users, groups or API keys. It is not the RoleBinding of rbac.authorization.k8s.io: reach it as rolebindings.tenantry.dev or trb.",
    derive = "PartialEq",
    shortname = "trb",
    category = "tenantry",
    selectable = ".spec.tenantRef.name",
    selectable = ".spec.roleRef.name",
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantRef.name"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.roleRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Subjects", type_ = "integer", priority = 1, json_path = ".status.subjects"),
    printcolumn(name = "Expires", type_ = "string", priority = 1, json_path = ".spec.expiresAt"),
    printcolumn(name = "Message", type_ = "string", priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message"),
    validation = Rule::new("self.metadata.name.size() <= 50")
        .message("metadata.name must be at most 50 characters long, because other names are made from it"),
    cel
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.roleRef.name.lowerAscii() in ['admin', 'support', 'vendor', 'customer', 'user', 'guest']) || !has(self.rules) || size(self.rules) == 0").message("rules cannot be given for a built-in role (ADMIN, SUPPORT, VENDOR, CUSTOMER, USER, GUEST): leave them out or choose another roleRef.name").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("self.roleRef.name.lowerAscii() in ['admin', 'support', 'vendor', 'customer', 'user', 'guest'] || (has(self.rules) && size(self.rules) > 0)").message("rules are required unless roleRef.name is a built-in role (ADMIN, SUPPORT, VENDOR, CUSTOMER, USER, GUEST): say what the role may do").reason(Reason::FieldValueRequired))]
pub struct RoleBindingSpec {
    /// The tenant in whose API the role counts.
    #[x_kube(validation = Rule::new("self == oldSelf").message("tenantRef is immutable: delete the RoleBinding and create it for the other tenant"))]
    pub tenant_ref: TenantRef,

    /// The role that is given.
    #[x_kube(validation = Rule::new("self == oldSelf").message("roleRef is immutable: delete the RoleBinding and create it with the other role"))]
    pub role_ref: RoleRef,

    /// What a role of your own may do. Left out for a built-in role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<PolicyRule>,

    /// Who gets the role. Each subject is named once.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub subjects: Vec<Subject>,

    /// From this moment on the binding counts for nothing, such as `2030-01-31T00:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// CEL expression over `request` that must be true for the role to count, such as
    /// `request.ip.startsWith('10.')`. Where it cannot be evaluated, the role does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct RoleRef {
    /// A built-in role (`ADMIN`, `SUPPORT`, `VENDOR`, `CUSTOMER`, `USER`, `GUEST`) or one of your own, which `rules`
    /// define. Roles are matched without regard to case.
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[A-Za-z][-A-Za-z0-9_]*$"))]
    pub name: String,
}

/// Every verb on every resource of one entry is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PolicyRule {
    /// Resources of the API such as `payments`; `*` means all.
    #[schemars(length(min = 1, max = 32), inner(length(max = 63), regex(pattern = r"^(\*|[a-z0-9_-]+)$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resources: Vec<String>,

    /// What may be done with them, such as `read`; `*` means all.
    #[schemars(length(min = 1, max = 32), inner(length(max = 63), regex(pattern = r"^(\*|[a-z0-9_-]+)$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub verbs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Subject {
    /// `User`, `Group` or `ApiKey`.
    pub kind: SubjectKind,

    /// A user's e-mail address or id; a group's name; an API key's name.
    #[schemars(length(min = 1, max = 254), regex(pattern = r"^\S+$"))]
    pub name: String,
}

/// What the operator knows about the binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleBindingStatus {
    /// `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How many subjects have the role.
    #[serde(default)]
    pub subjects: u32,

    /// `Ready`, `Accepted`, `ResolvedRefs`, `Programmed` and `Expired`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl RoleBindingSpec {
    /// Whether the role is one that every tenant has.
    pub fn is_built_in(&self) -> bool {
        RoleName::parse(&self.role_ref.name).is_ok_and(|role| contract::access::built_in(&role).is_some())
    }
}

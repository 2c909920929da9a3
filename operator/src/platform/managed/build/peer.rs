//! Kinds of CloudNativePG, which are known by name only: there is no library of them, and they may not be installed.

use k8s_openapi::serde_json::Value;
use kube::{
    api::{ApiResource, DynamicObject, ObjectMeta},
    core::GroupVersionKind,
};

pub const POSTGRES_GROUP_VERSION: &str = "postgresql.cnpg.io/v1";
pub const BARMAN_GROUP_VERSION: &str = "barmancloud.cnpg.io/v1";

pub fn cluster_kind() -> ApiResource {
    kind("postgresql.cnpg.io", "Cluster", "clusters")
}

pub fn scheduled_backup_kind() -> ApiResource {
    kind("postgresql.cnpg.io", "ScheduledBackup", "scheduledbackups")
}

pub fn database_kind() -> ApiResource {
    kind("postgresql.cnpg.io", "Database", "databases")
}

pub fn database_role_kind() -> ApiResource {
    kind("postgresql.cnpg.io", "DatabaseRole", "databaseroles")
}

pub fn object_store_kind() -> ApiResource {
    kind("barmancloud.cnpg.io", "ObjectStore", "objectstores")
}

fn kind(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}

/// An object of one of these kinds.
pub fn object(kind: &ApiResource, metadata: ObjectMeta, spec: &Value) -> DynamicObject {
    let name = metadata.name.clone().unwrap_or_default();
    let mut object = DynamicObject::new(&name, kind).data(k8s_openapi::serde_json::json!({ "spec": spec }));
    object.metadata = metadata;
    object
}

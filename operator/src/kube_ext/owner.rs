//! Owner references: what is collected with its owner. Workload is owned, data never is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

/// The reference that makes `object` the controlling owner. `None` for an object that was never in a cluster.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> Option<OwnerReference> {
    object.controller_owner_ref(&())
}

/// Whether this object, and not an older one of the same name, controls the one with this metadata.
pub fn owned_by(meta: &ObjectMeta, owner: &impl ResourceExt) -> bool {
    let uid = owner.uid();
    uid.is_some() && meta.owner_references.iter().flatten().any(|reference| Some(&reference.uid) == uid.as_ref())
}

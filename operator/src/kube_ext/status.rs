//! The status of an object, written whole by its one author and only when it differs.

use contract::names::STATUS_FIELD_MANAGER;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use super::apply::Namespaced;
use crate::error::{Doing, ReconcileError};

/// Writes `wanted` unless it is what the object has; says whether it wrote. An object that was deleted meanwhile needs
/// no status any more.
///
/// Server-side apply drops the fields of ours that `wanted` leaves out, so a value that ceased to hold disappears.
pub async fn patch_status<K, S>(
    client: &Client,
    object: &K,
    current: Option<&S>,
    wanted: &S,
) -> Result<bool, ReconcileError>
where
    K: Namespaced,
    S: PartialEq + Serialize,
{
    if current == Some(wanted) {
        return Ok(false);
    }
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "namespace": namespace },
        "status": wanted,
    });
    let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match Api::<K>::namespaced(client.clone(), &namespace)
        .patch_status(&name, &params, &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error).doing(|| format!("write the status of {} {namespace}/{name}", K::kind(&()))),
    }
}

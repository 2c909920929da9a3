//! The four ways to change a part of an object.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>

pub mod apply;
pub mod fields;
pub mod ownership;
mod strategic;

use serde_json::Value;

use crate::{
    registry::Kind,
    status::{Result, Status},
};

/// A patch that is computed from the live object; apply has its own way.
#[derive(Debug)]
pub enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// The object after the patch.
    pub fn apply(&self, kind: &Kind, live: &Value) -> Result<Value> {
        let mut object = live.clone();
        match self {
            Patch::Json(patch) => {
                json_patch::patch(&mut object, patch).map_err(|error| {
                    Status::unprocessable(format!(
                        "the server rejected our request due to an error in our request: {error}"
                    ))
                })?;
            }
            Patch::Merge(patch) => json_patch::merge(&mut object, patch),
            Patch::Strategic(patch) => strategic::merge(Some(kind.schema()), &mut object, patch)?,
        }
        if !object.is_object() {
            return Err(Status::bad_request("the patched object is not an object"));
        }
        Ok(object)
    }
}

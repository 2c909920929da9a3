//! What the server makes of an object before it is kept.

use serde_json::{Value, json};

use super::{Api, Context, Target};
use crate::{
    admission, builtin, clock, crd, metadata, object,
    registry::Kind,
    schema::{default, validate},
    status::{Cause, Result, Status},
};

/// Metadata that only the server writes.
const PINNED: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "selfLink",
];

/// A fresh object: named, numbered, without a status of its own wishing.
pub fn fresh(kind: &Kind, object: &mut Value) {
    if kind.status || kind.kind == "CustomResourceDefinition" {
        object::remove(object, "status");
    }
    let metadata = object::metadata(object);
    for field in PINNED {
        metadata.shift_remove(field);
    }
    metadata.insert("uid".into(), json!(uuid::Uuid::new_v4().to_string()));
    metadata.insert("creationTimestamp".into(), json!(clock::stamp()));
    if kind.generation || kind.custom {
        metadata.insert("generation".into(), json!(1));
    }
}

/// A changed object keeps its identity; through the status door it keeps everything but its status, through the main door its status.
pub fn changed(kind: &Kind, subresource: &str, old: &Value, new: &mut Value) {
    if subresource == "status" {
        let status = new.get("status").cloned();
        let owned = new["metadata"].get("managedFields").cloned();
        let mut kept = old.clone();
        match status {
            Some(status) => object::map(&mut kept).insert("status".into(), status),
            None => object::remove(&mut kept, "status"),
        };
        if let Some(owned) = owned {
            object::metadata(&mut kept).insert("managedFields".into(), owned);
        }
        // A built-in kind's status door lets metadata through; a custom one's does not.
        if !kind.custom {
            for field in ["labels", "annotations", "finalizers"] {
                let metadata = object::metadata(&mut kept);
                match new["metadata"].get(field) {
                    Some(value) => metadata.insert(field.into(), value.clone()),
                    None => metadata.shift_remove(field),
                };
            }
        }
        *new = kept;
        return;
    }
    if kind.status {
        match old.get("status") {
            Some(status) => object::map(new).insert("status".into(), status.clone()),
            None => object::remove(new, "status"),
        };
    }
    let metadata = object::metadata(new);
    for field in PINNED {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.shift_remove(field),
        };
    }
}

/// Counts the wish, if it is another one than before.
fn count(kind: &Kind, old: &Value, new: &mut Value) {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return };
    let wished =
        |(name, _): &(&String, &Value)| *name != "metadata" && !(*name == "status" && (kind.status || !kind.custom));
    let same = |one: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>| {
        one.iter().filter(wished).all(|(name, value)| other.get(name) == Some(value))
    };
    if (kind.generation || kind.custom) && !(same(before, after) && same(after, before)) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        object::metadata(new).insert("generation".into(), json!(generation));
    }
}

impl Api {
    /// Defaults, counts, validates and admits. `old` is what it replaces.
    pub fn finish(
        &self,
        target: Target<'_>,
        old: Option<&Value>,
        new: &mut Value,
        context: &mut Context,
    ) -> Result<()> {
        let Target { kind, subresource, .. } = target;
        default::drop_nulls(kind.schema(), new);
        default::apply(kind.schema(), new);
        if !kind.custom {
            builtin::defaults::apply(kind, new, old);
            builtin::plugins::complete(self, target, old, new)?;
        }
        if let Some(old) = old {
            count(kind, old, new);
        }
        let mut causes = metadata::validate(kind, new, old);
        causes.extend(validate::validate(kind.schema(), new, old));
        if !kind.custom {
            causes.extend(builtin::rules::validate(kind, new, old));
        }
        if kind.storage == crd::STORAGE && subresource.is_empty() {
            causes.extend(crd::validate(new, old));
        }
        if subresource == "status" {
            // What is not through this door was accepted before.
            causes.retain(|cause: &Cause| cause.field.starts_with("status") || cause.field == "<nil>");
        }
        if !causes.is_empty() {
            return Err(Status::invalid(&kind.group, &kind.kind, object::name(new), &causes));
        }
        self.forbid_escalation(&context.user, target, old, new)?;
        builtin::plugins::admit(self, target, old, new, context)?;
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        admission::admit(self, target, operation, Some(new), old, context)
    }
}

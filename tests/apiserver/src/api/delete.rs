//! Deletion: at once, or when nothing holds the object any more.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/>,
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Context, Target};
use crate::{
    admission, clock, convert, object,
    registry::Kind,
    selectors::Selector,
    status::{Result, Status},
    store::Entry,
};

pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<String>,
    pub grace_seconds: Option<i64>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// From the body of a DELETE; the query can say the same.
    pub fn parse(body: &Value) -> Result<Self> {
        if !body.is_null() && !body["kind"].is_null() && body["kind"] != "DeleteOptions" {
            return Err(Status::bad_request("the body of a delete request must be DeleteOptions"));
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let propagation = match (&body["propagationPolicy"], body["orphanDependents"].as_bool()) {
            (Value::String(policy), _) => Some(policy.clone()),
            (_, Some(true)) => Some("Orphan".into()),
            (_, Some(false)) => Some("Background".into()),
            _ => None,
        };
        Ok(Self {
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            propagation,
            grace_seconds: body["gracePeriodSeconds"].as_i64(),
            dry_run: body["dryRun"].as_array().is_some_and(|list| list.contains(&json!("All"))),
        })
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Deleted {
    Gone(Arc<Entry>),
    /// It has a deletion time and waits for its finalizers, its grace period or its contents.
    Waiting(Arc<Entry>),
}

/// Whether an object that is being deleted may go.
pub fn nothing_holds(kind: &Kind, object: &Value) -> bool {
    let contents =
        kind.storage == "/namespaces" && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let grace = kind.storage == "/pods" && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    object::finalizers(object).is_empty() && !contents && !grace
}

impl Api {
    pub fn delete(&self, target: Target<'_>, options: &DeleteOptions, context: &mut Context) -> Result<Deleted> {
        let kind = target.kind;
        if let Some(policy) =
            options.propagation.as_deref().filter(|policy| !matches!(*policy, "Orphan" | "Background" | "Foreground"))
        {
            let why = format!(
                "propagationPolicy: Invalid value: {policy:?}: valid values are \"Background\", \"Foreground\", \"Orphan\""
            );
            return Err(Status::unprocessable(format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}")));
        }
        loop {
            let entry = self.get(target)?;
            let live = &entry.value;
            preconditions(target, &entry, options)?;
            if kind.storage == "/namespaces" && matches!(target.name, "default" | "kube-system" | "kube-public") {
                return Err(Status::forbidden("", "namespaces", target.name, "this namespace may not be deleted"));
            }
            admission::admit(self, target, "DELETE", None, Some(live), context)?;
            let mut next = live.clone();
            mark(kind, &mut next, options);
            let gone = nothing_holds(kind, &next);
            if options.dry_run || context.dry_run {
                return Ok(if gone { Deleted::Gone(entry) } else { Deleted::Waiting(entry) });
            }
            if next == *live {
                return Ok(Deleted::Waiting(entry));
            }
            if let Ok(done) = self.keep(target, Some(entry.revision), next, gone) {
                return Ok(if gone { Deleted::Gone(done) } else { Deleted::Waiting(done) });
            }
        }
    }

    /// Deletes what matches, one by one, and returns what was there.
    pub fn delete_collection(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
        options: &DeleteOptions,
        context: &mut Context,
    ) -> Result<Vec<Arc<Entry>>> {
        let page = self.store.collection(&kind.storage).list(&self.store, namespace);
        let mut gone = Vec::new();
        for (key, entry) in page.items {
            if !selector.matches(&convert::value(kind, &entry)) {
                continue;
            }
            let target = Target { kind, namespace: &key.0, name: &key.1, subresource: "" };
            match self.delete(target, options, context) {
                Err(error) if error.reason != "NotFound" => return Err(error),
                _ => gone.push(entry),
            }
        }
        Ok(gone)
    }
}

fn preconditions(target: Target<'_>, entry: &Entry, options: &DeleteOptions) -> Result<()> {
    let conflict = |why: String| Status::conflict(&target.kind.group, &target.kind.plural, target.name, &why);
    let (uid, version) = (object::uid(&entry.value), entry.revision.to_string());
    if let Some(wanted) = options.uid.as_ref().filter(|wanted| *wanted != uid) {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
        return Err(conflict(why));
    }
    if let Some(wanted) = options.resource_version.as_ref().filter(|wanted| **wanted != version) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
        );
        return Err(conflict(why));
    }
    Ok(())
}

/// Gives the object its deletion time, its grace and the finalizers of the garbage collector.
fn mark(kind: &Kind, object: &mut Value, options: &DeleteOptions) {
    let grace = if kind.storage == "/pods" { pod_grace(object, options) } else { 0 };
    let first = !object::deleting(object);
    let mut finalizers: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
    if let Some(policy) = &options.propagation {
        finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
        match policy.as_str() {
            "Orphan" => finalizers.push(ORPHAN.into()),
            "Foreground" => finalizers.push(FOREGROUND.into()),
            _ => {}
        }
    }
    if kind.storage == "/namespaces" {
        object["status"]["phase"] = json!("Terminating");
    }
    let metadata = object::metadata(object);
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
    if first {
        metadata.insert("deletionTimestamp".into(), json!(clock::stamp()));
        metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".into(), json!(generation + 1));
        }
    } else if metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|before| grace < before) {
        // Asking again can only shorten the grace.
        metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
    }
}

/// A pod that runs on a node gets its grace, and the node deletes it for good; any other goes at once.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || finished {
        return 0;
    }
    options.grace_seconds.or(pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).max(0)
}

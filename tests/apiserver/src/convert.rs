//! One object, several versions: what is kept in one `apiVersion` is shown in the one asked for.
//!
//! Custom kinds convert by their name only (`strategy: None`); events are one thing with two shapes, `v1` and
//! `events.k8s.io/v1`, and are kept as `v1`.

use serde_json::{Value, json};

use crate::{object, registry::Kind, store::Entry};

const EVENTS: &str = "/events";
/// `events.k8s.io/v1` field, `v1` field.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Whether `kind` shows an entry as it is kept.
pub fn is_stored_form(kind: &Kind, entry: &Entry) -> bool {
    entry.value["apiVersion"].as_str().is_some_and(|kept| {
        kept == kind.version && kind.group.is_empty()
            || kept.strip_suffix(&kind.version).is_some_and(|group| group.strip_suffix('/') == Some(&*kind.group))
    })
}

/// The object in the version of `kind`.
pub fn value(kind: &Kind, entry: &Entry) -> Value {
    let mut value = entry.value.clone();
    if !is_stored_form(kind, entry) {
        object::map(&mut value).insert("apiVersion".into(), json!(kind.api_version()));
        if kind.group == "events.k8s.io" {
            rename(&mut value, |(new, core)| (core, new));
        }
    }
    value
}

/// From the version of `kind` to the one that is kept.
pub fn to_storage(kind: &Kind, value: &mut Value) {
    if value["apiVersion"] != kind.stored_as.as_str() {
        object::map(value).insert("apiVersion".into(), json!(kind.stored_as));
        if kind.group == "events.k8s.io" {
            rename(value, |names| names);
        }
    }
    if kind.storage == EVENTS {
        // Kubernetes writes them without a value too, and `kubectl get events --sort-by=.lastTimestamp` needs them there.
        for field in ["firstTimestamp", "lastTimestamp"] {
            object::map(value).entry(field).or_insert(Value::Null);
        }
    }
}

fn rename(value: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    for names in EVENT_FIELDS {
        let (from, to) = direction(names);
        if let Some(moved) = object::remove(value, from) {
            object::map(value).insert(to.into(), moved);
        }
    }
}

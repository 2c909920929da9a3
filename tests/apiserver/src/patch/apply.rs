//! Server-side apply.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use serde_json::Value;

use super::{
    fields::{self, FieldSet, leaves},
    ownership::{self, Manager},
};
use crate::{
    object,
    registry::Kind,
    schema::{ListType, Schema},
    status::{Result, Status},
};

/// The live object (if there is one) after `manager` applied `config`.
pub fn apply(kind: &Kind, live: Option<&Value>, config: &Value, manager: &Manager, force: bool) -> Result<Value> {
    let schema = kind.schema();
    let mut owned = live.map(ownership::read).unwrap_or_default();
    let mut wanted = leaves(schema, config);
    wanted.retain(|path, _| ownership::through_door(kind, &manager.subresource, path));
    let set = FieldSet::of(&wanted);
    let previous = ownership::of(&owned, manager).map(|entry| entry.fields.clone()).unwrap_or_default();

    let current = live.map(|live| leaves(schema, live)).unwrap_or_default();
    let differs = |path: &fields::Path| wanted.get(path) != current.get(path);
    let mut conflicts = Vec::new();
    for entry in &mut owned {
        if ownership::of(std::slice::from_ref(entry), manager).is_some() {
            continue;
        }
        let contested: Vec<_> = entry.fields.0.intersection(&set.0).filter(|path| differs(path)).cloned().collect();
        let described = entry.describe();
        for path in contested {
            conflicts.push((described.clone(), fields::show(&path)));
            entry.fields.0.remove(&path);
        }
    }
    // kubectl's client-side apply wrote down what it applied; its server-side apply may take just that over.
    if let Some(applied) = live.filter(|_| manager.name == "kubectl").and_then(last_applied) {
        let mine: Vec<String> = leaves(schema, &applied).keys().map(|path| fields::show(path)).collect();
        if conflicts.iter().all(|(_, field)| mine.contains(field)) {
            conflicts.clear();
        }
    }
    if !conflicts.is_empty() && !force {
        conflicts.sort();
        return Err(Status::apply_conflict(&conflicts));
    }

    let mut merged = live.cloned().unwrap_or_else(|| config.clone());
    if live.is_some() {
        merge_door(kind, &manager.subresource, &mut merged, config);
    }
    // What this manager no longer says, and nobody else says, goes. An item goes whole before its
    // fields could go one by one: without its key it would not be found any more.
    let others = || owned.iter().filter(|entry| ownership::of(std::slice::from_ref(*entry), manager).is_none());
    for path in previous.0.difference(&set.0) {
        // With the outermost struct on the way of which nobody says anything any more goes what defaults put into it.
        let gone = (1..=path.len()).filter_map(|depth| path.get(..depth)).find(|part| {
            let named = part.len() == path.len() || matches!(part.last(), Some(fields::Step::Field(_)));
            let said = |set: &FieldSet| set.0.range(part.to_vec()..).next().is_some_and(|next| next.starts_with(part));
            named && !said(&set) && !others().any(|entry| said(&entry.fields))
        });
        if let Some(part) = gone {
            fields::remove(Some(schema), &mut merged, part);
        }
    }
    ownership::set(&mut owned, manager, set, false);
    ownership::write(&mut merged, &owned);
    Ok(merged)
}

fn last_applied(live: &Value) -> Option<Value> {
    let text = live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str()?;
    serde_json::from_str(text).ok()
}

/// Merges what the door lets through.
fn merge_door(kind: &Kind, subresource: &str, live: &mut Value, config: &Value) {
    let schema = kind.schema();
    for (name, value) in config.as_object().into_iter().flatten() {
        let field = schema.field(name).map(AsRef::as_ref);
        match (name.as_str(), subresource) {
            ("status", "status") => merge(field, object::map(live).entry("status").or_insert(Value::Null), value),
            ("apiVersion" | "kind", _) | (_, "status") => {}
            ("status", _) if kind.status => {}
            ("metadata", _) => {
                let mut metadata = value.clone();
                for server_set in ["managedFields", "uid", "creationTimestamp", "resourceVersion", "generation"] {
                    object::remove(&mut metadata, server_set);
                }
                merge(field, object::map(live).entry("metadata").or_insert(Value::Null), &metadata);
            }
            _ => merge(field, object::map(live).entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

/// Field by field, item by item where the list has keys, whole where it has none.
fn merge(schema: Option<&Schema>, live: &mut Value, config: &Value) {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !schema.is_some_and(|schema| schema.atomic) => {
            for (name, value) in config {
                let field = schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref);
                match live.get_mut(name) {
                    Some(child) => merge(field, child, value),
                    None => {
                        live.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(config)) if schema.is_some_and(|schema| schema.list != ListType::Atomic) => {
            let Some(schema) = schema else { return };
            for item in config {
                let found = live.iter().position(|other| schema.same_item(std::slice::from_ref(other), item).is_some());
                match found {
                    Some(index) => merge(schema.items.as_deref(), &mut live[index], item),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, config) => *live = config.clone(),
    }
}

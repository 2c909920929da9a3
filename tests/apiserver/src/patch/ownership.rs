//! `metadata.managedFields`: who last said what.

use serde_json::{Value, json};

use super::fields::{FieldSet, Leaves, Path, Step, leaves};
use crate::{clock, object, registry::Kind};

/// Who writes, by which door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub name: String,
    pub apply: bool,
    pub api_version: String,
    pub subresource: String,
}

impl Manager {
    fn operation(&self) -> &'static str {
        if self.apply { "Apply" } else { "Update" }
    }

    /// Apply's sets belong to a name whatever the version; an update's belong to a version too.
    fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.apply == other.apply
            && self.subresource == other.subresource
            && (self.apply || self.api_version == other.api_version)
    }
}

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
pub struct Owned {
    pub manager: Manager,
    pub time: String,
    pub fields: FieldSet,
}

impl Owned {
    /// As conflicts name a manager: `"kubectl-edit" using v1 at 2026-01-01T00:00:00Z`.
    pub fn describe(&self) -> String {
        let Manager { name, subresource, api_version, apply } = &self.manager;
        let door = if subresource.is_empty() { String::new() } else { format!(" with subresource {subresource:?}") };
        let when = if *apply { String::new() } else { format!(" using {api_version} at {}", self.time) };
        format!("{name:?}{door}{when}")
    }
}

pub fn read(object: &Value) -> Vec<Owned> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    entries
        .map(|entry| Owned {
            manager: Manager {
                name: text(entry, "manager"),
                apply: entry["operation"] == "Apply",
                api_version: text(entry, "apiVersion"),
                subresource: text(entry, "subresource"),
            },
            time: text(entry, "time"),
            fields: FieldSet::from_json(&entry["fieldsV1"]),
        })
        .collect()
}

pub fn write(object: &mut Value, owned: &[Owned]) {
    let entries: Vec<Value> = owned
        .iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(|entry| {
            let manager = &entry.manager;
            let mut json = json!({
                "manager": manager.name, "operation": manager.operation(), "apiVersion": manager.api_version,
                "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_json(),
            });
            if !manager.subresource.is_empty() {
                json["subresource"] = json!(manager.subresource);
            }
            json
        })
        .collect();
    let metadata = object::metadata(object);
    if entries.is_empty() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), Value::Array(entries));
    }
}

/// Puts the manager's new set in place of its old one; the time moves only when the set does.
pub fn set(owned: &mut Vec<Owned>, manager: &Manager, fields: FieldSet, changed: bool) {
    match owned.iter_mut().find(|entry| entry.manager.same(manager)) {
        Some(entry) => {
            if entry.fields != fields || changed {
                entry.time = clock::stamp();
            }
            entry.fields = fields;
            entry.manager.api_version.clone_from(&manager.api_version);
        }
        None => owned.push(Owned { manager: manager.clone(), time: clock::stamp(), fields }),
    }
}

pub fn of<'a>(owned: &'a [Owned], manager: &Manager) -> Option<&'a Owned> {
    owned.iter().find(|entry| entry.manager.same(manager))
}

/// Only what this door may write: the status door owns status, the main door everything else.
pub fn through_door(kind: &Kind, subresource: &str, path: &Path) -> bool {
    let status = matches!(path.first(), Some(Step::Field(name)) if name == "status");
    if subresource == "status" { status } else { !(kind.status && status) }
}

/// After a create, update or patch: what changed now belongs to `manager`, what is gone belongs to nobody.
pub fn track(kind: &Kind, old: Option<&Value>, new: &mut Value, manager: &Manager) {
    // A client may edit the list (kubectl moves owners over to server-side apply that way); one that sends none, because
    // it does not know of it, does not thereby forget it. `[{}]` is the documented way to forget.
    let stated =
        new["metadata"]["managedFields"].as_array().filter(|list| !list.is_empty() && manager.subresource.is_empty());
    let mut owned = match stated {
        Some(list) if list.iter().all(|entry| entry == &json!({})) => Vec::new(),
        Some(_) => read(new),
        None => old.map(read).unwrap_or_default(),
    };
    let schema = kind.schema();
    let nothing = Leaves::new();
    let before = old.map_or(nothing, |old| leaves(schema, old));
    let after = leaves(schema, new);
    let changed: Vec<&Path> =
        after.iter().filter(|(path, value)| before.get(*path) != Some(value)).map(|(path, _)| path).collect();
    let gone: Vec<&Path> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    if !changed.is_empty() || !gone.is_empty() {
        let mut mine = of(&owned, manager).map(|entry| entry.fields.clone()).unwrap_or_default();
        for path in changed.iter().chain(&gone) {
            mine.0.remove(*path);
            for entry in &mut owned {
                // An item that is still there goes on belonging to whoever put it there too.
                entry.fields.0.remove(*path);
            }
        }
        mine.0.extend(changed.into_iter().filter(|path| through_door(kind, &manager.subresource, path)).cloned());
        set(&mut owned, manager, mine, true);
    }
    write(new, &owned);
}

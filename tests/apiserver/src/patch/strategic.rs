//! Strategic merge patch: a merge patch that knows that some lists are maps, for built-in kinds only.
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value};

use crate::{
    schema::{ListType, Schema},
    status::{Result, Status},
};

const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

pub fn merge(schema: Option<&Schema>, live: &mut Value, patch: &Value) -> Result<()> {
    let Value::Object(changes) = patch else {
        *live = patch.clone();
        return Ok(());
    };
    match changes.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *live = Value::Object(without_directives(changes));
            return Ok(());
        }
        Some("delete") => {
            *live = Value::Null;
            return Ok(());
        }
        _ => {}
    }
    let object = crate::object::map(live);
    if let Some(kept) = changes.get(RETAIN).and_then(Value::as_array) {
        object.retain(|name, _| kept.iter().any(|keep| keep == name));
    }
    for (name, change) in changes {
        if let Some(name) = name.strip_prefix(DELETE_FROM) {
            if let (Some(list), Some(gone)) = (object.get_mut(name).and_then(Value::as_array_mut), change.as_array()) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        let field = schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref);
        match change {
            Value::Null => {
                object.shift_remove(name);
            }
            Value::Object(_) => {
                let child = object.entry(name.clone()).or_insert(Value::Null);
                merge(field, child, change)?;
                if child.is_null() {
                    object.shift_remove(name);
                }
            }
            Value::Array(items) => {
                let live = object.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                merge_list(field, name, live, items)?;
            }
            scalar => {
                object.insert(name.clone(), scalar.clone());
            }
        }
    }
    for (name, order) in changes {
        if let Some(name) = name.strip_prefix(ORDER)
            && let (Some(list), Some(order)) = (object.get_mut(name).and_then(Value::as_array_mut), order.as_array())
        {
            let key = schema.and_then(|schema| schema.field(name)).and_then(|field| field.merge_key.as_deref());
            // What the order does not name keeps its place among itself, after what it names.
            list.sort_by_key(|item| order.iter().position(|wanted| same(key, item, wanted)).unwrap_or(order.len()));
        }
    }
    Ok(())
}

fn same(key: Option<&str>, one: &Value, other: &Value) -> bool {
    key.map_or_else(|| one == other, |key| !one[key].is_null() && one[key] == other[key])
}

fn without_directives(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter().filter(|(name, _)| !name.starts_with('$')).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn merge_list(field: Option<&Schema>, name: &str, live: &mut Value, patch: &[Value]) -> Result<()> {
    let Some(list) = live.as_array_mut() else {
        *live = Value::Array(patch.to_vec());
        return Ok(());
    };
    let Some(field) = field else {
        *list = patch.to_vec();
        return Ok(());
    };
    let Some(key) = field.merge_key.as_deref() else {
        match field.list {
            ListType::Set => patch.iter().for_each(|item| {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }),
            _ => {
                *list = patch.iter().filter(|item| item["$patch"] != "replace" || !item.is_object()).cloned().collect();
            }
        }
        return Ok(());
    };
    if patch.iter().any(|item| item["$patch"] == "replace") {
        list.clear();
    }
    for item in patch {
        if item["$patch"] == "replace" {
            continue;
        }
        if item.get(key).is_none_or(Value::is_null) {
            let message = format!("map: {item} does not contain declared merge key: {key} (in {name})");
            return Err(Status::bad_request(message));
        }
        if item["$patch"] == "delete" {
            list.retain(|live| !same(Some(key), live, item));
        } else if let Some(live) = list.iter_mut().find(|live| same(Some(key), live, item)) {
            merge(field.items.as_deref(), live, item)?;
        } else {
            let mut fresh = Value::Object(Map::new());
            merge(field.items.as_deref(), &mut fresh, item)?;
            list.push(fresh);
        }
    }
    Ok(())
}

//! `meta.k8s.io/v1` Tables: what `kubectl get` prints.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns;
use crate::{clock, object, registry::Kind};

/// A table of the objects; `include` is how much of each object a row carries.
pub fn of(kind: &Kind, objects: &[&Value], include: Option<&str>, with_columns: bool) -> Value {
    let mut table = rows(kind, objects, include.unwrap_or_default());
    if let [only] = objects {
        table["metadata"] = json!({ "resourceVersion": only["metadata"]["resourceVersion"] });
    }
    if !with_columns {
        table["columnDefinitions"] = json!([]);
    }
    table
}

pub fn rows(kind: &Kind, objects: &[&Value], include: &str) -> Value {
    let columns = columns::of(kind);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|value| {
            let cells: Vec<Value> = columns.iter().map(|column| column.cell(value)).collect();
            let mut row = json!({ "cells": cells });
            match include {
                "None" => {}
                "Object" => row["object"] = (*value).clone(),
                _ => row["object"] = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"] }),
            }
            row
        })
        .collect();
    json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": definitions, "rows": rows })
}

/// `35s`, `4m12s`, `3h`, `12d`: as kubectl shows ages.
pub fn age(timestamp: &Value) -> String {
    let Some(since) = timestamp.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "<unknown>".into();
    };
    duration(clock::now().as_second() - since.as_second())
}

pub fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{small}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

/// Shown as a cell: nothing stays nothing, a list or an object becomes JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

/// `a=b,c=d`.
pub fn labels(map: &Value) -> String {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

/// `2/3`.
pub fn ratio(object: &Value, ready: &str, wanted: &str) -> Value {
    let number = |path: &str| object::at(object, path).as_i64().unwrap_or(0);
    json!(format!("{}/{}", number(ready), number(wanted)))
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn ages_are_told_as_kubectl_tells_them() {
        for (seconds, told) in [
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3_599, "59m"),
            (11_100, "3h5m"),
            (90_000, "25h"),
            (190_000, "2d4h"),
            (864_000, "10d"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(duration(seconds), told, "{seconds}");
        }
    }
}

//! The schemas are structural, described, bounded, and agree with their own defaults and examples.

use regex::Regex;
use serde_json::Value;

use crate::{
    cost,
    kind::{Kind, all},
};

/// A place in a schema.
struct Place<'a> {
    path: String,
    schema: &'a Value,
    /// How often it may occur in one object, by the bounds of the lists and maps around it.
    times: u64,
    /// Whether the type is Kubernetes' own, which is not ours to describe or bound.
    foreign: bool,
}

fn places(kind: &Kind) -> Vec<Place<'_>> {
    let mut found = Vec::new();
    walk(Place { path: kind.name.clone(), schema: &kind.schema, times: 1, foreign: false }, &mut found);
    found
}

fn walk<'a>(place: Place<'a>, found: &mut Vec<Place<'a>>) {
    const FOREIGN: [&str; 7] =
        ["affinity", "behavior", "resources", "tolerations", "topologySpreadConstraints", "extraEnv", "conditions"];
    let Place { path, schema, times, foreign } = &place;
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let foreign = *foreign || FOREIGN.contains(&name.as_str());
        walk(Place { path: format!("{path}.{name}"), schema: field, times: *times, foreign }, found);
    }
    for (below, mark, bound) in [("items", "[]", "maxItems"), ("additionalProperties", ".*", "maxProperties")] {
        if schema[below].is_object() {
            let times = times.saturating_mul(schema[bound].as_u64().unwrap_or(u64::from(u32::MAX)));
            walk(Place { path: format!("{path}{mark}"), schema: &schema[below], times, foreign: *foreign }, found);
        }
    }
    found.push(place);
}

fn of_all(check: impl Fn(&Place<'_>) -> Option<String>) {
    let kinds = all();
    let wrong: Vec<_> =
        kinds.iter().flat_map(places).filter_map(|place| Some(format!("{}: {}", place.path, check(&place)?))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_field_is_described() {
    of_all(|place| {
        let described = place.schema["description"].as_str().is_some_and(|text| !text.is_empty());
        let within = place.path.ends_with("[]") || place.path.ends_with(".*");
        (!described && !within).then(|| "has no description for kubectl explain".to_owned())
    });
}

/// The rules of structural schemas, and the warnings that `kubectl apply` would print.
#[test]
fn every_schema_is_structural() {
    const FORMATS: [&str; 5] = ["int32", "int64", "double", "date-time", "byte"];
    of_all(|place| {
        let schema = place.schema;
        for word in
            ["$ref", "definitions", "nullable", "title", "uniqueItems", "oneOf", "anyOf", "allOf", "not", "const"]
        {
            if !schema[word].is_null() {
                return Some(format!("has {word}"));
            }
        }
        let free =
            schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true;
        if schema["type"].is_null() != free {
            return Some("has no type, or one beside int-or-string".to_owned());
        }
        if schema["type"] == "array" && !schema["items"].is_object() {
            return Some("is a list of nothing".to_owned());
        }
        if schema["properties"].is_object() && !schema["additionalProperties"].is_null() {
            return Some("has both properties and additionalProperties".to_owned());
        }
        schema["format"]
            .as_str()
            .filter(|format| !FORMATS.contains(format))
            .map(|format| format!("has the format {format}"))
    });
}

/// Without bounds the API server refuses a definition whose rules might cost too much.
#[test]
fn everything_that_a_person_writes_is_bounded() {
    of_all(|place| {
        let schema = place.schema;
        if place.foreign || !place.path.contains(".spec") {
            // A list of foreign things is ours, and so is its bound.
            let list =
                schema["type"] == "array" && place.path.matches('.').count() == 2 && place.path.contains(".spec");
            return (list && schema["maxItems"].is_null()).then(|| "has no maxItems".to_owned());
        }
        let missing = match schema["type"].as_str() {
            Some("string") => schema["maxLength"].is_null() && schema["enum"].is_null() && schema["format"].is_null(),
            Some("array") => schema["maxItems"].is_null(),
            Some("object") => schema["additionalProperties"].is_object() && schema["maxProperties"].is_null(),
            _ => false,
        };
        let strings_of_maps = place.path.ends_with(".*") && schema["type"] == "string";
        (missing && !strings_of_maps).then(|| "has no upper bound".to_owned())
    });
}

/// A definition over the limit is refused as a whole; a rule keeps a quarter of its own, so that a bound can be raised later.
#[test]
fn what_rules_may_cost_stays_far_below_the_limit() {
    for kind in all() {
        let costs = costs(&kind);
        for (place, rule, cost) in &costs {
            assert!(*cost < cost::RULE_LIMIT / 4, "{place} may cost {cost}: {rule}");
        }
        let sum = costs.iter().fold(0_u64, |sum, (_, _, cost)| sum.saturating_add(*cost));
        assert!(sum < cost::DEFINITION_LIMIT / 10, "{} may cost {sum}", kind.name);
    }
}

/// Place, rule and cost, of each rule of a kind.
fn costs(kind: &Kind) -> Vec<(String, String, u64)> {
    let mut costs = Vec::new();
    for place in places(kind) {
        for rule in place.schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let rule = rule["rule"].as_str().unwrap();
            let cost = place.times.saturating_mul(cost::of(rule, place.schema));
            costs.push((place.path.clone(), rule.to_owned(), cost));
        }
    }
    costs
}

#[test]
fn every_rule_can_be_read() {
    for kind in all() {
        assert!(!kube_cel::compile_schema(&kind.schema).has_errors(), "{}", kind.name);
    }
}

#[test]
fn defaults_and_examples_agree_with_the_schema() {
    of_all(|place| {
        let default = &place.schema["default"];
        let wrong = (!default.is_null()).then(|| refusals(place.schema, default))?;
        (!wrong.is_empty()).then(|| format!("the default {wrong:?}"))
    });
    for kind in all() {
        let example = kind.example();
        assert_eq!(refusals(&kind.schema["properties"]["spec"], &example["spec"]), [""; 0], "{}", kind.name);
    }
}

/// Why a value does not fit a schema: the part of JSON Schema that the kinds use.
fn refusals(schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    check("", schema, value, &mut wrong);
    wrong
}

fn check(path: &str, schema: &Value, value: &Value, wrong: &mut Vec<String>) {
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{path}: {value} is refused by {what}"));
        }
    };
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => value.is_string() || value.is_number(),
    };
    expect(fits, "type");
    expect(schema["enum"].as_array().is_none_or(|values| values.contains(value)), "enum");
    let at_most = |bound: &str, found: Option<usize>| {
        schema[bound].as_u64().is_none_or(|bound| found.is_none_or(|found| found as u64 <= bound))
    };
    let at_least = |bound: &str, found: Option<usize>| {
        schema[bound].as_u64().is_none_or(|bound| found.is_none_or(|found| found as u64 >= bound))
    };
    let length = value.as_str().map(|text| text.chars().count());
    let items = value.as_array().map(Vec::len);
    let properties = value.as_object().map(serde_json::Map::len);
    expect(at_most("maxLength", length) && at_least("minLength", length), "length");
    expect(at_most("maxItems", items) && at_least("minItems", items), "items");
    expect(at_most("maxProperties", properties) && at_least("minProperties", properties), "properties");
    let number = value.as_f64();
    expect(schema["minimum"].as_f64().zip(number).is_none_or(|(bound, number)| number >= bound), "minimum");
    expect(schema["maximum"].as_f64().zip(number).is_none_or(|(bound, number)| number <= bound), "maximum");
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
        expect(Regex::new(pattern).unwrap().is_match(text), pattern);
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        expect(value.get(name).is_some(), &format!("required {name}"));
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            Some(schema) => check(&format!("{path}.{name}"), schema, field, wrong),
            None => wrong.push(format!("{path}.{name}: no such field")),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(&format!("{path}[]"), &schema["items"], item, wrong);
    }
}

#[test]
fn people_find_their_way_with_columns_names_and_selectors() {
    for crd in crds::all_crds() {
        let version = &crd.spec.versions[0];
        let columns = version.additional_printer_columns.as_deref().unwrap();
        let narrow: Vec<_> =
            columns.iter().filter(|column| column.priority.is_none()).map(|column| column.name.as_str()).collect();
        let wanted: &[&str] = match crd.spec.names.kind.as_str() {
            "Platform" => &["Ready", "Reason", "Rollout", "Age"],
            _ => &["Ready", "Reason", "Age"],
        };
        assert_eq!(&narrow[2..], wanted, "{}", crd.spec.names.kind);
        assert!(columns.iter().any(|column| column.name == "Message" && column.priority == Some(1)));
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["tenantry".to_owned()][..]));
        assert!(version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()));
    }
    let short_names = crds::all_crds().into_iter().flat_map(|crd| crd.spec.names.short_names.unwrap());
    assert_eq!(short_names.collect::<Vec<_>>(), ["tplat", "ptn", "trb", "payp", "trl"]);
    let platform = crds::definition::<crds::Platform>().spec.versions.remove(0);
    let scale = platform.subresources.unwrap().scale.unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.replicas");
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
    let bindings = crds::definition::<crds::RoleBinding>().spec.versions.remove(0);
    let selectable = bindings.selectable_fields.unwrap();
    assert!(selectable.iter().any(|field| field.json_path == ".spec.tenantRef.name"));
}

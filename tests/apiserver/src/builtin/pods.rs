//! What a pod's spec must keep to, in a pod or in a template of one.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>

use std::collections::HashSet;

use serde_json::Value;

use crate::{metadata, status::Cause};

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    value[field].as_array().into_iter().flatten().enumerate()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn unsupported(field: String, given: &str, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    let message = format!("Unsupported value: {given:?}: supported values: {}", supported.join(", "));
    Cause { field, reason: "FieldValueNotSupported", message }
}

pub fn duplicate(field: String, value: &str) -> Cause {
    Cause { field, reason: "FieldValueDuplicate", message: format!("Duplicate value: {value:?}") }
}

fn not_found(field: String, value: &str) -> Cause {
    Cause { field, reason: "FieldValueNotFound", message: format!("Not found: {value:?}") }
}

/// A template's labels and annotations are an object's.
pub fn template(path: &str, template: &Value, causes: &mut Vec<Cause>) {
    causes.extend(metadata::labels(&format!("{path}.metadata.labels"), &template["metadata"]["labels"]));
    if template["spec"].is_object() {
        spec(&format!("{path}.spec"), &template["spec"], causes);
    }
}

pub fn spec(path: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let mut volumes = HashSet::new();
    for (index, volume) in items(spec, "volumes") {
        let (name, field) = (text(volume, "name"), format!("{path}.volumes[{index}]"));
        causes.extend(metadata::label_name(&format!("{field}.name"), name));
        if !volumes.insert(name) {
            causes.push(duplicate(format!("{field}.name"), name));
        }
        match volume.as_object().map_or(0, |volume| volume.len().saturating_sub(1)) {
            0 => causes.push(Cause::required(field, "must specify a volume type")),
            1 => {}
            _ => causes.push(Cause::forbidden(field, "may not specify more than 1 volume type")),
        }
    }
    for claim in items(spec, "volumeClaimTemplates").map(|(_, claim)| claim) {
        volumes.insert(text(&claim["metadata"], "name"));
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list) {
            let field = format!("{path}.{list}[{index}]");
            let name = text(container, "name");
            if !names.insert(name) {
                causes.push(duplicate(format!("{field}.name"), name));
            }
            self::container(&field, container, &volumes, causes);
        }
    }
    for (field, most) in [("hostname", 63), ("subdomain", 63)] {
        if text(spec, field).len() > most {
            let why = format!("must be no more than {most} characters");
            causes.push(Cause::invalid(format!("{path}.{field}"), &spec[field].to_string(), &why));
        }
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        let value = spec["terminationGracePeriodSeconds"].to_string();
        let field = format!("{path}.terminationGracePeriodSeconds");
        causes.push(Cause::invalid(field, &value, "must be greater than or equal to 0"));
    }
    spread(path, spec, causes);
}

fn spread(path: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let mut known = HashSet::new();
    for (index, constraint) in items(spec, "topologySpreadConstraints") {
        let field = format!("{path}.topologySpreadConstraints[{index}]");
        if constraint["maxSkew"].as_i64().is_none_or(|skew| skew < 1) {
            let value = constraint["maxSkew"].to_string();
            causes.push(Cause::invalid(format!("{field}.maxSkew"), &value, "must be greater than zero"));
        }
        let (key, when) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            causes.push(Cause::required(format!("{field}.topologyKey"), "can not be empty"));
        }
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            let field = format!("{field}.whenUnsatisfiable");
            causes.push(unsupported(field, when, &["DoNotSchedule", "ScheduleAnyway"]));
        }
        if !known.insert((key, when)) {
            causes
                .push(duplicate(format!("{field}.{{topologyKey, whenUnsatisfiable}}"), &format!("{{{key}, {when}}}")));
        }
    }
}

fn container(path: &str, container: &Value, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    causes.extend(metadata::label_name(&format!("{path}.name"), text(container, "name")));
    let image = text(container, "image");
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        causes.push(Cause::invalid(format!("{path}.image"), &format!("{image:?}"), why));
    }
    let pull = text(container, "imagePullPolicy");
    if !pull.is_empty() && !matches!(pull, "Always" | "IfNotPresent" | "Never") {
        causes.push(unsupported(format!("{path}.imagePullPolicy"), pull, &["Always", "IfNotPresent", "Never"]));
    }
    let mut paths = HashSet::new();
    for (index, mount) in items(container, "volumeMounts") {
        let field = format!("{path}.volumeMounts[{index}]");
        let (name, mount) = (text(mount, "name"), text(mount, "mountPath"));
        if !volumes.contains(name) {
            causes.push(not_found(format!("{field}.name"), name));
        }
        if !paths.insert(mount) {
            causes.push(Cause::invalid(format!("{field}.mountPath"), &format!("{mount:?}"), "must be unique"));
        }
    }
    let mut ports = HashSet::new();
    for (index, port) in items(container, "ports") {
        let (field, name) = (format!("{path}.ports[{index}]"), text(port, "name"));
        causes.extend(port_name(&format!("{field}.name"), name));
        if !name.is_empty() && !ports.insert(name) {
            causes.push(duplicate(format!("{field}.name"), name));
        }
        if !port["containerPort"].as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
            let value = port["containerPort"].to_string();
            causes.push(Cause::invalid(
                format!("{field}.containerPort"),
                &value,
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
    for (index, variable) in items(container, "env") {
        let (field, name) = (format!("{path}.env[{index}]"), text(variable, "name"));
        if name.is_empty() {
            causes.push(Cause::required(format!("{field}.name"), ""));
        } else if !name.chars().all(|character| matches!(character, ' '..='~') && character != '=') {
            let why =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            causes.push(Cause::invalid(format!("{field}.name"), &format!("{name:?}"), why));
        }
        if variable["valueFrom"].is_object() && !text(variable, "value").is_empty() {
            let why = "may not be specified when `value` is not empty";
            causes.push(Cause::invalid(format!("{field}.valueFrom"), "\"\"", why));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        self::probe(&format!("{path}.{probe}"), &container[probe], probe != "readinessProbe", causes);
    }
    resources(&format!("{path}.resources"), &container["resources"], causes);
}

fn probe(path: &str, probe: &Value, once: bool, causes: &mut Vec<Cause>) {
    if !probe.is_object() {
        return;
    }
    let handlers =
        ["exec", "httpGet", "tcpSocket", "grpc"].iter().filter(|handler| probe[**handler].is_object()).count();
    match handlers {
        0 => causes.push(Cause::required(path.to_owned(), "must specify a handler type")),
        1 => {}
        _ => causes.push(Cause::forbidden(path.to_owned(), "may not specify more than 1 handler type")),
    }
    if once && probe["successThreshold"].as_i64().is_some_and(|times| times != 1) {
        let value = probe["successThreshold"].to_string();
        causes.push(Cause::invalid(format!("{path}.successThreshold"), &value, "must be 1"));
    }
}

/// `IANA_SVC_NAME`: at most 15 characters.
pub fn port_name(field: &str, name: &str) -> Option<Cause> {
    if name.is_empty() {
        return None;
    }
    let shown = format!("{name:?}");
    if name.len() > 15 {
        return Some(Cause::invalid(field, &shown, "must be no more than 15 characters"));
    }
    let plain = name.chars().all(|character| matches!(character, 'a'..='z' | '0'..='9' | '-'));
    let letter = name.chars().any(|character| character.is_ascii_lowercase());
    let hyphens = !name.starts_with('-') && !name.ends_with('-') && !name.contains("--");
    if plain && letter && hyphens {
        return None;
    }
    let why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter, and no hyphens at the ends or together";
    Some(Cause::invalid(field, &shown, why))
}

/// Nothing may ask for more than it is limited to.
fn resources(path: &str, resources: &Value, causes: &mut Vec<Cause>) {
    for list in ["limits", "requests"] {
        for (name, value) in resources[list].as_object().into_iter().flatten() {
            if amount(value).is_none() {
                let why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                causes.push(Cause::invalid(format!("{path}.{list}[{name}]"), &value.to_string(), why));
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name];
        if let (Some(asked), Some(most)) = (amount(request), amount(limit))
            && asked > most
        {
            let why = format!("must be less than or equal to {name} limit of {}", limit.as_str().unwrap_or_default());
            causes.push(Cause::invalid(format!("{path}.requests"), &request.to_string(), &why));
        }
    }
}

/// `resource.Quantity` as a number.
pub fn amount(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let split = text.find(|character: char| !matches!(character, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

//! What every kind's metadata must keep to: names, labels, annotations, owners, finalizers.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>,
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::{object, registry::Kind, status::Cause};

// One pattern each, with the sentence that Kubernetes says about it.
const SUBDOMAIN: (&str, &str) = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
);
const LABEL: (&str, &str) = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    r"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
);
const SERVICE: (&str, &str) = (
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
    r"a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
);
const LABEL_VALUE: (&str, &str) = (
    r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
    r"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
);
const QUALIFIED: (&str, &str) = (
    r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$",
    r"name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
);

fn is(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Vec<(&str, Option<Regex>)>> = LazyLock::new(|| {
        [SUBDOMAIN, LABEL, SERVICE, LABEL_VALUE, QUALIFIED]
            .into_iter()
            .map(|(pattern, _)| (pattern, Regex::new(pattern).ok()))
            .collect()
    });
    COMPILED
        .iter()
        .find(|(known, _)| *known == pattern)
        .and_then(|(_, regex)| regex.as_ref())
        .is_some_and(|regex| regex.is_match(text))
}

fn qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    name.len() <= 63
        && is(QUALIFIED.0, name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && is(SUBDOMAIN.0, prefix))
}

/// What is wrong with labels, of an object or of a template.
pub fn labels(path: &str, labels: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        if !qualified(key) {
            causes.push(Cause::invalid(path, &format!("{key:?}"), QUALIFIED.1));
        }
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            causes.push(Cause::invalid(path, &format!("{value:?}"), "must be no more than 63 characters"));
        } else if !is(LABEL_VALUE.0, value) {
            causes.push(Cause::invalid(path, &format!("{value:?}"), LABEL_VALUE.1));
        }
    }
    causes
}

/// A name that is part of a host name: of a container, a volume, a port of a Service.
pub fn label_name(field: &str, name: &str) -> Option<Cause> {
    let shown = format!("{name:?}");
    if name.is_empty() {
        Some(Cause::required(field, ""))
    } else if name.len() > 63 {
        Some(Cause::invalid(field, &shown, "must be no more than 63 characters"))
    } else {
        (!is(LABEL.0, name)).then(|| Cause::invalid(field, &shown, LABEL.1))
    }
}

/// What is wrong with the metadata of an object.
pub fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = object::name(object);
    if old.is_none() {
        let ((pattern, why), most) = match kind.storage.as_str() {
            "/namespaces" => (LABEL, 63),
            "/services" => (SERVICE, 63),
            // What it makes has names of eleven characters more.
            "batch/cronjobs" => (SUBDOMAIN, 52),
            _ => (SUBDOMAIN, 253),
        };
        let shown = format!("{name:?}");
        // RBAC names only have to fit into a path.
        if kind.group == "rbac.authorization.k8s.io" {
            if name.contains(['/', '%']) || matches!(name, "." | "..") {
                causes.push(Cause::invalid("metadata.name", &shown, "may not contain '/' or '%'"));
            }
        } else if name.len() > most {
            causes.push(Cause::invalid("metadata.name", &shown, &format!("must be no more than {most} characters")));
        } else if !is(pattern, name) {
            causes.push(Cause::invalid("metadata.name", &shown, why));
        }
    }
    let entries = |field: &str| object["metadata"][field].as_object().into_iter().flatten();
    causes.extend(labels("metadata.labels", &object["metadata"]["labels"]));
    for (key, _) in entries("annotations") {
        if !qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &format!("{key:?}"), QUALIFIED.1));
        }
    }
    let size: usize = entries("annotations").map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > 256 * 1024 {
        let message = "Too long: may not be more than 262144 bytes".into();
        causes.push(Cause { field: "metadata.annotations".into(), reason: "FieldValueTooLong", message });
    }
    for (index, owner) in object::owners(object).enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences[{index}].{field}"),
                    "\"\"",
                    &format!("{field} must not be empty"),
                ));
            }
        }
    }
    if object::owners(object).filter(|owner| owner["controller"] == true).count() > 1 {
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", "\"ownerReferences\"", why));
    }
    if let Some(old) = old.filter(|old| object::deleting(old)) {
        let known = object::finalizers(old);
        let fresh: Vec<String> = object::finalizers(object)
            .into_iter()
            .filter(|finalizer| !known.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !fresh.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                fresh.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    causes
}

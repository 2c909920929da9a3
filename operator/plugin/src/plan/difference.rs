//! Two documents compared, for people: section by section, entry by entry. Credentials are only ever shown as "sealed".

use std::collections::BTreeMap;

use contract::TenantConfig;
use serde::Serialize;
use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use crate::output::Paint;

/// A part of the document in which something differs.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    pub section: &'static str,
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The binding, provider or limit; none for what a tenant has once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub change: Kind,
    /// As a unified diff has them: a sign, then a line of YAML.
    pub lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// Lines around a change.
const CONTEXT: usize = 1;

pub fn sections(before: Option<&TenantConfig>, after: Option<&TenantConfig>) -> Vec<Section> {
    let (before, after) = (parts(before), parts(after));
    let mut sections = Vec::new();
    for (name, was) in &before {
        let none = BTreeMap::new();
        let will = after.get(name).unwrap_or(&none);
        sections.extend(section(name, was, will));
    }
    sections
}

type Entries = BTreeMap<Option<String>, Value>;

const SECTIONS: [&str; 6] = ["tenant", "auth", "quotas", "access", "providers", "limits"];

/// The document in sections; of lists, each entry by its name.
fn parts(config: Option<&TenantConfig>) -> BTreeMap<&'static str, Entries> {
    let mut parts: BTreeMap<_, Entries> = SECTIONS.iter().map(|name| (*name, BTreeMap::new())).collect();
    let Some(config) = config else { return parts };
    let mut config = config.clone();
    config.normalize();
    let mut document = serde_json::to_value(&config).unwrap_or_default();
    redact(&mut document);
    let Value::Object(mut fields) = document else { return parts };
    let mut named = |section: &'static str, field: &str, key: &str, fields: &mut Map<String, Value>| {
        let list = fields.shift_remove(field).and_then(|list| list.as_array().cloned()).unwrap_or_default();
        for mut entry in list {
            let name = entry[key].as_str().map(str::to_owned);
            if let Some(entry) = entry.as_object_mut() {
                entry.shift_remove(key);
            }
            parts.entry(section).or_default().insert(name, entry);
        }
    };
    named("access", "bindings", "name", &mut fields);
    named("providers", "providers", "name", &mut fields);
    named("limits", "limits", "name", &mut fields);
    for name in ["auth", "quotas"] {
        let value = fields.shift_remove(name).unwrap_or_default();
        parts.entry(name).or_default().insert(None, value);
    }
    parts.entry("tenant").or_default().insert(None, Value::Object(fields));
    parts
}

/// Replaces what is sealed by a word that still differs where the credential does.
fn redact(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("v1.") && text.matches('.').count() == 2 => {
            let digest = contract::Revision::from_digest(&digest(text));
            *value = json!(format!("[sealed {}]", digest.as_str().get(..6).unwrap_or_default()));
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        Value::Object(map) => map.values_mut().for_each(redact),
        _ => {}
    }
}

fn digest(text: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).into()
}

fn section(name: &'static str, was: &Entries, will: &Entries) -> Option<Section> {
    let mut entries = Vec::new();
    let names: std::collections::BTreeSet<_> = was.keys().chain(will.keys()).collect();
    for entry in names {
        let (old, new) = (was.get(entry), will.get(entry));
        let change = match (old, new) {
            (Some(old), Some(new)) if old == new => continue,
            (None, None) => continue,
            (Some(_), Some(_)) => Kind::Changed,
            (None, Some(_)) => Kind::Added,
            (Some(_), None) => Kind::Removed,
        };
        entries.push(Entry { name: entry.clone(), change, lines: lines(old, new) });
    }
    (!entries.is_empty()).then_some(Section { section: name, entries })
}

/// Two values as a unified diff of YAML.
pub fn lines(old: Option<&Value>, new: Option<&Value>) -> Vec<String> {
    let yaml = |value: Option<&Value>| {
        value.map_or_else(String::new, |value| serde_saphyr::to_string(value).unwrap_or_default())
    };
    let (old, new) = (yaml(old), yaml(new));
    let diff = TextDiff::from_lines(&old, &new);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(CONTEXT) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{sign} {}", change.value().trim_end()));
        }
    }
    lines
}

/// One line of a diff.
pub fn painted(line: &str, paint: Paint) -> String {
    let line = format!("    {line}");
    let line = match line.trim_start().chars().next() {
        Some('+') => paint.good(line),
        Some('-') => paint.bad(line),
        _ => paint.dim(line),
    };
    line + "\n"
}

impl Section {
    pub fn human(&self, paint: Paint) -> String {
        let mut text = format!("  {}\n", self.section);
        for Entry { name, change, lines } in &self.entries {
            if let Some(name) = name {
                text += &match change {
                    Kind::Added => paint.good(format!("  + {name}\n")),
                    Kind::Removed => paint.bad(format!("  - {name}\n")),
                    Kind::Changed => paint.warn(format!("  ~ {name}\n")),
                };
            }
            for line in lines {
                text += &painted(line, paint);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use contract::{
        RoleName, TenantId, TenantName,
        access::{Binding, Subject, SubjectKind, built_in},
        auth::{SigningAlgorithm, SigningKey},
    };

    use super::*;

    fn config() -> TenantConfig {
        let mut config = TenantConfig::new(TenantId::derive("shop", "acme"), TenantName::new("acme").unwrap());
        config.auth.signing_keys = vec![SigningKey {
            id: "acme-signing-key".into(),
            algorithm: SigningAlgorithm::EdDSA,
            key: serde_json::from_value(json!("v1.abcd.CANARY")).unwrap(),
        }];
        config
    }

    fn support(config: &mut TenantConfig) {
        let role = RoleName::new("SUPPORT").unwrap();
        config.bindings.push(Binding {
            name: "acme-support".into(),
            permissions: built_in(&role).unwrap(),
            role,
            subjects: vec![Subject { kind: SubjectKind::User, name: "alice@acme.example".into() }],
            expires_at: None,
            when: None,
        });
    }

    fn human(before: Option<&TenantConfig>, after: Option<&TenantConfig>) -> String {
        sections(before, after).iter().map(|section| section.human(Paint(false))).collect()
    }

    #[test]
    fn what_differs_is_shown_and_nothing_else() {
        let (before, mut after) = (config(), config());
        assert_eq!(human(Some(&before), Some(&after)), "");
        support(&mut after);
        after.auth.access_token_seconds = 600;
        insta::assert_snapshot!(human(Some(&before), Some(&after)));
    }

    #[test]
    fn a_credential_that_changes_is_seen_to_change_and_not_seen() {
        let (before, mut after) = (config(), config());
        after.auth.signing_keys[0].key = serde_json::from_value(json!("v1.abcd.CANARY-2")).unwrap();
        let text = human(Some(&before), Some(&after));
        assert!(text.contains("- ") && text.contains("[sealed ") && !text.contains("CANARY"), "{text}");
        assert!(!human(None, Some(&after)).contains("CANARY"));
    }
}

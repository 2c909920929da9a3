//! Nobody hands out rights that they do not have.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Attributes, User,
    rbac::{GROUP, texts},
};
use crate::{
    api::{Api, Target},
    status::{Result, Status},
};

impl Api {
    /// Asked before a Role, a ClusterRole or a binding of one is written.
    pub fn forbid_escalation(&self, user: &User, target: Target<'_>, old: Option<&Value>, new: &Value) -> Result<()> {
        let kind = target.kind;
        if kind.group != GROUP || user.is_master() {
            return Ok(());
        }
        // Labels, owners and finalizers hand nothing out.
        let same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
        let (verb, resource, name, rules) = match kind.kind.as_str() {
            "Role" | "ClusterRole" => {
                if same("rules") && same("aggregationRule") {
                    return Ok(());
                }
                // An aggregated role may become anything.
                let everything = json!([
                    { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
                    { "nonResourceURLs": ["*"], "verbs": ["*"] },
                ]);
                let rules = if new["aggregationRule"].is_null() { new["rules"].clone() } else { everything };
                ("escalate", kind.plural.clone(), target.name.to_owned(), rules)
            }
            _ => {
                if same("subjects") && same("roleRef") {
                    return Ok(());
                }
                let role = &new["roleRef"];
                let plural = if role["kind"] == "Role" { "roles" } else { "clusterroles" };
                let name = role["name"].as_str().unwrap_or_default().to_owned();
                let bound = Attributes::resource("bind", GROUP, plural, target.namespace, &name);
                if self.authorize(user, &bound).is_ok() {
                    self.audit.note(user, &bound, 200);
                    return Ok(());
                }
                // A role that is not there cannot be measured.
                let missing = || Status::not_found(GROUP, plural, &name);
                let rules = self.rules_of(role, target.namespace).ok_or_else(missing)?;
                return self.holds(user, target, &rules);
            }
        };
        let asked = Attributes::resource(verb, GROUP, &resource, target.namespace, &name);
        if self.authorize(user, &asked).is_ok() {
            self.audit.note(user, &asked, 200);
            return Ok(());
        }
        self.holds(user, target, &rules)
    }

    fn holds(&self, user: &User, target: Target<'_>, rules: &Value) -> Result<()> {
        let mut held = Vec::new();
        self.visit_rules(user, target.namespace, &mut Vec::new(), &mut |rule| {
            held.push(rule.clone());
            false
        });
        let missing: Vec<String> =
            rules.as_array().into_iter().flatten().filter_map(|rule| uncovered(&held, rule)).collect();
        if missing.is_empty() {
            self.note_handed_out(user, target.namespace, rules);
            return Ok(());
        }
        let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
        let why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            groups.join(" "),
            missing.join("\n")
        );
        Err(Status::forbidden(GROUP, &target.kind.plural, target.name, &why))
    }
    /// A right that is needed to hand it out is used.
    fn note_handed_out(&self, user: &User, namespace: &str, rules: &Value) {
        for rule in rules.as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        self.audit.note(user, &Attributes::resource(verb, group, resource, namespace, ""), 200);
                    }
                }
            }
        }
    }
}

fn list(value: &Value) -> Vec<&str> {
    texts(value).collect()
}

/// What of a rule no held rule covers, as Kubernetes prints rules.
fn uncovered(held: &[Value], rule: &Value) -> Option<String> {
    let verbs = list(&rule["verbs"]);
    let covered = |verb: &str, each: &dyn Fn(&Value) -> bool| {
        held.iter().any(|own| texts(&own["verbs"]).any(|held| held == "*" || held == verb) && each(own))
    };
    let paths = list(&rule["nonResourceURLs"]);
    let no_path = |verb: &str| {
        paths
            .iter()
            .any(|path| !covered(verb, &|own| texts(&own["nonResourceURLs"]).any(|held| covers_path(held, path))))
    };
    let (groups, resources) = (list(&rule["apiGroups"]), list(&rule["resources"]));
    let mut names: Vec<Option<&str>> = list(&rule["resourceNames"]).into_iter().map(Some).collect();
    if names.is_empty() {
        names.push(None);
    }
    let no_resource = |verb: &str| {
        groups.iter().any(|group| {
            resources.iter().any(|resource| {
                names.iter().any(|name| {
                    !covered(verb, &|own| {
                        let own_names = list(&own["resourceNames"]);
                        texts(&own["apiGroups"]).any(|held| held == "*" || held == *group)
                            && texts(&own["resources"]).any(|held| covers_resource(held, resource))
                            && (own_names.is_empty() || name.is_some_and(|name| own_names.contains(&name)))
                    })
                })
            })
        })
    };
    let lacking: Vec<&str> = verbs.into_iter().filter(|verb| no_path(verb) || no_resource(verb)).collect();
    if lacking.is_empty() {
        return None;
    }
    let mut text = String::new();
    let fields = [
        ("APIGroups", groups),
        ("Resources", resources),
        ("ResourceNames", list(&rule["resourceNames"])),
        ("NonResourceURLs", paths),
        ("Verbs", lacking),
    ];
    for (field, values) in fields.into_iter().filter(|(_, values)| !values.is_empty()) {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let comma = if text.is_empty() { "" } else { ", " };
        let _infallible = write!(text, "{comma}{field}:[{}]", values.join(" "));
    }
    Some(format!("{{{text}}}"))
}

fn covers_resource(held: &str, wanted: &str) -> bool {
    held == "*"
        || held == wanted
        || held.strip_prefix("*/").is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, wanted)| wanted == sub))
}

fn covers_path(held: &str, wanted: &str) -> bool {
    held == wanted || held.strip_suffix('*').is_some_and(|start| wanted.starts_with(start))
}

//! Roles and bindings, read as they lie in the store: a change counts with the next request.

use serde_json::Value;

use super::{Attributes, User};
use crate::{api::Api, object, status::Result};

pub const GROUP: &str = "rbac.authorization.k8s.io";
pub const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const ROLES: &str = "rbac.authorization.k8s.io/roles";
const CLUSTER_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
const BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

pub fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a list has the word or the star.
pub fn has(list: &Value, wanted: &str) -> bool {
    texts(list).any(|text| text == "*" || text == wanted)
}

impl Api {
    /// Refuses what no role allows.
    pub fn authorize(&self, user: &User, asked: &Attributes) -> Result<()> {
        let mut missing = Vec::new();
        if user.is_master() || self.visit_rules(user, &asked.namespace, &mut missing, &mut |rule| allows(rule, asked)) {
            return Ok(());
        }
        let why = if missing.is_empty() { String::new() } else { format!("RBAC: [{}]", missing.join(", ")) };
        let why = if let [only] = &missing[..] { format!("RBAC: {only}") } else { why };
        Err(asked.refused(user, &why))
    }

    /// Every rule that counts for the user there, until `found` is content. Roles that are bound but absent are named in `missing`.
    pub fn visit_rules(
        &self,
        user: &User,
        namespace: &str,
        missing: &mut Vec<String>,
        found: &mut dyn FnMut(&Value) -> bool,
    ) -> bool {
        let places = [(CLUSTER_BINDINGS, ""), (BINDINGS, namespace)];
        for (storage, home) in places.into_iter().filter(|(storage, home)| *storage != BINDINGS || !home.is_empty()) {
            for (_, binding) in self.store.collection(storage).list(&self.store, home).items {
                let subjects = binding.value["subjects"].as_array().into_iter().flatten();
                if !subjects.into_iter().any(|subject| is_subject(subject, user, home)) {
                    continue;
                }
                match self.rules_of(&binding.value["roleRef"], home) {
                    Some(rules) if rules.as_array().into_iter().flatten().any(&mut *found) => return true,
                    Some(_) => {}
                    None => missing.push(not_found(&binding.value["roleRef"])),
                }
            }
        }
        false
    }

    /// The rules of the role that a binding names.
    pub fn rules_of(&self, role: &Value, namespace: &str) -> Option<Value> {
        let (storage, home) = if role["kind"] == "Role" { (ROLES, namespace) } else { (CLUSTER_ROLES, "") };
        let name = role["name"].as_str().unwrap_or_default().to_owned();
        self.store.get(storage, &(home.to_owned(), name)).map(|entry| entry.value["rules"].clone())
    }
}

fn not_found(role: &Value) -> String {
    let kind = role["kind"].as_str().unwrap_or_default().to_lowercase();
    format!("{kind}.{GROUP} {} not found", role["name"])
}

fn is_subject(subject: &Value, user: &User, home: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == "*" || name == user.name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(home);
            user.name == format!("{}{namespace}:{name}", super::SERVICE_ACCOUNT)
        }
        _ => false,
    }
}

pub fn allows(rule: &Value, asked: &Attributes) -> bool {
    if !has(&rule["verbs"], &asked.verb) {
        return false;
    }
    if !asked.is_resource() {
        return texts(&rule["nonResourceURLs"]).any(|wanted| {
            wanted == "*"
                || wanted == asked.path
                || wanted.strip_suffix('*').is_some_and(|start| asked.path.starts_with(start))
        });
    }
    let any_of = format!("*/{}", asked.subresource);
    has(&rule["apiGroups"], &asked.group)
        && (has(&rule["resources"], &asked.combined())
            || (!asked.subresource.is_empty() && texts(&rule["resources"]).any(|wanted| wanted == any_of)))
        && (texts(&rule["resourceNames"]).next().is_none()
            || texts(&rule["resourceNames"]).any(|name| name == asked.name))
}

/// Whether a Role or ClusterRole is one that others are made of.
pub fn selects(aggregation: &Value, role: &Value) -> bool {
    let labels = &role["metadata"]["labels"];
    aggregation["clusterRoleSelectors"].as_array().into_iter().flatten().any(|selector| {
        let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
        wanted.all(|(key, value)| labels[key] == *value) && !object::name(role).is_empty()
    })
}

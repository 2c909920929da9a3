//! The operator's rights: in a world it runs under its ServiceAccount with exactly the rules of the installation, and what it
//! asked for there is compared with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::PostParams,
    config::{AuthInfo, Kubeconfig},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{binaries::repository, objects};

/// A folder: every stand-in of a world notes there what was asked of it.
pub const AUDIT_VARIABLE: &str = "TENANTRY_TEST_AUDIT";
/// The operator's ServiceAccount, and its ClusterRole.
const OPERATOR: &str = "tenantry-operator";
/// Longer than a world lives: nothing renews it.
const SECONDS: i64 = 24 * 3600;

/// Where the stand-in of a new world notes what is asked of it, if anybody wants to know.
pub fn audit_file() -> Option<PathBuf> {
    env::var_os(AUDIT_VARIABLE).map(|folder| Path::new(&folder).join(format!("{}.jsonl", Uuid::new_v4().simple())))
}

fn manifests() -> Result<Vec<Value>> {
    let path = repository().join("manifests/base/operator.yaml");
    objects::documents(&fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?)
}

/// ServiceAccount, Roles and bindings as they are installed, with the ClusterRole as a Role of the namespace: what the chart makes
/// of `watchNamespaces`.
pub fn of_the_operator(namespace: &str) -> Result<Vec<Value>> {
    let mut wanted = Vec::new();
    for mut object in manifests()? {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let bound = object["subjects"].as_array().into_iter().flatten().any(|subject| subject["name"] == OPERATOR);
        let own = object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(OPERATOR));
        match kind.as_str() {
            "ServiceAccount" | "Role" if own => {}
            "ClusterRole" if own => object["kind"] = json!("Role"),
            "ClusterRoleBinding" | "RoleBinding" if bound => {
                object["kind"] = json!("RoleBinding");
                object["roleRef"]["kind"] = json!("Role");
                for subject in object["subjects"].as_array_mut().into_iter().flatten() {
                    subject["namespace"] = json!(namespace);
                }
            }
            _ => continue,
        }
        object["metadata"]["namespace"] = json!(namespace);
        wanted.push(object);
    }
    Ok(wanted)
}

/// The admission policies that come with the operator: they are what holds `spec.deletionProtection`.
pub fn policies() -> Result<Vec<Value>> {
    let is_policy =
        |object: &Value| object["kind"].as_str().is_some_and(|kind| kind.starts_with("ValidatingAdmissionPolicy"));
    Ok(manifests()?.into_iter().filter(is_policy).collect())
}

/// A kubeconfig like ours, but for the operator's ServiceAccount.
pub async fn kubeconfig_of_the_operator(client: &Client, ours: &Path, namespace: &str, path: &Path) -> Result<()> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(SECONDS), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let issued: TokenRequest = api.create_subresource("token", OPERATOR, &PostParams::default(), &request).await?;
    let token = issued.status.context("a token request is answered with a token")?.token;
    let mut config = Kubeconfig::read_from(ours)?;
    for user in &mut config.auth_infos {
        user.auth_info = Some(AuthInfo { token: token.clone().map(Into::into), ..AuthInfo::default() });
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string(&config)?)?;
    Ok(())
}

/// Verb, group, resource.
type Right = (String, String, String);

/// What the manifests grant.
fn granted() -> Result<BTreeSet<Right>> {
    let roles = manifests()?.into_iter().filter(|object| {
        object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role"))
            && object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(OPERATOR))
    });
    Ok(roles.flat_map(|role| rights(&role["rules"])).collect())
}

fn rights(rules: &Value) -> BTreeSet<Right> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.insert((verb, group.clone(), resource.clone()));
                }
            }
        }
    }
    rights
}

/// What the worlds noted of the operator: allowed, and refused.
#[derive(Debug, Default)]
struct Used {
    allowed: BTreeSet<Right>,
    refused: BTreeSet<Right>,
    /// Groups of kinds that somebody used in some world: the others were installed nowhere.
    groups: BTreeSet<String>,
}

impl Used {
    fn read(folder: &Path) -> Result<Self> {
        let mut used = Self::default();
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        for file in files {
            for line in fs::read_to_string(file.path())?.lines() {
                used.note(&serde_json::from_str(line).context("a line of the audit record")?);
            }
        }
        Ok(used)
    }

    fn note(&mut self, record: &apiserver::Record) {
        // 404 of a path: nothing of that kind is installed.
        if record.resource.is_empty() {
            return;
        }
        if record.code < 300 {
            self.groups.insert(record.group.clone());
        }
        if !record.user.starts_with("system:serviceaccount:") || !record.user.ends_with(&format!(":{OPERATOR}")) {
            return;
        }
        let right = (record.verb.clone(), record.group.clone(), record.resource.clone());
        if record.code == 403 { &mut self.refused } else { &mut self.allowed }.insert(right);
    }

    fn compare(&self, granted: &BTreeSet<Right>) -> Comparison {
        let shown = |(resource, verbs): (String, Vec<&str>)| format!("{resource} [{}]", verbs.join(", "));
        let vain = granted.difference(&self.allowed).filter(|(_, group, _)| self.groups.contains(group));
        Comparison {
            lacking: by_resource(self.refused.iter()).into_iter().map(shown).collect(),
            in_vain: by_resource(vain).into_iter().map(shown).collect(),
        }
    }
}

/// What the operator was refused, and what it was granted and did not ask for: each a resource with its verbs.
#[derive(Debug, Default)]
pub struct Comparison {
    pub lacking: Vec<String>,
    /// Of kinds that were installed somewhere. What only the operator's own tests reach is in here too: it wants a journey.
    pub in_vain: Vec<String>,
}

fn by_resource<'a>(rights: impl Iterator<Item = &'a Right>) -> BTreeMap<String, Vec<&'a str>> {
    let mut grouped: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (verb, group, resource) in rights {
        let name = if group.is_empty() { resource.clone() } else { format!("{group} {resource}") };
        grouped.entry(name).or_default().push(verb);
    }
    grouped
}

/// Compares what the worlds of a run noted in `folder` with what the manifests grant; nothing where the stand-in did not run.
pub fn compare(folder: &Path) -> Result<Comparison> {
    let used = Used::read(folder)?;
    if used.allowed.is_empty() && used.refused.is_empty() {
        return Ok(Comparison::default());
    }
    Ok(used.compare(&granted()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(verb: &str, resource: &str, code: u16) -> apiserver::Record {
        let user = "system:serviceaccount:here:tenantry-operator";
        let record = json!({
            "user": user, "verb": verb, "group": "", "resource": resource, "namespace": "here", "name": "", "path": "", "code": code,
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_right_in_vain_and_a_right_too_few_are_named() {
        let granted = rights(&json!([
            { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] },
            { "apiGroups": ["installed.nowhere"], "resources": ["things"], "verbs": ["get"] },
        ]));
        let mut used = Used::default();
        used.note(&record("list", "pods", 200));
        used.note(&record("delete", "secrets", 403));
        let compared = used.compare(&granted);
        assert_eq!(compared.lacking, ["secrets [delete]"]);
        assert_eq!(compared.in_vain, ["pods [get]"], "what is installed nowhere cannot be used");
        used.note(&record("get", "pods", 404));
        assert!(used.compare(&granted).in_vain.is_empty());
    }

    #[test]
    fn in_a_world_the_operator_has_the_installed_rules() {
        let objects = of_the_operator("here").unwrap();
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        for kind in ["ServiceAccount", "Role", "RoleBinding"] {
            assert!(kinds.contains(&kind), "{kinds:?}");
        }
        assert!(objects.iter().all(|object| object["metadata"]["namespace"] == "here"));
        let roles = objects.iter().filter(|object| object["kind"] == "Role");
        assert_eq!(roles.flat_map(|role| rights(&role["rules"])).collect::<BTreeSet<_>>(), granted().unwrap());
    }
}

//! Objects of a world as plain JSON: applied, read, waited for. For what a person does there is [`crate::Kubectl`].

use std::{fmt::Write, path::Path};

use anyhow::{Context, Result, bail};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, TypeMeta},
    core::{ApiResource, GroupVersionKind},
    discovery::{self, Scope},
};
use serde_json::{Value, json};

use crate::wait;

/// The five kinds, by the plural that URLs use.
pub const KINDS: [(&str, &str); 5] = [
    ("Platform", "platforms"),
    ("Tenant", "tenants"),
    ("RoleBinding", "rolebindings"),
    ("PaymentProvider", "paymentproviders"),
    ("RateLimitPolicy", "ratelimitpolicies"),
];
const FIELD_MANAGER: &str = "tenantry-harness";

#[derive(Clone)]
pub struct Objects {
    client: Client,
    namespace: String,
}

impl Objects {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.into() }
    }

    /// All documents of a YAML text, by server-side apply.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<()> {
        for document in documents(yaml)? {
            self.apply(&document).await?;
        }
        Ok(())
    }

    /// One object. Fields that were ours before and are not named any more go away.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        let types: TypeMeta = serde_json::from_value(object.clone()).context("an object needs apiVersion and kind")?;
        let name = object["metadata"]["name"].as_str().context("an object needs metadata.name")?;
        let kind = GroupVersionKind::try_from(&types)?;
        let (resource, capabilities) = discovery::pinned_kind(&self.client, &kind).await?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        };
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(name, &parameters, &Patch::Apply(object))
            .await
            .with_context(|| format!("{} {name} was refused", kind.kind))?;
        Ok(())
    }

    /// Installs the CRDs of a checkout, and waits until they are served.
    pub async fn install_crds(&self, folder: &Path) -> Result<()> {
        let files = std::fs::read_dir(folder).with_context(|| format!("no CRDs in {}", folder.display()))?;
        for file in files.flatten().filter(|file| file.path().extension().is_some_and(|extension| extension == "yaml"))
        {
            self.apply_yaml(&std::fs::read_to_string(file.path())?).await?;
        }
        for (kind, plural) in KINDS {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind, plural));
            wait::until("the CRDs to be served", async || Ok(api.list(&ListParams::default().limit(1)).await.ok()))
                .await?;
        }
        Ok(())
    }

    fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        let known =
            KINDS.iter().find(|(known, plural)| known.eq_ignore_ascii_case(kind) || plural.eq_ignore_ascii_case(kind));
        let Some((kind, plural)) = known else { bail!("{kind} is none of our kinds") };
        Ok(Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind, plural)))
    }

    /// `get("tenant/acme")`, for our own kinds.
    pub async fn get(&self, object: &str) -> Result<Value> {
        let (kind, name) = object.split_once('/').context("an object is named kind/name")?;
        let found = self.api(kind)?.get(name).await.with_context(|| format!("{object} cannot be read"))?;
        Ok(serde_json::to_value(found)?)
    }

    /// A merge patch.
    pub async fn merge(&self, object: &str, patch: &Value) -> Result<()> {
        let (kind, name) = object.split_once('/').context("an object is named kind/name")?;
        self.api(kind)?.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Waits until the condition has that status for the newest generation; yields the object.
    pub async fn until(&self, object: &str, condition: &str, status: &str) -> Result<Value> {
        let what = format!("{object} to say {condition}={status}");
        let seen = wait::until_value(
            &what,
            async || {
                let found = self.get(object).await?;
                Ok(Seen { condition: find_condition(&found, condition), object: found })
            },
            |seen| {
                let about_the_newest = seen.condition["observedGeneration"] == seen.object["metadata"]["generation"];
                seen.condition["status"] == status && about_the_newest
            },
        )
        .await?;
        Ok(seen.object)
    }

    /// What our objects say about themselves, for the reader of a failed test.
    pub async fn describe(&self) -> String {
        let mut text = String::new();
        for (kind, plural) in KINDS {
            let Ok(api) = self.api(plural) else { continue };
            let Ok(list) = api.list(&ListParams::default()).await else {
                let _ = writeln!(text, "{kind}: the control plane does not answer");
                continue;
            };
            for object in list {
                let name = object.metadata.name.clone().unwrap_or_default();
                let _ = writeln!(text, "{kind}/{name} generation {:?}", object.metadata.generation.unwrap_or_default());
                for condition in object.data["status"]["conditions"].as_array().into_iter().flatten() {
                    let field = |name: &str| condition[name].as_str().unwrap_or_default();
                    let _ = writeln!(
                        text,
                        "    {}={} {}: {}",
                        field("type"),
                        field("status"),
                        field("reason"),
                        field("message")
                    );
                }
            }
        }
        text
    }
}

/// Shows only the condition: that is what a failed wait was about.
struct Seen {
    condition: Value,
    object: Value,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "generation {}, {}", self.object["metadata"]["generation"], self.condition)
    }
}

fn find_condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).cloned().unwrap_or(Value::Null)
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("tenantry.dev", "v1alpha1", kind), plural)
}

/// The non-empty documents of a YAML stream.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

pub fn secret(name: &str, entries: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> = entries.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": data})
}

//! What an apply would change, before it is made: in the effective configuration of each tenant, and in what runs.
//!
//! `kubectl apply --dry-run=server` says what the objects would be, so that schema, rules, defaults and the ways of apply
//! are the cluster's own. Both states then go through the operator's pure steps, and the two results are compared.

use std::fmt::Write as _;

mod difference;
mod dry_run;
mod platforms;
mod secrets;
mod tenants;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use operator::stores::{Kept, Shelf, Stores};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::difference::Section;
use crate::{
    Outcome, cli,
    connect::Connection,
    live,
    output::{Output, Paint, Shown, wrapped},
};

/// Most tenants whose change is shown in full; a policy of a Platform may change thousands in the same way.
const SHOWN: usize = 10;

pub async fn run(connection: &Connection, asked: &cli::Plan, out: Output) -> Result<Outcome> {
    let now = connection.now;
    let objects = dry_run::apply(connection, asked).await?;
    let mut places: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut plan = Plan::default();
    for object in objects {
        let namespace = object["metadata"]["namespace"].as_str();
        match namespace {
            Some(namespace) if kind(&object).is_some() => places.entry(namespace.into()).or_default().push(object),
            _ => plan.not_looked_at.push(named(&object)),
        }
    }
    let deleted = asked.deleted.iter().map(|text| Deletion::parse(text)).collect::<Result<Vec<_>>>()?;
    if !deleted.is_empty() {
        places.entry(connection.namespace.clone()).or_default();
    }
    if places.is_empty() {
        bail!("there is nothing of Tenantry in it: give files with objects of {}", contract::names::GROUP);
    }
    for (namespace, objects) in places {
        let place = Connection { namespace: namespace.clone(), ..connection.clone() };
        let deleted: &[_] = if namespace == connection.namespace { &deleted } else { &[] };
        let (before, after) = (live::stores(&place).await?, Stores::default());
        let mut change = Change { before, after, secrets: BTreeMap::new(), touched: BTreeSet::new() };
        change.copy();
        for object in objects {
            plan.objects.push(change.put(object, &namespace)?);
        }
        for deletion in deleted {
            plan.objects.push(change.remove(deletion, &namespace)?);
        }
        platforms::compare(&place, &change, &mut plan).await?;
        tenants::compare(&place, &change, now, &mut plan).await?;
    }
    let outcome = if plan.changes() { Outcome::Changes } else { Outcome::Good };
    out.print(&plan)?;
    Ok(outcome)
}

/// What would come of it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub objects: Vec<Object>,
    /// Objects of other kinds: they are applied, and change nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_looked_at: Vec<String>,
    pub platforms: Vec<platforms::PlatformChange>,
    pub tenants: Vec<tenants::TenantChange>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub notes: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Object {
    pub object: String,
    pub namespace: String,
    /// `created`, `configured`, `unchanged` or `deleted`, as kubectl says; of a Secret `applied`.
    pub action: &'static str,
}

impl Plan {
    pub fn changes(&self) -> bool {
        let objects = self.objects.iter().any(|object| !matches!(object.action, "unchanged" | "applied"));
        objects || !self.tenants.is_empty() || !self.platforms.is_empty()
    }
}

/// A namespace as it is and as it would be.
pub struct Change {
    pub before: Stores,
    pub after: Stores,
    /// Secrets that are among the files; `None` where one would be deleted.
    pub secrets: BTreeMap<String, Option<Secret>>,
    /// Tenants that the objects speak of.
    pub touched: BTreeSet<String>,
}

/// An object that is looked at as deleted.
pub struct Deletion {
    kind: &'static str,
    name: String,
}

impl Deletion {
    fn parse(text: &str) -> Result<Self> {
        let kinds: [(&str, &[&str]); 6] = [
            ("Platform", &["platform", "platforms", "tplat"]),
            ("Tenant", &["tenant", "tenants", "ptn"]),
            ("RoleBinding", &["rolebinding", "rolebindings", "rolebindings.tenantry.dev", "trb"]),
            ("PaymentProvider", &["paymentprovider", "paymentproviders", "payp"]),
            ("RateLimitPolicy", &["ratelimitpolicy", "ratelimitpolicies", "trl"]),
            ("Secret", &["secret", "secrets"]),
        ];
        let found = text.split_once('/').and_then(|(kind, name)| {
            let kind = kind.to_lowercase();
            let (known, _) = kinds.iter().find(|(_, words)| words.contains(&kind.as_str()))?;
            Some(Self { kind: known, name: name.to_owned() })
        });
        match found {
            Some(deletion) if !deletion.name.is_empty() => Ok(deletion),
            _ => bail!("--delete {text:?}: write KIND/NAME such as rolebinding/acme-support"),
        }
    }
}

impl Change {
    fn copy(&self) {
        copy(&self.before.platforms, &self.after.platforms);
        copy(&self.before.tenants, &self.after.tenants);
        copy(&self.before.role_bindings, &self.after.role_bindings);
        copy(&self.before.payment_providers, &self.after.payment_providers);
        copy(&self.before.rate_limit_policies, &self.after.rate_limit_policies);
    }

    fn put(&mut self, object: Value, namespace: &str) -> Result<Object> {
        let name = named(&object);
        let action = match kind(&object) {
            Some("Platform") => put(&self.before.platforms, &self.after.platforms, object)?,
            Some("Tenant") => {
                self.touched.insert(object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
                put(&self.before.tenants, &self.after.tenants, object)?
            }
            Some("RoleBinding") => put(&self.before.role_bindings, &self.after.role_bindings, object)?,
            Some("PaymentProvider") => put(&self.before.payment_providers, &self.after.payment_providers, object)?,
            Some("RateLimitPolicy") => put(&self.before.rate_limit_policies, &self.after.rate_limit_policies, object)?,
            _ => {
                let secret: Secret = serde_json::from_value(object)?;
                self.secrets.insert(secret.name_any(), Some(secret));
                // What it was is not read only to say whether it differs; its effects tell.
                "applied"
            }
        };
        Ok(Object { object: name, namespace: namespace.to_owned(), action })
    }

    fn remove(&mut self, Deletion { kind, name }: &Deletion, namespace: &str) -> Result<Object> {
        let there = match *kind {
            "Platform" => take(&self.after.platforms, namespace, name),
            "Tenant" => take(&self.after.tenants, namespace, name),
            "RoleBinding" => take(&self.after.role_bindings, namespace, name),
            "PaymentProvider" => take(&self.after.payment_providers, namespace, name),
            "RateLimitPolicy" => take(&self.after.rate_limit_policies, namespace, name),
            _ => {
                self.secrets.insert(name.clone(), None);
                true
            }
        };
        if !there {
            bail!("--delete {kind}/{name}: there is none in namespace {namespace:?}");
        }
        let object = format!("{}/{name}", kind.to_lowercase());
        Ok(Object { object, namespace: namespace.to_owned(), action: "deleted" })
    }
}

fn copy<K: Kept>(from: &Shelf<K>, to: &Shelf<K>) {
    for object in from.all() {
        to.put(object.as_ref().clone());
    }
}

fn put<K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Serialize>(
    before: &Shelf<K>,
    after: &Shelf<K>,
    object: Value,
) -> Result<&'static str> {
    let wanted: K = serde_json::from_value(object)?;
    let namespace = wanted.namespace().unwrap_or_default();
    let action = match before.get(&namespace, &wanted.name_any()) {
        None => "created",
        // The API server moves it with every change of the spec.
        Some(stands) if stands.meta().generation != wanted.meta().generation => "configured",
        Some(stands) if labels(stands.as_ref()) != labels(&wanted) => "configured",
        Some(_) => "unchanged",
    };
    after.put(wanted);
    Ok(action)
}

fn labels(object: &impl ResourceExt) -> [BTreeMap<String, String>; 2] {
    let mut annotations = object.annotations().clone();
    // What kubectl writes for itself.
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    [object.labels().clone(), annotations]
}

fn take<K: Kept>(shelf: &Shelf<K>, namespace: &str, name: &str) -> bool {
    shelf.take(namespace, name).is_some()
}

/// Its kind, where that is one that matters here.
fn kind(object: &Value) -> Option<&'static str> {
    let (group, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let ours = ["Platform", "Tenant", "RoleBinding", "PaymentProvider", "RateLimitPolicy"];
    match group {
        "tenantry.dev/v1alpha1" => ours.into_iter().find(|known| *known == kind),
        "v1" if kind == "Secret" => Some("Secret"),
        _ => None,
    }
}

fn named(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]))
}

impl Shown for Plan {
    fn human(&self, paint: Paint) -> String {
        let mut text = String::new();
        for Object { object, action, .. } in &self.objects {
            let action = match *action {
                "created" => paint.good("created"),
                "deleted" => paint.bad("deleted"),
                "configured" => paint.warn("configured"),
                other => paint.dim(other),
            };
            let verb = if action.contains("unchanged") { "stay" } else { "be" };
            let _ = writeln!(text, "{object} would {verb} {action}");
        }
        for object in &self.not_looked_at {
            text += &paint.dim(format!("{object} has nothing to do with it\n"));
        }
        for platform in &self.platforms {
            let _ = write!(text, "\n{}", platform.human(paint));
        }
        for tenant in self.tenants.iter().take(SHOWN) {
            let _ = write!(text, "\n{}", tenant.human(paint));
        }
        if let Some(more) = self.tenants.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = write!(text, "\nand {more} tenants more: -o yaml has them all\n");
        }
        if self.tenants.is_empty() {
            text += "\nNo tenant's configuration would change.\n";
        }
        for note in &self.notes {
            text += &paint.dim(wrapped(&format!("Note: {note}"), 0));
        }
        text
    }
}

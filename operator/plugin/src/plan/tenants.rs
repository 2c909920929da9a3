//! The tenants' documents as they are rendered now, and as they would be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result};
use contract::names::config_map;
use crds::TargetKind;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use operator::{
    render::problem::Problem,
    stores::{Key, Stores},
    tenant::{
        build,
        dereference::{Dereferenced, shelved},
        signing_key,
        validate::{ValidatedTenant, validate},
    },
};
use serde::Serialize;

use super::{
    Change, Plan, Section, difference,
    secrets::{AT_ONCE, Known},
};
use crate::{
    connect::Connection,
    output::{Paint, wrapped},
};

/// What would become of one tenant.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantChange {
    pub tenant: String,
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_after: Option<String>,
    pub sections: Vec<Section>,
    /// What conditions would say that they do not say now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What they would no longer say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<String>,
}

pub async fn compare(connection: &Connection, change: &Change, now: Timestamp, plan: &mut Plan) -> Result<()> {
    let namespace = connection.namespace.as_str();
    let names = affected(change, namespace);
    let needed = |stores: &Stores, name: &String| {
        let found = stores.tenants.get(namespace, name).map(|tenant| shelved(stores, tenant));
        found.map(|found| found.secret_names()).unwrap_or_default()
    };
    let secrets =
        names.iter().flat_map(|name| needed(&change.before, name).into_iter().chain(needed(&change.after, name)));
    let known = Known::read(connection, secrets.collect()).await?;
    if known.refused {
        plan.notes.insert(
            "you may not read Secrets here, so credentials are not judged and revisions are not known beforehand"
                .into(),
        );
    }
    let compared = stream::iter(&names).map(|name| one(connection, change, &known, name, now));
    let compared: Vec<_> = compared.buffered(AT_ONCE).try_collect().await?;
    for (change, notes) in compared {
        plan.tenants.extend(change);
        plan.notes.extend(notes);
    }
    orphans(change, namespace, plan);
    Ok(())
}

/// Objects whose tenant or target would not be there have no document to show up in.
fn orphans(change: &Change, namespace: &str, plan: &mut Plan) {
    let stores = &change.after;
    let missing = |tenant: &str| stores.tenants.get(namespace, tenant).is_none();
    let bindings = stores.role_bindings.within(namespace).into_iter().filter_map(|binding| {
        let tenant = &binding.spec.tenant_ref.name;
        missing(tenant).then(|| (format!("rolebinding/{}", binding.name_any()), format!("Tenant {tenant:?}")))
    });
    let providers = stores.payment_providers.within(namespace).into_iter().filter_map(|provider| {
        let tenant = &provider.spec.tenant_ref.name;
        missing(tenant).then(|| (format!("paymentprovider/{}", provider.name_any()), format!("Tenant {tenant:?}")))
    });
    let policies = stores.rate_limit_policies.within(namespace).into_iter().filter_map(|policy| {
        let target = &policy.spec.target_ref;
        let missing = match target.kind {
            TargetKind::Tenant => missing(&target.name),
            TargetKind::Platform => stores.platforms.get(namespace, &target.name).is_none(),
        };
        missing
            .then(|| (format!("ratelimitpolicy/{}", policy.name_any()), format!("{:?} {:?}", target.kind, target.name)))
    });
    let orphans: Vec<_> = bindings.chain(providers).chain(policies).collect();
    for (object, wanted) in orphans {
        // Only what this plan is about.
        if plan.objects.iter().any(|known| known.object == object && known.namespace == namespace) {
            plan.notes
                .insert(format!("{object} would have no effect: there is no {wanted} in namespace {namespace:?}"));
        }
    }
}

/// Every tenant whose rendering may differ.
fn affected(change: &Change, namespace: &str) -> BTreeSet<String> {
    let mut names = change.touched.clone();
    for (mine, other) in [(&change.before, &change.after), (&change.after, &change.before)] {
        let differs = |tenants: &mut BTreeSet<String>, key: Key| {
            tenants.extend(mine.tenants.find(&key).iter().map(|tenant| tenant.name_any()));
        };
        for tenant in mine.tenants.within(namespace) {
            if other.tenants.get(namespace, &tenant.name_any()).is_none_or(|o| o.spec != tenant.spec) {
                names.insert(tenant.name_any());
                // Who asks for the same hostnames may gain or lose one.
                for hostname in &tenant.spec.hostnames {
                    differs(&mut names, Key::Hostname(hostname.clone()));
                }
            }
        }
        for binding in mine.role_bindings.within(namespace) {
            if other.role_bindings.get(namespace, &binding.name_any()).is_none_or(|o| o.spec != binding.spec) {
                names.insert(binding.spec.tenant_ref.name.clone());
            }
        }
        for provider in mine.payment_providers.within(namespace) {
            if other.payment_providers.get(namespace, &provider.name_any()).is_none_or(|o| o.spec != provider.spec) {
                names.insert(provider.spec.tenant_ref.name.clone());
            }
        }
        for policy in mine.rate_limit_policies.within(namespace) {
            if other.rate_limit_policies.get(namespace, &policy.name_any()).is_none_or(|o| o.spec != policy.spec) {
                let target = &policy.spec.target_ref;
                match (target.kind, mine.platforms.get(namespace, &target.name)) {
                    (TargetKind::Tenant, _) => drop(names.insert(target.name.clone())),
                    (TargetKind::Platform, None) => {}
                    (TargetKind::Platform, Some(platform)) => {
                        names.extend(mine.tenants_of(&platform).iter().map(|tenant| tenant.name_any()));
                    }
                }
            }
        }
        // A Platform that comes or goes decides which one serves.
        if mine.platforms.within(namespace).len() != other.platforms.within(namespace).len() {
            names.extend(mine.tenants.within(namespace).iter().map(|tenant| tenant.name_any()));
        }
        for secret in change.secrets.keys() {
            let key = Key::Secret(namespace.to_owned(), secret.clone());
            names.extend(mine.payment_providers.find(&key).iter().map(|p| p.spec.tenant_ref.name.clone()));
            differs(&mut names, key);
        }
    }
    names
}

type Compared = (Option<TenantChange>, Vec<String>);

async fn one(connection: &Connection, change: &Change, known: &Known, name: &str, now: Timestamp) -> Result<Compared> {
    let stored = connection.api::<ConfigMap>().get_opt(&config_map(name)).await.context("cannot read ConfigMaps")?;
    let none = BTreeMap::new();
    let before = rendered(connection, &change.before, known, &none, name, stored.as_ref(), now).await?;
    let after = rendered(connection, &change.after, known, &change.secrets, name, stored.as_ref(), now).await?;
    let mut notes = Vec::new();
    let serves = stored.as_ref().and_then(|stored| stored.annotations().get(contract::names::ANNOTATION_REVISION));
    if let (Some(before), Some(serves)) = (before.as_ref().and_then(|before| before.revision.as_ref()), serves)
        && before != serves
    {
        notes.push(format!(
            "Tenant {name:?} is not served as it is declared now (the API has {serves}): the operator is at it, or is not running"
        ));
    }
    Ok((compared(connection, name, before.as_ref(), after.as_ref()), notes))
}

/// One state of one tenant.
struct Rendered {
    revision: Option<String>,
    validated: ValidatedTenant,
}

async fn rendered(
    connection: &Connection,
    stores: &Stores,
    known: &Known,
    changed: &BTreeMap<String, Option<Secret>>,
    name: &str,
    document: Option<&ConfigMap>,
    now: Timestamp,
) -> Result<Option<Rendered>> {
    let Some(tenant) = stores.tenants.get(&connection.namespace, name) else { return Ok(None) };
    let mut found = shelved(stores, tenant.clone());
    known.fill(&mut found, changed);
    found.stored = document.cloned();
    let exact = signing_keys(connection, &mut found, known.refused, now).await?;
    let validated = validate(&found, now);
    let revision = validated.config.as_ref().and_then(|(platform, config)| {
        build::document(&tenant, platform, config).ok().map(|(revision, _)| revision.to_string())
    });
    Ok(Some(Rendered { revision: revision.filter(|_| exact && !known.refused), validated }))
}

/// Puts in the keys that sign. False where the operator would make one, which nobody knows beforehand.
async fn signing_keys(
    connection: &Connection,
    found: &mut Dereferenced,
    refused: bool,
    now: Timestamp,
) -> Result<bool> {
    let tenant = found.tenant.clone();
    let mut wanting = refused;
    if !refused {
        let selector = format!("{}={}", contract::names::LABEL_TENANT, tenant.name_any());
        let api: Api<Secret> = connection.api();
        let listed = api.list_metadata(&ListParams::default().labels(&selector)).await;
        let keys = listed.context("cannot list Secrets")?.items.into_iter().map(Arc::<PartialObjectMeta<Secret>>::new);
        let existing = signing_key::existing(&connection.client, &tenant, keys.collect(), now).await;
        (found.signing_keys, wanting) = existing.context("cannot read Secrets")?;
        let status = tenant.status.clone().unwrap_or_default();
        signing_key::introduce(&mut found.signing_keys, found.stored.as_ref(), &status);
    }
    if wanting && tenant.spec.auth.signing.secret_ref.is_none() && found.signing_keys.live.is_empty() {
        found.signing_keys.live.extend(signing_key::stand_in_secret(&tenant));
    }
    Ok(!wanting)
}

fn compared(
    connection: &Connection,
    name: &str,
    before: Option<&Rendered>,
    after: Option<&Rendered>,
) -> Option<TenantChange> {
    let config = |rendered: Option<&Rendered>| {
        rendered.and_then(|r| r.validated.config.as_ref()).map(|(_, config)| config.clone())
    };
    let sections = difference::sections(config(before).as_ref(), config(after).as_ref());
    let (was, will) = (said(before), said(after));
    let new = |these: &BTreeSet<String>, those: &BTreeSet<String>| these.difference(those).cloned().collect::<Vec<_>>();
    let change = TenantChange {
        tenant: name.to_owned(),
        namespace: connection.namespace.clone(),
        revision_before: before.and_then(|before| before.revision.clone()),
        revision_after: after.and_then(|after| after.revision.clone()),
        sections,
        problems: new(&will, &was),
        resolved: new(&was, &will),
    };
    let nothing = change.sections.is_empty() && change.problems.is_empty() && change.resolved.is_empty();
    (!nothing || before.is_some() != after.is_some()).then_some(change)
}

/// What the conditions of the tenant and of the objects around it say that is not well.
fn said(rendered: Option<&Rendered>) -> BTreeSet<String> {
    let Some(Rendered { validated, .. }) = rendered else { return BTreeSet::new() };
    let outcome = &validated.outcome;
    let sentence = |object: String, problem: &Problem| {
        format!("{object}: {}=False {}: {}", problem.condition, problem.reason, problem.message)
    };
    let own = validated.problems.iter().map(|problem| sentence("Tenant".into(), problem));
    let bindings = outcome.bindings.iter().flat_map(|(name, verdict)| {
        verdict.problems.iter().map(move |problem| sentence(format!("RoleBinding {name}"), problem))
    });
    let providers = outcome.providers.iter().flat_map(|(name, verdict)| {
        verdict.problems.iter().map(move |problem| sentence(format!("PaymentProvider {name}"), problem))
    });
    let policies = outcome.policies.iter().flat_map(|(name, verdict)| {
        let displaced = verdict.detail.displaced.iter().map(move |displaced| {
            format!("RateLimitPolicy {name}: {} overridden by {}", displaced.limits.join(", "), displaced.by)
        });
        verdict
            .problems
            .iter()
            .map(move |problem| sentence(format!("RateLimitPolicy {name}"), problem))
            .chain(displaced)
    });
    own.chain(bindings).chain(providers).chain(policies).collect()
}

impl TenantChange {
    pub fn human(&self, paint: Paint) -> String {
        let revision = match (&self.revision_before, &self.revision_after) {
            (Some(before), Some(after)) if before == after => format!("revision {before} stays"),
            (Some(before), Some(after)) => format!("revision {before} -> {after}"),
            (None, Some(after)) => format!("revision {after}, its first"),
            (Some(before), None) => format!("revision {before} -> known after the apply"),
            (None, None) => "revision known after the apply".into(),
        };
        let mut text =
            format!("{} (namespace {}): {revision}\n", paint.head(format!("Tenant {}", self.tenant)), self.namespace);
        for section in &self.sections {
            text += &section.human(paint);
        }
        for problem in &self.problems {
            text += &paint.bad(wrapped(&format!("! {problem}"), 2));
        }
        for problem in &self.resolved {
            text += &paint.good(wrapped(&format!("no longer: {problem}"), 2));
        }
        text
    }
}

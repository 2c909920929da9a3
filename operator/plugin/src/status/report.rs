//! What is said of a Platform and of a Tenant, worked out from what stands. Pure.

use std::{collections::BTreeMap, sync::Arc};

use crds::{Platform, Tenant, conditions};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use operator::{
    stores::{Kept, Key, Stores},
    tenant::dereference::shelved,
};
use serde::Serialize;

use crate::rollout;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantReport>,
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformReport {
    pub name: String,
    pub namespace: String,
    pub well: bool,
    /// Conditions that are not as they should be.
    pub problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_release: Option<String>,
    pub replicas: u32,
    pub wanted_replicas: u32,
    pub rollout: String,
    pub postgres: String,
    pub redis: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub tenants: usize,
    pub unwell_tenants: Vec<Unwell>,
}

/// A condition, or what stands for one.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Unwell {
    pub name: String,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantReport {
    pub name: String,
    pub namespace: String,
    pub well: bool,
    pub hostnames: Vec<String>,
    pub plan: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub loaded_replicas: u32,
    pub ready_replicas: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
    pub problems: Vec<Problem>,
    /// Objects around it: kind and name, and what is wrong with it, if anything.
    pub objects: BTreeMap<String, Option<Problem>>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Warning {
    pub time: Timestamp,
    pub namespace: String,
    pub object: String,
    pub reason: String,
    pub message: String,
}

impl Report {
    pub(super) fn well(&self) -> bool {
        self.platforms.iter().all(|platform| platform.well && platform.unwell_tenants.is_empty())
            && self.tenants.iter().all(|tenant| tenant.well)
    }
}

pub fn of_platform(stores: &Stores, platform: &Platform, rollout: &rollout::View) -> PlatformReport {
    let status = platform.status.clone().unwrap_or_default();
    let ready = unready(platform.metadata.generation, &status.conditions);
    let said = |type_: &str| {
        conditions::find(&status.conditions, type_).map_or_else(
            || "nothing is known yet".to_owned(),
            |condition| match condition.status.as_str() {
                "True" => condition.message.clone(),
                _ => format!("{}: {}", condition.reason, condition.message),
            },
        )
    };
    let tenants = stores.tenants_of(platform);
    let unwell = tenants.iter().filter_map(|tenant| {
        let status = tenant.status.clone().unwrap_or_default();
        let Problem { reason, message, .. } = unready(tenant.metadata.generation, &status.conditions)?;
        Some(Unwell { name: tenant.name_any(), reason, message })
    });
    PlatformReport {
        name: platform.name_any(),
        namespace: platform.namespace().unwrap_or_default(),
        well: ready.is_none(),
        problems: problems(ready, &status.conditions, operator::platform::status::is_bad),
        active_color: status.active_color.map(|color| format!("{color:?}").to_lowercase()),
        active_release: status.active_revision.clone(),
        preview_release: status
            .preview_revision
            .clone()
            .filter(|preview| Some(preview) != status.active_revision.as_ref()),
        replicas: status.replicas,
        wanted_replicas: platform.spec.replicas,
        rollout: rollout.line(),
        postgres: said(conditions::POSTGRES_READY),
        redis: said(conditions::REDIS_READY),
        url: status.url.clone(),
        tenants: tenants.len(),
        unwell_tenants: unwell.collect(),
    }
}

pub fn of_tenant(stores: &Stores, tenant: &Tenant) -> TenantReport {
    let status = tenant.status.clone().unwrap_or_default();
    let namespace = tenant.namespace().unwrap_or_default();
    let ready = unready(tenant.metadata.generation, &status.conditions);
    let loaded = status.config.clone().unwrap_or_default();
    let mut objects = BTreeMap::new();
    let key = Key::Tenant(namespace.clone(), tenant.name_any());
    if let Some(found) = stores.tenants.get(&namespace, &tenant.name_any()).map(|tenant| shelved(stores, tenant)) {
        about(&mut objects, &stores.role_bindings.find(&key), |b| b.status.as_ref().map(|s| s.conditions.as_slice()));
        about(&mut objects, &found.providers, |p| p.status.as_ref().map(|s| s.conditions.as_slice()));
        about(&mut objects, &found.policies, |p| p.status.as_ref().map(|s| s.conditions.as_slice()));
    }
    let bad = |condition: &Condition| match condition.type_.as_str() {
        conditions::SUSPENDED => condition.status == "True",
        _ => condition.status == "False",
    };
    TenantReport {
        name: tenant.name_any(),
        namespace,
        well: ready.is_none(),
        hostnames: status.hostnames.clone(),
        plan: tenant.spec.plan.clone(),
        revision: Some(loaded.revision).filter(|revision| !revision.is_empty()),
        loaded_replicas: loaded.loaded_replicas,
        ready_replicas: loaded.ready_replicas,
        signing_key: status.signing_key.map(|key| format!("{} since {}", key.secret_name, key.since.0)),
        problems: problems(ready, &status.conditions, bad),
        objects,
    }
}

fn about<K: Kept + kube::Resource<DynamicType = ()>>(
    objects: &mut BTreeMap<String, Option<Problem>>,
    found: &[Arc<K>],
    list: impl Fn(&K) -> Option<&[Condition]>,
) {
    for object in found {
        let name = format!("{} {}", K::kind(&()), object.name_any());
        let conditions = list(object.as_ref()).unwrap_or_default();
        objects.insert(name, unready(object.meta().generation, conditions));
    }
}

/// What is wrong with an object whose `Ready` should be true of its generation.
fn unready(generation: Option<i64>, list: &[Condition]) -> Option<Problem> {
    if conditions::is_true(list, conditions::READY, generation) {
        return None;
    }
    Some(match conditions::find(list, conditions::READY) {
        Some(ready) if ready.observed_generation == generation => problem(ready),
        Some(_) => behind("its newest generation has not been looked at yet: is the operator running?"),
        None => {
            behind("nothing has been said about it yet: is the operator running, and does it watch this namespace?")
        }
    })
}

fn behind(message: &str) -> Problem {
    Problem {
        type_: conditions::READY.into(),
        status: "Unknown".into(),
        reason: conditions::reasons::RECONCILING.into(),
        message: message.into(),
    }
}

fn problem(condition: &Condition) -> Problem {
    Problem {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// `Ready` first, then the others that are not well and say something else.
fn problems(ready: Option<Problem>, list: &[Condition], bad: impl Fn(&Condition) -> bool) -> Vec<Problem> {
    let mut problems: Vec<_> = ready.into_iter().collect();
    for condition in list.iter().filter(|condition| condition.type_ != conditions::READY && bad(condition)) {
        if problems.iter().all(|known| known.message != condition.message) {
            problems.push(problem(condition));
        } else if let Some(ready) = problems.first_mut().filter(|known| known.message == condition.message) {
            // The roll-up repeats another condition: that one is the better name.
            *ready = problem(condition);
        }
    }
    problems
}

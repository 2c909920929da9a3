//! The objects that a Platform is made of: pure, one file per concern.

mod access;
pub(super) mod autoscaling;
mod gateway;
mod mail;
mod migration;
mod monitoring;
mod network;
mod scheduling;
mod workload;

use contract::names;
use crds::platform::Color;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kube::api::ObjectMeta;

use super::{
    around::Around,
    dereference::Dereferenced,
    rollout::Release,
    validate::{Source, ValidatedPlatform},
};
use crate::kube_ext::{Prepared, owner, platform_labels};

pub use migration::name as migration_name;
pub use workload::{color_selector, pull_policy, pull_secrets, selector};

/// Annotation on the pods' template: which migration it was started after.
pub const ANNOTATION_MIGRATION: &str = "tenantry.dev/migration";
/// Annotation on the pods' template that changes with the Secrets it reads, so that its pods are replaced.
pub const ANNOTATION_SECRETS: &str = "tenantry.dev/secrets";

/// A Platform's objects as they should be.
#[derive(Debug)]
pub struct Resources {
    pub service_account: Prepared<ServiceAccount>,
    pub role: Prepared<Role>,
    pub role_binding: Prepared<RoleBinding>,
    pub disruption_budget: Prepared<PodDisruptionBudget>,
    pub around: Around,
    /// Only once there is something to connect to.
    pub workload: Option<Workload>,
}

/// What runs the image.
#[derive(Debug)]
pub struct Workload {
    pub migration: Prepared<Job>,
    pub release: Release,
}

pub fn build(found: &Dereferenced, validated: &ValidatedPlatform) -> serde_json::Result<Resources> {
    let workload = match (&validated.postgres, &validated.redis) {
        (Ok(postgres), Ok(redis)) => {
            let migration = migration::job(found, validated, postgres);
            let migrated = migration::name(found, validated, postgres);
            let release = workload::release(found, validated, postgres, redis, &migrated)?;
            Some(Workload { migration: Prepared(migration), release })
        }
        _ => None,
    };
    Ok(Resources {
        service_account: Prepared(access::service_account(found)),
        role: Prepared(access::role(found)),
        role_binding: Prepared(access::role_binding(found)),
        disruption_budget: Prepared(network::disruption_budget(found)),
        around: Around {
            ingress: network::ingress(found, &validated.hosts).map(Prepared),
            route: gateway::http_route(found, &validated.hosts).map(Prepared),
            scaler: autoscaling::scaler(found),
            pod_monitor: monitoring::pod_monitor(found).map(Prepared),
        },
        workload,
    })
}

/// One colour's Deployment, running `release` on this many pods.
pub fn deployment(found: &Dereferenced, color: Color, release: &Release, replicas: u32) -> Prepared<Deployment> {
    Prepared(workload::deployment(found, color, release, replicas))
}

/// The ConfigMap that keeps a release.
pub fn release_config(found: &Dereferenced, release: &Release) -> serde_json::Result<Prepared<ConfigMap>> {
    release.config_map(meta(found, names::release(&found.name, &release.hash))).map(Prepared)
}

/// The Service that takes the requests; without a colour as long as only pods without a colour are there.
pub fn active_service(found: &Dereferenced, color: Option<Color>) -> Prepared<Service> {
    let selector = color.map_or_else(|| selector(&found.name), |color| color_selector(&found.name, color));
    Prepared(network::service(found, names::api(&found.name), selector))
}

/// The Service that leads to the newest release.
pub fn preview_service(found: &Dereferenced, color: Color) -> Prepared<Service> {
    Prepared(network::service(found, names::api_preview(&found.name), color_selector(&found.name, color)))
}

/// Metadata of what is owned by the Platform and goes with it.
fn meta(found: &Dereferenced, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(found.namespace.clone()),
        labels: Some(platform_labels(&found.name)),
        owner_references: owner(found.platform.as_ref()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// What the API is told about its database.
fn database_env(source: &Source) -> Vec<k8s_openapi::api::core::v1::EnvVar> {
    workload::postgres_env(source)
}

#[cfg(test)]
mod tests;

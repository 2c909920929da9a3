//! The objects that a Platform is made of: pure, one file per concern.

mod access;
pub(super) mod autoscaling;
mod gateway;
mod migration;
mod monitoring;
mod network;
mod scheduling;
mod workload;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kube::api::ObjectMeta;

use super::{
    around::Around,
    dereference::Dereferenced,
    validate::{Source, ValidatedPlatform},
};
use crate::kube_ext::{Prepared, owner, platform_labels};

pub use migration::name as migration_name;
pub use workload::selector;

/// Annotation on the Deployment's template: which migration it was started after.
pub const ANNOTATION_MIGRATION: &str = "tenantry.dev/migration";
/// Annotation on the Deployment's template that changes with the Secrets it reads, so that its pods are replaced.
pub const ANNOTATION_SECRETS: &str = "tenantry.dev/secrets";

/// A Platform's objects as they should be.
#[derive(Debug)]
pub struct Resources {
    pub service_account: Prepared<ServiceAccount>,
    pub role: Prepared<Role>,
    pub role_binding: Prepared<RoleBinding>,
    pub service: Prepared<Service>,
    pub disruption_budget: Prepared<PodDisruptionBudget>,
    pub around: Around,
    /// Only once there is something to connect to.
    pub workload: Option<Workload>,
}

/// What runs the image.
#[derive(Debug)]
pub struct Workload {
    pub migration: Prepared<Job>,
    pub deployment: Prepared<Deployment>,
}

pub fn build(found: &Dereferenced, validated: &ValidatedPlatform) -> Resources {
    let workload = match (&validated.postgres, &validated.redis) {
        (Ok(postgres), Ok(redis)) => {
            let migration = migration::job(found, validated, postgres);
            let migrated = migration::name(found, validated, postgres);
            let deployment = workload::deployment(found, validated, postgres, redis, &migrated);
            Some(Workload { migration: Prepared(migration), deployment: Prepared(deployment) })
        }
        _ => None,
    };
    Resources {
        service_account: Prepared(access::service_account(found)),
        role: Prepared(access::role(found)),
        role_binding: Prepared(access::role_binding(found)),
        service: Prepared(network::service(found)),
        disruption_budget: Prepared(network::disruption_budget(found)),
        around: Around {
            ingress: network::ingress(found, &validated.hosts).map(Prepared),
            route: gateway::http_route(found, &validated.hosts).map(Prepared),
            scaler: autoscaling::scaler(found),
            pod_monitor: monitoring::pod_monitor(found).map(Prepared),
        },
        workload,
    }
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

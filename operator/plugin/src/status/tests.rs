use crds::{Platform, Tenant};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{report::*, *};

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

fn tenant(name: &str, conditions: Vec<Condition>) -> Tenant {
    let mut tenant = Tenant::new_minimal(name, "a.example");
    (tenant.metadata.namespace, tenant.metadata.generation) = (Some("shop".into()), Some(1));
    tenant.status = Some(crds::TenantStatus { conditions, ..Default::default() });
    tenant
}

#[test]
fn what_is_not_well_is_told_with_its_reason_and_the_rest_is_counted() {
    let stores = Stores::default();
    let mut platform = Platform::new_minimal("main", "db", "redis");
    (platform.metadata.namespace, platform.metadata.generation) = (Some("shop".into()), Some(1));
    platform.status = Some(crds::PlatformStatus {
        replicas: 2,
        url: Some("https://pay.example.com".into()),
        conditions: vec![
            condition("Ready", "False", "Unreachable", "the database does not answer: see Secret db"),
            condition("Available", "True", "Available", "2 of 2 replicas are ready"),
            condition("PostgresReady", "False", "Unreachable", "the database does not answer: see Secret db"),
            condition("RedisReady", "True", "AsDeclared", "external, by Secret redis"),
        ],
        ..Default::default()
    });
    stores.platforms.put(platform.clone());
    stores.tenants.put(tenant("acme", vec![condition("Ready", "True", "Ready", "")]));
    stores.tenants.put(tenant("beta", vec![condition("Ready", "False", "Conflicted", "a.example is held by acme")]));
    stores.tenants.put(tenant("new", vec![]));
    let warning = Warning {
        time: Timestamp::UNIX_EPOCH,
        namespace: "shop".into(),
        object: "Tenant/beta".into(),
        reason: "Conflicted".into(),
        message: "a.example is held by acme".into(),
    };
    let view = rollout::View { phase: "Idle".into(), ..Default::default() };
    let report =
        Report { platforms: vec![of_platform(&stores, &platform, &view)], tenants: vec![], warnings: vec![warning] };
    let text = report.human(Timestamp::constant(300, 0), Paint(false));
    for words in
        ["not well", "PostgresReady=False Unreachable", "1 of 3 well", "beta: Conflicted", "5m ago, Tenant/beta"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

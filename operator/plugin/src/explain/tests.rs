//! A namespace in YAML, rendered by the operator's steps and explained.

use std::{collections::BTreeSet, sync::Arc};

use contract::{Revision, TenantConfig, TenantId, TenantName};
use crds::{Platform, RoleBinding, Tenant};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{can_i, cli::Asker};

const NOW: &str = "2026-11-21T12:00:00Z";

const NAMESPACE: &str = "
kind: Platform
metadata: {name: main}
spec: {postgres: {external: {secretRef: {name: db}}}, redis: {external: {secretRef: {name: redis}}}}
---
kind: Tenant
metadata: {name: acme}
spec: {hostnames: [acme.example], plan: pro, quotas: {requestsPerDay: 100000}}
---
kind: RateLimitPolicy
metadata: {name: house, creationTimestamp: 2026-01-01T00:00:00Z}
spec:
  targetRef: {kind: Platform, name: main}
  defaults:
    strategy: merge
    limits:
      per-user: {counters: [User], rates: [{limit: 100, window: 1m}]}
      everything: {counters: [Tenant], rates: [{limit: 5000, window: 1m}], mode: Shadow}
---
kind: RateLimitPolicy
metadata: {name: acme-limits, creationTimestamp: 2026-01-02T00:00:00Z}
spec:
  targetRef: {kind: Tenant, name: acme}
  limits:
    per-user: {counters: [User], rates: [{limit: 600, window: 1h}]}
    sign-in: {match: {methods: [POST], paths: [{type: PathPrefix, value: /auth/login}]}, counters: [SourceIP], rates: [{limit: 5, window: 1m}], failureMode: Closed}
    careful: {when: [{predicate: \"!('ADMIN' in auth.roles)\"}], counters: [User], rates: [{limit: 10, window: 1m}]}
---
kind: RoleBinding
metadata: {name: acme-support}
spec: {tenantRef: {name: acme}, roleRef: {name: support}, subjects: [{kind: Group, name: helpdesk}]}
---
kind: RoleBinding
metadata: {name: acme-office}
spec: {tenantRef: {name: acme}, roleRef: {name: admin}, subjects: [{kind: User, name: Alice@acme.example}], when: \"request.ip.startsWith('10.')\"}
---
kind: RoleBinding
metadata: {name: acme-old}
spec: {tenantRef: {name: acme}, roleRef: {name: vendor}, subjects: [{kind: User, name: alice@acme.example}], expiresAt: 2026-02-01T00:00:00Z}
";

fn read<K: DeserializeOwned + ResourceExt>(document: &Value) -> K {
    let mut document = document.clone();
    document["apiVersion"] = "tenantry.dev/v1alpha1".into();
    document["metadata"]["namespace"] = "shop".into();
    serde_json::from_value(document).unwrap()
}

fn scene() -> (Served, Stores) {
    let stores = Stores::default();
    for text in NAMESPACE.split("\n---\n") {
        let document: Value = serde_saphyr::from_str(text).unwrap();
        match document["kind"].as_str().unwrap() {
            "Platform" => drop(stores.platforms.put(read::<Platform>(&document))),
            "Tenant" => drop(stores.tenants.put(read::<Tenant>(&document))),
            "RoleBinding" => drop(stores.role_bindings.put(read::<RoleBinding>(&document))),
            _ => drop(stores.rate_limit_policies.put(read::<RateLimitPolicy>(&document))),
        }
    }
    let tenant = stores.tenants.get("shop", "acme").unwrap();
    let found = shelved(&stores, tenant.clone());
    let mut config = TenantConfig::new(TenantId::derive("shop", "acme"), TenantName::new("acme").unwrap());
    config.quotas.requests_per_day = tenant.spec.quotas.requests_per_day;
    config.limits = limits::limits(found.policies.iter().map(Arc::as_ref), &[], &BTreeSet::new()).entries;
    config.bindings = access::bindings(found.bindings.iter().map(Arc::as_ref), NOW.parse().unwrap()).entries;
    config.normalize();
    (Served { tenant, revision: Revision::from_digest(&[7; 32]), config }, stores)
}

fn person(user: Option<&str>, asker: &Value) -> Person {
    let text = |name: &str| asker[name].as_str().map(str::to_owned);
    let asker = Asker {
        groups: asker["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|g| g.as_str().map(str::to_owned))
            .collect(),
        role: "USER".into(),
        method: text("method").unwrap_or_else(|| "GET".into()),
        path: text("path"),
        ip: text("ip").map(|ip| ip.parse().unwrap()),
        ..Asker::default()
    };
    Person::new(user, &asker).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn human(user: Option<&str>, asker: Value) -> String {
    let (served, stores) = scene();
    explain(&served, &stores, &person(user, &asker), NOW.parse().unwrap()).human(Paint(false))
}

#[test]
fn a_request_is_told_its_roles_and_limits_and_where_they_come_from() {
    let asker = json!({"path": "/api/v1/payments", "method": "POST", "groups": ["helpdesk"], "ip": "192.0.2.7"});
    insta::assert_snapshot!(human(Some("alice@acme.example"), asker));
}

#[test]
fn a_condition_that_holds_gives_its_role_and_the_role_lifts_a_limit() {
    let text = human(Some("alice@acme.example"), json!({"path": "/payments", "ip": "10.1.2.3"}));
    assert!(text.contains("  ADMIN\n") && text.contains("; here holds:\n    request.ip.startsWith('10.')"), "{text}");
    assert!(!text.contains("acme-limits/careful"), "{text}");
}

#[test]
fn somebody_who_is_not_signed_in_has_limits_only() {
    let text = human(None, json!({"path": "/api/auth/login", "method": "post"}));
    assert!(
        text.contains("acme-limits/sign-in: 5 per 1m") && text.contains("without Redis it refuses everything"),
        "{text}"
    );
    assert!(!text.contains("Roles"), "{text}");
}

#[test]
fn may_this_person_do_that() {
    let (served, _) = scene();
    let now = NOW.parse().unwrap();
    let ask = |verb, resource, asker: Value| {
        can_i::answer(&served.config, &person(Some("alice@acme.example"), &asker), verb, resource, now)
    };
    let own = ask("pay", "payments", json!({}));
    assert!(own.allowed && own.reason.contains("own role USER"), "{own:?}");
    let support = ask("read", "users", json!({"groups": ["helpdesk"]}));
    assert!(support.allowed && support.reason.starts_with("RoleBinding acme-support (Group helpdesk)"), "{support:?}");
    let no = ask("delete", "users", json!({}));
    assert!(
        !no.allowed
            && no.but == ["RoleBinding acme-office (User alice@acme.example); only where request.ip.startsWith('10.')"],
        "{no:?}"
    );
    assert!(ask("delete", "users", json!({"path": "/users", "ip": "10.0.0.1"})).allowed);
    insta::assert_snapshot!(
        can_i::list(&served.config, &person(Some("alice@acme.example"), &json!({"groups": ["helpdesk"]})), now)
            .human(Paint(false))
    );
}

//! What a Tenant takes of the operator's memory: the shelves are filled as the watches fill them, with the operator's own
//! allocator, and the kernel is asked. One test in a process of its own, so that nothing else is counted.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::{fs, sync::Arc};

use crds::Tenant;
use futures::stream;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{api::PartialObjectMeta, core::DeserializeGuard, runtime::watcher::Event};
use operator::{
    metrics::Metrics,
    note::Note,
    replicas::Loaded,
    statuses::Statuses,
    stores::Stores,
    tenant::outcome::{Outcome, Outcomes, Serving},
    watch,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: usize = 10_000;
/// Of 100 MB for ten thousand, less what the process takes without any.
const BYTES_A_TENANT: usize = 7_000;

/// Resident memory that is ours alone.
fn anonymous_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn metadata(name: &str, number: usize) -> Value {
    json!({
        "name": name, "namespace": "tenantry", "uid": format!("3f2c5d4e-9a41-4c55-8f6b-{number:012}"),
        "resourceVersion": (1_000_000 + number).to_string(), "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {
            "app.kubernetes.io/managed-by": "tenantry-operator", "app.kubernetes.io/part-of": "tenantry",
            "tenantry.dev/platform": "main", "tenantry.dev/tenant": format!("tenant-{number:05}"),
        },
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(600)},
        "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:hostnames": {}, "f:plan": {}}}}],
    })
}

/// As one is that has been ready for long.
fn tenant(number: usize) -> Tenant {
    let name = format!("tenant-{number:05}");
    let condition = |type_: &str, message: &str| {
        json!({
            "type": type_, "status": "True", "reason": type_, "message": message, "observedGeneration": 3,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let mut meta = metadata(&name, number);
    meta["finalizers"] = json!(["tenantry.dev/cleanup"]);
    serde_json::from_value(json!({
        "metadata": meta,
        "spec": {"displayName": format!("Tenant {number}"), "plan": "pro", "hostnames": [format!("{name}.example.com")]},
        "status": {
            "observedGeneration": 3, "tenantId": "3f2c5d4e-9a41-4c55-8f6b-000000000000",
            "hostnames": [format!("{name}.example.com")],
            "config": {"revision": "0011223344556677", "loadedReplicas": 3, "readyReplicas": 3},
            "bindings": 2, "policies": 1, "providers": 1,
            "conditions": [
                condition("Ready", "in force as declared"),
                condition("Accepted", "the spec is in force"),
                condition("ResolvedRefs", "everything that is referred to was found"),
                condition("DatabaseReady", "the tenant's rows are in the platform's tables, kept apart by row-level security"),
                condition("Programmed", "3 of 3 ready replicas serve revision 0011223344556677"),
                condition("Suspended", "the tenant is served"),
            ],
        },
    }))
    .unwrap()
}

/// A list, as a watch tells it.
fn list<K>(make: impl Fn(usize) -> K) -> impl Iterator<Item = Event<DeserializeGuard<K>>> {
    let objects = (0..TENANTS).map(move |number| Event::InitApply(DeserializeGuard(Ok(make(number)))));
    [Event::Init].into_iter().chain(objects).chain([Event::InitDone])
}

fn note<K>(suffix: &str, number: usize) -> Note<K>
where
    K: kube::Resource<DynamicType = ()>,
{
    let meta = json!({"metadata": metadata(&format!("tenant-{number:05}-{suffix}"), number)});
    serde_json::from_value::<PartialObjectMeta<K>>(meta).unwrap().into()
}

#[tokio::test]
async fn ten_thousand_tenants_fit() {
    let (stores, outcomes) = (Arc::new(Stores::default()), Outcomes::default());
    let before = anonymous_bytes();
    let statuses = Statuses::<Tenant>::new(&Metrics::default(), &stores, |stores| &stores.tenants);
    let told = watch::prepared(stream::iter(list(tenant).map(Ok)), |tenant| {
        tenant.metadata.labels = None;
        statuses.shelve(tenant);
    });
    watch::keep(None, told, &stores.tenants, |_| ()).await;
    let tenants = anonymous_bytes();
    watch::keep(None, stream::iter(list(|n| note::<Secret>("signing-key", n)).map(Ok)), &stores.secrets, |_| ()).await;
    watch::keep(None, stream::iter(list(|n| note::<ConfigMap>("tenant-config", n)).map(Ok)), &stores.documents, |_| ())
        .await;
    let notes = anonymous_bytes();
    for number in 0..TENANTS {
        let revision = contract::Revision::new("0011223344556677").unwrap();
        let serving = Serving { platform: "main".into(), revision, loaded: Loaded::default() };
        let outcome = Outcome { generation: Some(3), serving: Some(serving), ..Outcome::default() };
        outcomes.put(("tenantry".into(), format!("tenant-{number:05}")), outcome);
    }
    let after = anonymous_bytes();
    println!(
        "of {} bytes a tenant, the object takes {}, its Secret and document {}, its outcome {}; the type {}",
        (after - before) / TENANTS,
        (tenants - before) / TENANTS,
        (notes - tenants) / TENANTS,
        (after - notes) / TENANTS,
        size_of::<Tenant>(),
    );
    assert!((after - before) / TENANTS <= BYTES_A_TENANT);
}

//! Managed PostgreSQL and Redis, with the test in the place of the StatefulSet controller, of the Jobs' pods and of
//! CloudNativePG.

use std::path::Path;

use crds::Platform;
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::StatefulSet,
        batch::v1::{CronJob, Job},
        core::v1::{PersistentVolumeClaim, Secret, Service},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use operator::platform::managed::build::peer;
use serde_json::json;

use crate::world::{NAMESPACE, World, says, within};

const MANAGED: &str = "
metadata: {name: main}
spec:
  postgres: {managed: {storage: {size: 1Gi}, backup: {schedule: \"0 3 * * *\"}}}
  redis: {managed: {}}
";

impl World {
    /// Both StatefulSets' pods are ready.
    async fn stores_run(&self) {
        for name in ["main-postgres", "main-redis"] {
            self.until::<StatefulSet>(name, "there", |_| true).await;
            self.status::<StatefulSet>(name, json!({ "replicas": 1, "readyReplicas": 1 })).await;
        }
    }

    /// Waits for a Job whose name begins so and that has not ended, and ends it.
    async fn ends(&self, prefix: &str, outcome: &str) -> String {
        let jobs = self.api::<Job>();
        let begun = |job: &Job| {
            job.name_any().starts_with(prefix) && job.status.as_ref().is_none_or(|status| status.conditions.is_none())
        };
        let found = within(async {
            loop {
                let list = jobs.list(&ListParams::default()).await.unwrap();
                if let Some(job) = list.items.iter().find(|job| begun(job)) {
                    return job.name_any();
                }
                tokio::task::yield_now().await;
            }
        });
        let job = found.await.unwrap_or_else(|| panic!("no Job {prefix}…"));
        let condition = json!([{ "type": outcome, "status": "True", "message": "as the test says" }]);
        self.status::<Job>(&job, json!({ "conditions": condition })).await;
        job
    }

    async fn annotate(&self, key: &str, value: &str) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { key: value } } }));
        self.api::<Platform>().patch("main", &PatchParams::default(), &patch).await.unwrap();
    }
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

fn rotated(value: &'static str) -> impl Fn(&Platform) -> bool {
    move |platform| {
        let credentials = platform.status.as_ref().and_then(|status| status.credentials.as_ref());
        credentials.is_some_and(|c| c.rotated.as_deref() == Some(value) && c.rotating.is_none())
    }
}

#[tokio::test]
async fn the_api_is_told_of_a_database_only_when_it_takes_its_password() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(MANAGED).await;
    world.until("main", "starting", says("PostgresReady", "Starting")).await;
    assert!(world.api::<Secret>().get_opt("main-postgres-app").await.unwrap().is_none());
    world.stores_run().await;
    world.ends("main-postgres-prepare-", "Complete").await;
    let app = world.until::<Secret>("main-postgres-app", "there", |_| true).await;
    let keys: Vec<_> = app.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "dbname",
            "fqdn-jdbc-uri",
            "fqdn-uri",
            "host",
            "jdbc-uri",
            "password",
            "pgpass",
            "port",
            "uri",
            "user",
            "username"
        ]
    );
    world.until("main", "running", says("PostgresReady", "SingleInstance")).await;
    world.until("main", "running", says("RedisReady", "Running")).await;
    world.ends("main-migrate-", "Complete").await;
    for (name, found) in [("main-postgres", true), ("main-postgres-rw", true), ("main-redis", true)] {
        assert_eq!(world.api::<Service>().get_opt(name).await.unwrap().is_some(), found, "{name}");
    }
    world.until::<CronJob>("main-postgres-backup", "there", |_| true).await;
    world.until::<PersistentVolumeClaim>("main-postgres-backup", "there", |_| true).await;
    world.gone::<Secret>("main-postgres-rotation").await;
}

/// A quota of the cluster, as far as this room sees it.
const NO_GROWTH: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-growth}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [persistentvolumeclaims]}]
  validations:
  - expression: object.spec.resources.requests.storage == oldObject.spec.resources.requests.storage
    message: this storage does not grow
    reason: Forbidden
";

#[tokio::test]
async fn a_volume_that_may_not_grow_is_told_of_and_everything_else_goes_on() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(MANAGED).await;
    world.stores_run().await;
    world.ends("main-postgres-prepare-", "Complete").await;
    world.until("main", "running", says("PostgresReady", "SingleInstance")).await;
    let claim = json!({
        "metadata": { "name": "data-main-postgres-0" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    let claims = world.api::<PersistentVolumeClaim>();
    claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
    world.status::<PersistentVolumeClaim>("data-main-postgres-0", json!({ "capacity": { "storage": "1Gi" } })).await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    policies.create(&PostParams::default(), &serde_saphyr::from_str(NO_GROWTH).unwrap()).await.unwrap();
    let binding = json!({ "metadata": { "name": "no-growth" }, "spec": { "policyName": "no-growth", "validationActions": ["Deny"] } });
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();

    let bigger = json!({ "spec": { "postgres": { "managed": { "storage": { "size": "2Gi" } } } } });
    world.api::<Platform>().patch("main", &PatchParams::default(), &Patch::Merge(bigger)).await.unwrap();
    let told = world.until("main", "told", says("Degraded", "Refused")).await;
    let told = told.status.unwrap().conditions.into_iter().find(|condition| condition.type_ == "Degraded").unwrap();
    for words in
        ["data-main-postgres-0 to 2Gi", "allowVolumeExpansion: true", "this storage does not grow", "tried again"]
    {
        assert!(told.message.contains(words), "no {words:?} in {}", told.message);
    }
    world.until("main", "running", says("PostgresReady", "SingleInstance")).await;
    // A rotation does not wait for it.
    world.annotate("tenantry.dev/rotate-credentials", "one").await;
    world.until::<Secret>("main-postgres-rotation", "there", |_| true).await;

    bindings.delete("no-growth", &DeleteParams::default()).await.unwrap();
    world.annotate("tenantry.dev/touched", "now").await;
    let grown = |claim: &PersistentVolumeClaim| {
        let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        requests.is_some_and(|requests| requests["storage"].0 == "2Gi")
    };
    world.until("data-main-postgres-0", "grown", grown).await;
    world.until("main", "told", says("Degraded", "AsDeclared")).await;
}

#[tokio::test]
async fn an_annotation_replaces_both_passwords_and_a_restart_in_the_middle_goes_on() {
    let (world, operator) = World::operated().await;
    world.apply::<Platform>(MANAGED).await;
    world.stores_run().await;
    world.ends("main-postgres-prepare-", "Complete").await;
    let before = world.until::<Secret>("main-postgres-app", "there", |_| true).await;
    let redis_before = world.until::<Secret>("main-redis-app", "there", |_| true).await;
    world.gone::<Secret>("main-postgres-rotation").await;
    world.gone::<Secret>("main-redis-rotation").await;

    world.annotate("tenantry.dev/rotate-credentials", "one").await;
    let pending = world.until::<Secret>("main-postgres-rotation", "there", |_| true).await;
    operator.kill();
    let _operator = world.operator("operator-1");
    world.ends("main-postgres-prepare-", "Complete").await;
    world.ends("main-redis-prepare-", "Complete").await;
    world.ends("main-postgres-retire-", "Complete").await;
    world.ends("main-redis-retire-", "Complete").await;
    world.until("main", "rotated", rotated("one")).await;
    world.gone::<Secret>("main-postgres-rotation").await;

    let after = world.api::<Secret>().get("main-postgres-app").await.unwrap();
    assert_eq!((text(&before, "username"), text(&after, "username")), ("tenantry_a".into(), "tenantry_b".into()));
    assert_eq!(text(&after, "password"), text(&pending, "password"), "the restart drew no other");
    let redis = world.api::<Secret>().get("main-redis-app").await.unwrap();
    assert_ne!(text(&redis, "password"), text(&redis_before, "password"));
    let users = world.api::<Secret>().get("main-redis-users").await.unwrap();
    assert_eq!(text(&users, "users.acl").matches('#').count(), 1, "the former one is gone");
    assert!(!text(&users, "users.acl").contains(&text(&redis, "password")), "hashes only");
}

#[tokio::test]
async fn a_platform_made_again_finds_its_data_and_its_passwords() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(MANAGED).await;
    world.stores_run().await;
    world.ends("main-postgres-prepare-", "Complete").await;
    let before = world.until::<Secret>("main-postgres-app", "there", |_| true).await;
    world.api::<Platform>().delete("main", &DeleteParams::default()).await.unwrap();
    world.gone::<StatefulSet>("main-postgres").await;
    for name in ["main-postgres-app", "main-postgres-superuser"] {
        assert!(world.api::<Secret>().get_opt(name).await.unwrap().is_some(), "{name} is kept");
    }
    world.api::<PersistentVolumeClaim>().get("main-postgres-backup").await.unwrap();
    world.apply::<Platform>(MANAGED).await;
    world.stores_run().await;
    world.until("main", "running", says("PostgresReady", "SingleInstance")).await;
    assert_eq!(world.api::<Secret>().get("main-postgres-app").await.unwrap().uid(), before.uid());
}

#[tokio::test]
async fn a_failed_job_is_named_with_the_cure_and_run_again_when_it_is_deleted() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(MANAGED).await;
    world.stores_run().await;
    let failed = world.ends("main-postgres-prepare-", "Failed").await;
    world.until("main", "failed", says("PostgresReady", "SetupFailed")).await;
    world.api::<Job>().delete(&failed, &DeleteParams::background()).await.unwrap();
    world.ends(&failed, "Complete").await;
    world.until("main", "running", says("PostgresReady", "SingleInstance")).await;
}

#[tokio::test]
async fn cloudnativepg_runs_it_where_it_is_installed() {
    let crd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/peer-crds/cnpg-clusters.yaml");
    let Ok(crd) = std::fs::read_to_string(&crd) else {
        println!("NOT RUN: there is no {}", crd.display());
        return;
    };
    let (world, _operator) = World::operated().await;
    let crd: CustomResourceDefinition = serde_saphyr::from_str(&crd).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &crd).await.unwrap();
    world.apply::<Platform>(MANAGED).await;

    let clusters: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), NAMESPACE, &peer::cluster_kind());
    let pending = world.until::<Secret>("main-postgres-rotation", "there", |_| true).await;
    let cluster = within(async {
        loop {
            if let Some(cluster) = clusters.get_opt("main-postgres").await.unwrap() {
                return cluster;
            }
            tokio::task::yield_now().await;
        }
    });
    let cluster = cluster.await.expect("a Cluster");
    assert!(cluster.owner_references().is_empty(), "data is owned by nobody");
    assert!(world.api::<StatefulSet>().get_opt("main-postgres").await.unwrap().is_none());
    let status = json!({ "status": {
        "readyInstances": 1, "instances": 1, "phase": "Cluster in healthy state",
        "conditions": [{ "type": "Ready", "status": "True", "reason": "ClusterIsReady", "message": "",
                         "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        "managedRolesStatus": { "passwordStatus": { "tenantry_a": { "resourceVersion": pending.resource_version() } } },
    } });
    clusters.patch_status("main-postgres", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let app = world.until::<Secret>("main-postgres-app", "there", |_| true).await;
    assert_eq!(text(&app, "password"), text(&pending, "password"));
    assert!(text(&app, "uri").ends_with("@main-postgres-rw.shop:5432/tenantry?options=-c%20role%3Dtenantry"));
    let platform = world.until("main", "running", says("PostgresReady", "SingleInstance")).await;
    let conditions = platform.status.unwrap().conditions;
    let message = &crds::conditions::find(&conditions, "PostgresReady").unwrap().message;
    assert!(message.contains("1 of 1 instances are ready: Cluster in healthy state"), "{message}");
}

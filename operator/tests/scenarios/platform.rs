use crds::{Platform, Tenant};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Secret, Service},
    networking::v1::Ingress,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{PLATFORM, World, says};

fn image(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

#[tokio::test]
async fn pods_start_only_after_the_migration_succeeded() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    world.until("main", "migrating", says("Progressing", "Migrating")).await;
    assert!(world.api::<Deployment>().get_opt("main-api-blue").await.unwrap().is_none());
    world.migrated(None, "Complete").await;
    let deployment = world.until::<Deployment>("main-api-blue", "there", |_| true).await;
    assert_eq!(image(&deployment).as_deref(), Some("tenantry-api:1"));
    let generation = deployment.metadata.generation;
    world
        .status::<Deployment>(
            "main-api-blue",
            json!({
                "observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
            }),
        )
        .await;
    let platform = world.until("main", "ready", says("Ready", "Ready")).await;
    assert_eq!(platform.status.unwrap().replicas, 2);
}

#[tokio::test]
async fn a_failed_migration_leaves_the_pods_as_they_are_and_is_run_again_when_its_job_is_deleted() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    let first = world.migrated(None, "Complete").await;
    world.until::<Deployment>("main-api-blue", "there", |_| true).await;
    let newer = "image: {repository: tenantry-api, tag: \"2\"}";
    world.apply::<Platform>(&format!("{PLATFORM}  {newer}\n")).await;
    let failed = world.migrated(Some(&first), "Failed").await;
    let platform = world.until("main", "failed", says("Progressing", "MigrationFailed")).await;
    let conditions = platform.status.unwrap().conditions;
    let message = &crds::conditions::find(&conditions, "Ready").unwrap().message;
    assert!(message.contains(&failed) && message.contains("as the test says"), "{message}");
    assert_eq!(image(&world.api().get("main-api-blue").await.unwrap()).as_deref(), Some("tenantry-api:1"));

    world.api::<Job>().delete(&failed, &DeleteParams::background()).await.unwrap();
    world.until::<Job>(&failed, "run again", |job| job.status.as_ref().is_none_or(|s| s.conditions.is_none())).await;
    world.migrated(Some(&first), "Complete").await;
    world.until("main-api-blue", "new", |deployment| image(deployment).as_deref() == Some("tenantry-api:2")).await;
    world.gone::<Job>(&first).await;
}

#[tokio::test]
async fn what_somebody_changed_or_deleted_is_put_back() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    world.migrated(None, "Complete").await;
    world.until::<Deployment>("main-api-blue", "there", |_| true).await;

    let patch = Patch::Merge(json!({ "spec": { "replicas": 7 } }));
    world.api::<Deployment>().patch("main-api-blue", &PatchParams::default(), &patch).await.unwrap();
    world
        .until::<Deployment>("main-api-blue", "scaled back", |d| d.spec.as_ref().is_some_and(|s| s.replicas == Some(2)))
        .await;

    let service = world.api::<Service>().get("main-api").await.unwrap();
    world.api::<Service>().delete("main-api", &DeleteParams::default()).await.unwrap();
    world.until::<Service>("main-api", "made again", |again| again.uid() != service.uid()).await;
}

#[tokio::test]
async fn a_paused_platform_keeps_its_release_and_can_still_be_scaled() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    world.migrated(None, "Complete").await;
    world.until::<Deployment>("main-api-blue", "there", |_| true).await;
    let newer = "image: {repository: tenantry-api, tag: \"2\"}";
    world.apply::<Platform>(&format!("{PLATFORM}  paused: true\n  replicas: 9\n  {newer}\n")).await;
    world.until("main", "paused", says("Paused", "Paused")).await;
    let scaled = |deployment: &Deployment| deployment.spec.as_ref().is_some_and(|spec| spec.replicas == Some(9));
    let deployment = world.until::<Deployment>("main-api-blue", "scaled", scaled).await;
    assert_eq!(image(&deployment).as_deref(), Some("tenantry-api:1"));
}

#[tokio::test]
async fn the_sealing_key_is_made_once_and_outlives_the_platform() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    world.until("main", "migrating", says("Progressing", "Migrating")).await;
    let key = world.api::<Secret>().get("main-sealing-key").await.unwrap();
    assert_eq!(key.data.as_ref().unwrap()["key"].0.len(), 32);
    world.api::<Platform>().delete("main", &DeleteParams::default()).await.unwrap();
    world.gone::<Service>("main-api").await;
    assert_eq!(world.api::<Secret>().get("main-sealing-key").await.unwrap().data, key.data);
}

#[tokio::test]
async fn a_rotated_database_secret_migrates_and_replaces_the_pods() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    let first = world.migrated(None, "Complete").await;
    let before = world.until::<Deployment>("main-api-blue", "there", |_| true).await;
    world.secret("db", "uri", "postgres://tenantry@elsewhere/app").await;
    world.migrated(Some(&first), "Complete").await;
    world
        .until::<Deployment>("main-api-blue", "replaced", |after| {
            after.metadata.generation > before.metadata.generation
        })
        .await;
}

#[tokio::test]
async fn a_missing_secret_is_named_and_waited_for() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(PLATFORM).await;
    world.until("main", "waiting", says("PostgresReady", "SecretNotFound")).await;
    world.secret("db", "uri", "postgres://tenantry@db/app").await;
    world.until("main", "waiting for the other", says("Ready", "SecretNotFound")).await;
    world.secret("cache", "uri", "redis://cache").await;
    world.until("main", "migrating", says("Progressing", "Migrating")).await;
}

#[tokio::test]
async fn a_tenant_that_comes_is_counted_and_routed() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(&format!("{PLATFORM}  ingress: {{}}\n")).await;
    world.until::<Platform>("main", "seen", |platform| platform.status.is_some()).await;
    world.apply::<Tenant>("metadata: {name: acme}\nspec: {hostnames: [acme.example]}").await;
    let routed = |ingress: &Ingress| {
        ingress.spec.iter().flat_map(|s| s.rules.iter().flatten()).any(|r| r.host.as_deref() == Some("acme.example"))
    };
    world.until("main-api", "routed", routed).await;
    world
        .until::<Platform>("main", "counted", |platform| platform.status.as_ref().is_some_and(|s| s.tenants == 1))
        .await;
    world.api::<Tenant>().delete("acme", &DeleteParams::default()).await.unwrap();
    world.gone::<Ingress>("main-api").await;
}

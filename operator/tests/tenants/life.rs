//! The life of a Tenant.

use contract::codec;
use crds::{Tenant, conditions};
use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::world::{PLATFORM, World, conditions_of};

pub const ACME: &str = "
kind: Tenant
metadata: {name: acme}
spec: {hostnames: [acme.example, pay.acme.example]}
";

fn document(config: &ConfigMap) -> contract::TenantConfig {
    codec::decode(&config.data.as_ref().unwrap()["tenant.json"]).unwrap().1
}

#[tokio::test]
async fn a_tenant_is_served_and_its_status_proves_it() {
    let world = World::with_operator().await;
    world.apply(ACME).await;
    let tenant: Tenant = world.ready("acme").await;
    let status = tenant.status.clone().unwrap();
    let config: ConfigMap = world.get("acme-tenant-config").await;
    let served = status.config.unwrap();
    assert_eq!((served.loaded_replicas, served.ready_replicas), (1, 1));
    assert_eq!(config.annotations()["tenantry.dev/revision"], served.revision);
    assert_eq!(config.labels()["tenantry.dev/platform"], "main");
    assert_eq!(document(&config).id.to_string(), status.tenant_id.unwrap());
    assert_eq!(status.hostnames, ["acme.example", "pay.acme.example"]);
    let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, conditions::of::TENANT);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == tenant.metadata.generation));
    assert_eq!(tenant.finalizers(), ["tenantry.dev/cleanup"]);
}

/// The states of a Tenant's `Ready` for this generation, until it is `True`.
async fn states_of_ready(
    mut states: impl futures::Stream<Item = Tenant> + Unpin,
    generation: i64,
) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while let Some(tenant) = states.next().await {
        let list = conditions_of(&tenant);
        let ready = conditions::find(&list, "Ready").unwrap();
        if ready.observed_generation != Some(generation) {
            assert!(seen.is_empty(), "a verdict on the old generation came after one on the new one");
            continue;
        }
        seen.push((ready.status.clone(), ready.reason.clone()));
        seen.dedup();
        if ready.status == "True" {
            break;
        }
    }
    seen
}

#[tokio::test]
async fn a_new_generation_that_replicas_are_late_to_serve_says_so_until_they_do() {
    let world = World::with_operator().await;
    world.apply(ACME).await;
    world.ready::<Tenant>("acme").await;
    let states = world.watch::<Tenant>("acme");
    world.replicas.deaf.lock().push("acme".into());
    world.apply(&ACME.replace("hostnames:", "suspended: true, hostnames:")).await;
    let hears = async {
        world.condition::<Tenant>("acme", "Ready", "False", "PartiallyProgrammed").await;
        world.replicas.deaf.lock().clear();
    };
    let (seen, ()) = tokio::join!(states_of_ready(states, 2), hears);
    assert_ne!(seen.first().unwrap().0, "True", "nobody served it yet");
    assert_eq!(seen.last().unwrap(), &("True".to_owned(), "Ready".to_owned()));
}

#[tokio::test]
async fn at_rest_nothing_is_written() {
    let mut world = World::with_operator().await;
    world.apply(ACME).await;
    world.ready::<Tenant>("acme").await;
    world.kill().await;
    let tenant: Tenant = world.get("acme").await;
    let config: ConfigMap = world.get("acme-tenant-config").await;
    let key: Secret = world.get("acme-signing-key").await;
    // A new process looks at everything; the second Tenant is its sign of life, and comes after the first in its queue.
    world.start();
    world.apply(&ACME.replace("acme", "beta")).await;
    world.ready::<Tenant>("beta").await;
    assert_eq!(tenant.resource_version(), world.get::<Tenant>("acme").await.resource_version());
    assert_eq!(config.resource_version(), world.get::<ConfigMap>("acme-tenant-config").await.resource_version());
    assert_eq!(key.resource_version(), world.get::<Secret>("acme-signing-key").await.resource_version());
}

#[tokio::test]
async fn drift_is_corrected_and_orphans_are_removed() {
    let world = World::with_operator().await;
    world.apply(ACME).await;
    world.ready::<Tenant>("acme").await;
    let config: ConfigMap = world.get("acme-tenant-config").await;
    let edited = json!({"data": {"tenant.json": "{}", "more.json": "{}"}});
    world.all::<ConfigMap>().patch("acme-tenant-config", &PatchParams::default(), &Patch::Merge(edited)).await.unwrap();
    let as_it_was = |stored: Option<&ConfigMap>| {
        stored.is_some_and(|stored| {
            stored.data.as_ref().unwrap()["tenant.json"] == config.data.as_ref().unwrap()["tenant.json"]
        })
    };
    world.until("acme-tenant-config", "what it was", as_it_was).await;
    world.delete::<ConfigMap>("acme-tenant-config").await;
    world.until("acme-tenant-config", "there again", as_it_was).await;

    let mut orphan = config.clone();
    orphan.metadata = kube::api::ObjectMeta {
        name: Some("acme-old".into()),
        labels: config.metadata.labels.clone(),
        ..Default::default()
    };
    world.all::<ConfigMap>().create(&PostParams::default(), &orphan).await.unwrap();
    world.until::<ConfigMap>("acme-old", "gone", |stored| stored.is_none()).await;
}

#[tokio::test]
async fn what_the_replicas_say_is_what_the_status_says() {
    let world = World::with_operator().await;
    world.replicas.deaf.lock().push("acme".into());
    world.apply(ACME).await;
    let behind = world.condition::<Tenant>("acme", "Programmed", "False", "PartiallyProgrammed").await;
    assert!(behind.message.starts_with("0 of 1 ready replicas serve revision "), "{}", behind.message);
    world.replicas.refusing.lock().push("acme".into());
    world.replicas.deaf.lock().clear();
    let refused = world.condition::<Tenant>("acme", "Programmed", "False", "RejectedByReplica").await;
    assert!(
        refused.message.ends_with("pod \"main-api-1\" refuses it and serves the one before: a field is new to me"),
        "{}",
        refused.message
    );
    world.replicas.refusing.lock().clear();
    world.ready::<Tenant>("acme").await;
}

#[tokio::test]
async fn a_new_signing_key_signs_when_every_replica_has_it_and_the_status_says_so() {
    let keys =
        |config: &ConfigMap| -> Vec<_> { document(config).auth.signing_keys.into_iter().map(|key| key.id).collect() };
    let world = World::with_operator().await;
    world.apply(ACME).await;
    let tenant = world.ready::<Tenant>("acme").await;
    let first = tenant.status.and_then(|status| status.signing_key).unwrap();
    assert_eq!((first.secret_name.as_str(), first.rotation.as_deref()), ("acme-signing-key", None));

    world.replicas.deaf.lock().push("acme".into());
    let asked = json!({"metadata": {"annotations": {"tenantry.dev/rotate-signing-key": "leaked"}}});
    world.all::<Tenant>().patch("acme", &PatchParams::default(), &Patch::Merge(asked)).await.unwrap();
    world.condition::<Tenant>("acme", "Programmed", "False", "PartiallyProgrammed").await;
    let two = |config: Option<&ConfigMap>| config.is_some_and(|config| keys(config).len() == 2);
    let introduced = keys(&world.until("acme-tenant-config", "with a second key", two).await.unwrap());
    assert_eq!((introduced.len(), introduced[0].as_str()), (2, "acme-signing-key"), "the new one only verifies");

    world.replicas.deaf.lock().clear();
    let carried_out = |tenant: Option<&Tenant>| {
        let key = tenant.and_then(|tenant| tenant.status.as_ref()?.signing_key.as_ref());
        key.is_some_and(|key| key.rotation.as_deref() == Some("leaked") && key.secret_name == introduced[1])
    };
    world.until::<Tenant>("acme", "the rotation was carried out", carried_out).await;
    world.ready::<Tenant>("acme").await;
    assert_eq!(keys(&world.get("acme-tenant-config").await), [introduced[1].clone(), introduced[0].clone()]);
    assert_eq!(
        world.all::<Secret>().list(&ListParams::default()).await.unwrap().items.len(),
        5,
        "one new key, and no more"
    );
}

#[tokio::test]
async fn a_hostname_goes_to_the_older_tenant_and_is_inherited_when_that_goes() {
    let world = World::with_operator().await;
    world.apply(ACME).await;
    world.ready::<Tenant>("acme").await;
    // In one second the name decides, and "zeta" comes after "acme".
    world.apply("kind: Tenant\nmetadata: {name: zeta}\nspec: {hostnames: [acme.example, zeta.example]}").await;
    let lost = world.condition::<Tenant>("zeta", "Accepted", "False", "Conflicted").await;
    assert!(lost.message.contains("\"acme.example\" is held by the older Tenant \"acme\""), "{}", lost.message);
    world.condition::<Tenant>("zeta", "Programmed", "True", "Programmed").await;
    let config: ConfigMap = world.get("zeta-tenant-config").await;
    assert_eq!(document(&config).hostnames.iter().map(ToString::to_string).collect::<Vec<_>>(), ["zeta.example"]);
    world.apply(&ACME.replace("acme.example, ", "")).await;
    world.ready::<Tenant>("zeta").await;
}

#[tokio::test]
async fn a_tenant_that_needs_mail_says_so_until_its_platform_has_a_mail_server() {
    let world = World::with_operator().await;
    world.apply(&ACME.replace("hostnames:", "auth: {emailVerification: Required}, hostnames:")).await;
    let told = world.condition::<Tenant>("acme", "Accepted", "False", "MailNotConfigured").await;
    assert!(told.message.contains("spec.mail.smtp"), "{}", told.message);
    world.condition::<Tenant>("acme", "Programmed", "True", "Programmed").await;
    world.condition::<Tenant>("acme", "Ready", "False", "MailNotConfigured").await;
    world.warned("acme", "MailNotConfigured").await;

    world.apply(&PLATFORM.replace("spec: {", "spec: {mail: {smtp: {host: mail.example, from: a@b.example}}, ")).await;
    world.ready::<Tenant>("acme").await;
    world.apply(PLATFORM).await;
    world.condition::<Tenant>("acme", "Ready", "False", "MailNotConfigured").await;
}

#[tokio::test]
async fn a_tenant_that_retains_is_forgotten_by_the_api_and_found_again() {
    let world = World::with_operator().await;
    world.apply(ACME).await;
    let id = world.ready::<Tenant>("acme").await.status.unwrap().tenant_id;
    world.delete::<Tenant>("acme").await;
    world.until::<Tenant>("acme", "gone", |tenant| tenant.is_none()).await;
    world.until::<ConfigMap>("acme-tenant-config", "gone", |config| config.is_none()).await;
    world.apply(ACME).await;
    assert_eq!(world.ready::<Tenant>("acme").await.status.unwrap().tenant_id, id);
}

#[tokio::test]
async fn a_tenant_that_deletes_goes_when_its_data_is_gone() {
    let world = World::with_operator().await;
    world.apply(&ACME.replace("hostnames:", "deletionPolicy: Delete, hostnames:")).await;
    let id = world.ready::<Tenant>("acme").await.status.unwrap().tenant_id.unwrap();
    let template = json!({
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "api", "image": "registry/tenantry-api:1", "args": ["serve"], "env": [{"name": "DATABASE_URL", "value": "postgres://db"}]}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "main-api-blue"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
    });
    if world.all::<Deployment>().get_opt("main-api-blue").await.unwrap().is_none() {
        world
            .all::<Deployment>()
            .create(&PostParams::default(), &serde_json::from_value(deployment).unwrap())
            .await
            .unwrap();
    }
    world.delete::<Tenant>("acme").await;
    let job = world.until::<Job>("acme-purge", "there", |job| job.is_some()).await.unwrap();
    let container = &job.spec.unwrap().template.spec.unwrap().containers[0];
    assert_eq!(container.args.as_ref().unwrap(), &["job", "purge-tenant", "--tenant-id", &id]);
    assert!(
        world.all::<ConfigMap>().get_opt("acme-tenant-config").await.unwrap().is_none(),
        "data goes after the API has forgotten"
    );
    let ready = world.condition::<Tenant>("acme", "Ready", "False", "Deleting").await;
    assert_eq!(ready.message, "the tenant's data is being deleted");
    let times = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z", "succeeded": 1});
    let mut status = json!({"status": times});
    status["status"]["conditions"] = json!([
        {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
        {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
    ]);
    world.all::<Job>().patch_status("acme-purge", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    world.until::<Tenant>("acme", "gone", |tenant| tenant.is_none()).await;
}

#[tokio::test]
async fn an_operator_that_dies_in_the_middle_is_taken_over_from_where_it_was() {
    let mut world = World::new().await;
    for round in 0..5 {
        world.start();
        world.apply(&ACME.replace("hostnames:", &format!("displayName: Round {round}, hostnames:"))).await;
        // Somewhere between the finalizer, the key, the document and the status.
        match round {
            0 => drop(world.until::<Tenant>("acme", "held", |t| t.is_some_and(|t| !t.finalizers().is_empty())).await),
            1 => drop(world.until::<Secret>("acme-signing-key", "there", |key| key.is_some()).await),
            _ => drop(world.until::<ConfigMap>("acme-tenant-config", "there", |config| config.is_some()).await),
        }
        world.kill().await;
    }
    world.start();
    world.ready::<Tenant>("acme").await;
    let config: ConfigMap = world.get("acme-tenant-config").await;
    assert_eq!(document(&config).display_name, "Round 4");
}

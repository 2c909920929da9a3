use crds::{Platform, RoleBinding, Tenant};
use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{PLATFORM, World};

const ACME: &str = "metadata: {name: acme}\nspec: {hostnames: [acme.example]}";
const DOCUMENT: &str = "acme-tenant-config";

fn revision(document: &ConfigMap) -> Option<String> {
    document.annotations().get(contract::names::ANNOTATION_REVISION).cloned()
}

#[tokio::test]
async fn a_document_follows_a_binding_that_comes_and_goes() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(PLATFORM).await;
    world.apply::<Tenant>(ACME).await;
    let alone = revision(&world.until(DOCUMENT, "there", |_: &ConfigMap| true).await);
    let admins = "metadata: {name: admins}\nspec: {tenantRef: {name: acme}, roleRef: {name: ADMIN}, subjects: [{kind: User, name: a@acme.example}]}";
    world.apply::<RoleBinding>(admins).await;
    world.until(DOCUMENT, "bound", |document| revision(document) != alone).await;
    world.api::<RoleBinding>().delete("admins", &DeleteParams::default()).await.unwrap();
    world.until(DOCUMENT, "as before", |document| revision(document) == alone).await;
}

#[tokio::test]
async fn a_document_that_somebody_touched_is_put_back() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(PLATFORM).await;
    world.apply::<Tenant>(ACME).await;
    let written = world.until(DOCUMENT, "there", |_: &ConfigMap| true).await;
    let patch = Patch::Merge(json!({ "data": { "tenant.json": "{}" } }));
    world.api::<ConfigMap>().patch(DOCUMENT, &PatchParams::default(), &patch).await.unwrap();
    world.until(DOCUMENT, "put back", |document: &ConfigMap| document.data == written.data).await;
}

#[tokio::test]
async fn a_malformed_object_hurts_only_itself() {
    let world = World::new().await;
    // Stored while the definition allowed it.
    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    let open = json!({ "spec": { "versions": [{
        "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
        "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
    }] } });
    definitions.patch("tenants.tenantry.dev", &PatchParams::default(), &Patch::Merge(&open)).await.unwrap();
    world.apply::<ConfigMap>("metadata: {name: unrelated}").await;
    let broken = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": "broken" }, "spec": { "hostnames": 5 },
    });
    let resource = kube::api::ApiResource::erase::<Tenant>(&());
    let dynamic =
        Api::<kube::api::DynamicObject>::namespaced_with(world.client.clone(), crate::world::NAMESPACE, &resource);
    dynamic.patch("broken", &PatchParams::apply("kubectl").force(), &Patch::Apply(&broken)).await.unwrap();

    let _operator = world.operator("operator-0");
    world.apply::<Platform>(PLATFORM).await;
    world.apply::<Tenant>(ACME).await;
    world.until(DOCUMENT, "there", |_: &ConfigMap| true).await;
    let event = world.event("Malformed").await;
    assert_eq!(event.regarding.unwrap().name.as_deref(), Some("broken"));
    assert!(event.note.unwrap().contains("its last good version stays in force"));

    // It says so itself, once, and no longer than it is so.
    let ready = |object: &kube::api::DynamicObject| {
        let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default()
    };
    let told = loop {
        let told = dynamic.get("broken").await.unwrap();
        if ready(&told)["reason"] == "Malformed" {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!((&ready(&told)["status"], &ready(&told)["observedGeneration"]), (&json!("False"), &json!(1)));
    assert!(ready(&told)["message"].as_str().unwrap().contains("correct that field"), "{}", ready(&told));
    world.apply::<Tenant>("metadata: {name: later}\nspec: {hostnames: [later.example]}").await;
    let judged = |tenant: &Tenant| tenant.status.as_ref().is_some_and(|status| status.observed_generation.is_some());
    world.until("later", "judged", judged).await;
    let version = |object: &kube::api::DynamicObject| object.metadata.resource_version.clone();
    assert_eq!(version(&dynamic.get("broken").await.unwrap()), version(&told));
    let corrected = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": "broken" },
        "spec": { "hostnames": ["broken.example"] },
    });
    dynamic.patch("broken", &PatchParams::apply("kubectl").force(), &Patch::Apply(&corrected)).await.unwrap();
    world.until("broken", "judged", judged).await;
    assert_ne!(ready(&dynamic.get("broken").await.unwrap())["reason"], "Malformed");
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    let (world, operator) = World::operated().await;
    world.platform().await;
    world.migrated(None, "Complete").await;
    world.apply::<Tenant>(ACME).await;
    let judged = |name: &'static str| {
        let judged = |tenant: &Tenant| {
            tenant
                .status
                .as_ref()
                .is_some_and(|s| s.observed_generation.is_some() && !s.conditions.iter().any(|c| c.status == "Unknown"))
        };
        world.until(name, "judged", judged)
    };
    judged("acme").await;
    world.until("main", "rolling out", crate::world::says("Ready", "RollingOut")).await;
    operator.stop().await;

    let versions = async || {
        let version = |meta: kube::api::ObjectMeta| meta.resource_version;
        (
            version(world.api::<Tenant>().get("acme").await.unwrap().metadata),
            version(world.api::<ConfigMap>().get(DOCUMENT).await.unwrap().metadata),
            version(world.api::<k8s_openapi::api::apps::v1::Deployment>().get("main-api-blue").await.unwrap().metadata),
        )
    };
    let before = versions().await;
    // A new operator looks at everything once; that it worked through one Tenant more says that it has.
    let operator = world.operator("operator-1");
    world.apply::<Tenant>("metadata: {name: later}\nspec: {hostnames: [later.example]}").await;
    judged("later").await;
    operator.stop().await;
    assert_eq!(before, versions().await);
}

//! What is attached to a Tenant: bindings, providers, policies.

use crds::{PaymentProvider, RateLimitPolicy, RoleBinding, Tenant};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{life::ACME, world::World};

const VENDORS: &str = "
kind: RoleBinding
metadata: {name: vendors}
spec: {tenantRef: {name: acme}, roleRef: {name: VENDOR}, subjects: [{kind: User, name: bob@acme.example}]}
";

const STRIPE: &str = "
kind: Secret
metadata: {name: acme-stripe}
stringData: {secret-key: sk_test_1, webhook: whsec_1}
---
kind: PaymentProvider
metadata: {name: stripe}
spec:
  tenantRef: {name: acme}
  type: Stripe
  mode: Test
  default: true
  stripe: {secretKeySecretRef: {name: acme-stripe, key: secret-key}, webhookSigningSecretRefs: [{name: acme-stripe, key: webhook}]}
";

const LIMIT: &str = "
kind: RateLimitPolicy
metadata: {name: acme}
spec: {targetRef: {kind: Tenant, name: acme}, limits: {all: {rates: [{limit: 10, window: 1m}]}}}
";

async fn revision(world: &World) -> String {
    world.get::<ConfigMap>("acme-tenant-config").await.annotations()["tenantry.dev/revision"].clone()
}

#[tokio::test]
async fn whatever_comes_first_all_of_it_is_ready_in_the_end() {
    let world = World::with_operator().await;
    world.apply(&[VENDORS, LIMIT].join("---\n")).await;
    let orphan = world.condition::<RoleBinding>("vendors", "ResolvedRefs", "False", "TenantNotFound").await;
    assert!(orphan.message.contains("there is no Tenant \"acme\" in this namespace: create it"), "{}", orphan.message);
    world.condition::<RateLimitPolicy>("acme", "Accepted", "False", "TargetNotFound").await;
    world.apply(ACME).await;
    world.apply(STRIPE).await;
    let binding: RoleBinding = world.ready("vendors").await;
    assert_eq!(binding.status.unwrap().subjects, 1);
    let policy: RateLimitPolicy = world.ready("acme").await;
    assert_eq!(policy.status.unwrap().effective_limits, 1);
    let provider = world.ready::<PaymentProvider>("stripe").await.status.unwrap();
    assert_eq!(provider.webhook_url.as_deref(), Some("https://acme.example/api/v1/payments/webhook"));
    let secret: Secret = world.get("acme-stripe").await;
    assert_eq!(provider.credentials.unwrap().resource_version, secret.resource_version().unwrap());
    let status = world.ready::<Tenant>("acme").await.status.unwrap();
    assert_eq!((status.bindings, status.providers, status.policies), (1, 1, 1));
}

#[tokio::test]
async fn a_changed_limit_and_a_revoked_role_make_a_new_revision() {
    let world = World::with_operator().await;
    world.apply(&[ACME, VENDORS, LIMIT].join("---\n")).await;
    world.ready::<RateLimitPolicy>("acme").await;
    world.ready::<RoleBinding>("vendors").await;
    let before = revision(&world).await;
    world.apply(&LIMIT.replace("limit: 10", "limit: 20")).await;
    world.ready::<RateLimitPolicy>("acme").await;
    let raised = revision(&world).await;
    assert_ne!(raised, before);
    world.delete::<RoleBinding>("vendors").await;
    world
        .until::<Tenant>("acme", "without bindings", |t| {
            t.is_some_and(|t| t.status.as_ref().is_some_and(|s| s.bindings == 0))
        })
        .await;
    assert_ne!(revision(&world).await, raised);
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_and_a_lost_one_keeps_the_last_good() {
    let world = World::with_operator().await;
    world.apply(&[ACME, STRIPE].join("---\n")).await;
    let first = world.ready::<PaymentProvider>("stripe").await.status.unwrap().credentials.unwrap();
    let before = revision(&world).await;
    world.apply(&STRIPE.replace("sk_test_1", "sk_test_2")).await;
    let rotated = |provider: Option<&PaymentProvider>| {
        let credentials = provider.and_then(|provider| provider.status.as_ref()?.credentials.clone());
        credentials.is_some_and(|now| now.resource_version != first.resource_version && now.last_rotated_time.is_some())
    };
    world.until("stripe", "with rotated credentials", rotated).await;
    let taken = revision(&world).await;
    assert_ne!(taken, before);
    world.delete::<Secret>("acme-stripe").await;
    let lost = world.condition::<PaymentProvider>("stripe", "ResolvedRefs", "False", "SecretNotFound").await;
    assert!(
        lost.message.contains("Secret \"acme-stripe\" does not exist in this namespace: create it"),
        "{}",
        lost.message
    );
    let told = world.condition::<Tenant>("acme", "ResolvedRefs", "False", "SecretNotFound").await;
    assert!(told.message.starts_with("PaymentProvider \"stripe\": "), "{}", told.message);
    assert_eq!(revision(&world).await, taken);
    world.apply(STRIPE).await;
    world.ready::<PaymentProvider>("stripe").await;
    world.ready::<Tenant>("acme").await;
}

#[tokio::test]
async fn a_platforms_override_is_told_to_the_tenants_policy() {
    let world = World::with_operator().await;
    world.apply(&[ACME, LIMIT].join("---\n")).await;
    world.ready::<RateLimitPolicy>("acme").await;
    world.apply("kind: RateLimitPolicy\nmetadata: {name: house}\nspec: {targetRef: {kind: Platform, name: main}, overrides: {limits: {all: {rates: [{limit: 1, window: 1s}]}}}}").await;
    let told = world.condition::<RateLimitPolicy>("acme", "Programmed", "False", "Overridden").await;
    assert_eq!(told.message, "none of its limits holds: RateLimitPolicy \"house\" decides");
    let status = world.get::<RateLimitPolicy>("acme").await.status.unwrap();
    assert_eq!((status.effective_limits, status.overridden_by[0].name.as_str()), (0, "house"));
    assert_eq!(status.ancestors[0].ancestor_ref.name, "acme");
    world.ready::<RateLimitPolicy>("house").await;
    world.delete::<RateLimitPolicy>("house").await;
    world.ready::<RateLimitPolicy>("acme").await;
}

#[tokio::test]
async fn of_two_defaults_the_younger_is_told_and_inherits() {
    let world = World::with_operator().await;
    world.apply(&[ACME, STRIPE].join("---\n")).await;
    world.ready::<PaymentProvider>("stripe").await;
    world.apply(&STRIPE.replace("name: stripe}", "name: ztripe}")).await;
    let told = world.condition::<PaymentProvider>("ztripe", "Accepted", "False", "Conflicted").await;
    assert!(
        told.message.starts_with("PaymentProvider \"stripe\" is older and the tenant's default"),
        "{}",
        told.message
    );
    world.delete::<PaymentProvider>("stripe").await;
    world.ready::<PaymentProvider>("ztripe").await;
}

#[tokio::test]
async fn a_malformed_object_hurts_only_itself() {
    let world = World::new().await;
    // As after a CRD that was laxer: the stored object does not fit the kind.
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let lax = json!({"spec": {"versions": [{
        "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    }]}});
    definitions.patch("rolebindings.tenantry.dev", &PatchParams::default(), &Patch::Merge(lax)).await.unwrap();
    world.apply(&[ACME, VENDORS].join("---\n")).await;
    world
        .apply("kind: RoleBinding\nmetadata: {name: broken}\nspec: {tenantRef: {name: acme}, subjects: nonsense}")
        .await;
    let mut world = world;
    world.start();
    world.ready::<RoleBinding>("vendors").await;
    world.ready::<Tenant>("acme").await;
}

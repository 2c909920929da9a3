//! What stands around the API's pods: autoscalers, routes, monitors, and the kinds of other projects they need.

use std::{fs, path::Path};

use crds::Platform;
use k8s_openapi::{
    api::{
        apps::v1::Deployment, autoscaling::v1::Scale, autoscaling::v2::HorizontalPodAutoscaler,
        policy::v1::PodDisruptionBudget,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use operator::peers::{HttpRoute, PodMonitor, ScaledObject};
use serde_json::json;

use crate::world::{PLATFORM, World, says, within};

const SCALED: &str = "autoscaling: {minReplicas: 3, maxReplicas: 9, targetCPUUtilizationPercentage: 70, targetRequestsInFlightPerPod: 50}\n  resources: {requests: {cpu: 250m}}";

fn with(spec: &str) -> String {
    format!("{PLATFORM}  {spec}\n")
}

/// Installs a published definition of another project. False (and a loud line) where the schemas are not at hand.
async fn install(world: &World, file: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/peer-crds").join(file);
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("NOT CHECKED against its published schema: {} is not there", path.display());
        return false;
    };
    let definition: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &definition).await.unwrap();
    true
}

/// Waits until the Deployments of the Platform want this many pods.
async fn until_pods(world: &World, wanted: i32) {
    let reached = within(async {
        loop {
            let deployments = world.api::<Deployment>().list(&ListParams::default()).await.unwrap();
            let replicas = deployments.items.iter().filter_map(|deployment| deployment.spec.as_ref()?.replicas);
            if replicas.max() == Some(wanted) {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(reached.await.is_some(), "no Deployment wants {wanted} pods");
}

/// What an autoscaler does: it writes `/scale`.
async fn scales(world: &World, replicas: i32) {
    let scale = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let params = PatchParams { field_manager: Some("kube-controller-manager".into()), ..PatchParams::default() };
    let _: Scale = world.api::<Platform>().patch_scale("main", &params, &scale).await.unwrap();
}

#[tokio::test]
async fn the_autoscaler_decides_and_an_apply_without_a_number_leaves_its_number_alone() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    world.migrated(None, "Complete").await;
    until_pods(&world, 2).await;

    world.apply::<Platform>(&with(SCALED)).await;
    let autoscaler = world.until::<HorizontalPodAutoscaler>("main-api", "there", |_| true).await;
    let target = autoscaler.spec.scale_target_ref;
    assert_eq!((target.kind.as_str(), target.name.as_str()), ("Platform", "main"));
    until_pods(&world, 3).await;
    scales(&world, 7).await;
    until_pods(&world, 7).await;

    // The same manifest again, with something else in it: as GitOps does.
    world.apply::<Platform>(&with(&format!("{SCALED}\n  podAnnotations: {{team: payments}}"))).await;
    world
        .until::<Deployment>(&deployment(&world).await, "annotated", |deployment| {
            let template = deployment.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
            template.annotations.as_ref().is_some_and(|annotations| annotations.contains_key("team"))
        })
        .await;
    until_pods(&world, 7).await;
    assert_eq!(world.api::<Platform>().get("main").await.unwrap().spec.replicas, 7);

    // A manifest that names a number takes it back to that, as with every autoscaled workload.
    world.apply::<Platform>(&with(&format!("{SCALED}\n  replicas: 4"))).await;
    until_pods(&world, 4).await;

    world.apply::<Platform>(&with("replicas: 4")).await;
    world.gone::<HorizontalPodAutoscaler>("main-api").await;
    until_pods(&world, 4).await;
}

/// The one Deployment that there is.
async fn deployment(world: &World) -> String {
    let deployments = world.api::<Deployment>().list(&ListParams::default()).await.unwrap();
    deployments.items.first().unwrap().name_any()
}

#[tokio::test]
async fn an_autoscaler_that_cannot_measure_is_told_about_in_its_own_words() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    world.apply::<Platform>(&with("autoscaling: {maxReplicas: 9, targetCPUUtilizationPercentage: 70}")).await;
    world.until("main", "without a request", says("Degraded", "AutoscalerInactive")).await;
    world.apply::<Platform>(&with(SCALED)).await;
    world.until("main", "as declared", says("Degraded", "AsDeclared")).await;

    world.until::<HorizontalPodAutoscaler>("main-api", "there", |_| true).await;
    let condition = |status: &str| {
        json!({ "currentReplicas": 3, "desiredReplicas": 3, "conditions": [{ "type": "ScalingActive", "status": status,
            "reason": "FailedGetPodsMetric", "message": "no metrics adapter serves it" }] })
    };
    world.status::<HorizontalPodAutoscaler>("main-api", condition("False")).await;
    let platform = world.until("main", "degraded", says("Degraded", "AutoscalerInactive")).await;
    let conditions = platform.status.unwrap().conditions;
    let message = &crds::conditions::find(&conditions, "Degraded").unwrap().message;
    assert!(message.ends_with("no metrics adapter serves it"), "{message}");
    world.status::<HorizontalPodAutoscaler>("main-api", condition("True")).await;
    world.until("main", "well again", says("Degraded", "AsDeclared")).await;
}

#[tokio::test]
async fn a_single_pod_never_blocks_the_drain_of_its_node() {
    let (world, _operator) = World::operated().await;
    world.platform().await;
    let budget = world.until::<PodDisruptionBudget>("main-api", "there", |_| true).await.spec.unwrap();
    assert!(budget.min_available.is_none());
    assert_eq!(budget.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
}

#[tokio::test]
async fn a_route_is_made_and_what_its_gateway_says_is_repeated() {
    let world = World::new().await;
    if !install(&world, "gateway-httproutes.yaml").await {
        return;
    }
    let _operator = world.operator("operator-0");
    let gateway = with("gateway: {parentRefs: [{name: public, namespace: infra}], hosts: [\"*.pay.example\"]}");
    world.apply::<Platform>(&gateway).await;
    let route = world.until::<HttpRoute>("main-api", "there", |_| true).await;
    assert_eq!(
        (route.spec.hostnames.as_slice(), route.spec.rules[0].backend_refs[0].port),
        (&["*.pay.example".to_owned()][..], 80)
    );
    world.until("main", "waiting for the Gateway", says("Routed", "RouteNotAccepted")).await;
    let condition = |type_: &str| {
        json!({ "type": type_, "status": "True", "reason": type_, "message": "", "observedGeneration": route.metadata.generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let parents = json!({ "parents": [{ "controllerName": "example.com/gateway",
        "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "infra" },
        "conditions": [condition("Accepted"), condition("ResolvedRefs")] }] });
    world.status::<HttpRoute>("main-api", parents).await;
    world.until("main", "routed", says("Routed", "Routed")).await;

    world.api::<HttpRoute>().delete("main-api", &DeleteParams::default()).await.unwrap();
    world.until::<HttpRoute>("main-api", "made again", |again| again.uid() != route.uid()).await;
    world.apply::<Platform>(PLATFORM).await;
    world.gone::<HttpRoute>("main-api").await;
    world.until("main", "inside only", says("Routed", "ServiceOnly")).await;
}

#[tokio::test]
async fn a_monitor_says_of_every_series_whose_it_is() {
    let world = World::new().await;
    if !install(&world, "prometheus-podmonitors.yaml").await {
        return;
    }
    let _operator = world.operator("operator-0");
    world
        .apply::<Platform>(&with("observability: {serviceMonitor: true, serviceMonitorLabels: {release: prometheus}}"))
        .await;
    let monitor = world.until::<PodMonitor>("main-api", "there", |_| true).await;
    assert_eq!(monitor.labels().get("release").map(String::as_str), Some("prometheus"));
    let endpoint = &monitor.spec.pod_metrics_endpoints[0];
    let targets: Vec<_> = endpoint.relabelings.iter().map(|relabeling| relabeling.target_label.as_str()).collect();
    assert_eq!((endpoint.port.as_str(), targets), ("management", vec!["platform", "color", "release"]));
    assert_eq!(endpoint.relabelings[1].source_labels, ["__meta_kubernetes_pod_label_tenantry_dev_color"],);
    world.until("main", "as declared", says("Degraded", "AsDeclared")).await;
}

#[tokio::test]
async fn of_two_engines_one_scales() {
    let world = World::new().await;
    if !install(&world, "keda-scaledobjects.yaml").await {
        return;
    }
    let _operator = world.operator("operator-0");
    world.apply::<Platform>(&with(SCALED)).await;
    world.until::<HorizontalPodAutoscaler>("main-api", "there", |_| true).await;
    let keda = SCALED.replace("{min", "{engine: Keda, prometheus: {address: \"http://prometheus:9090\"}, min");
    world.apply::<Platform>(&with(&keda)).await;
    let scaled = world.until::<ScaledObject>("main-api", "there", |_| true).await;
    world.gone::<HorizontalPodAutoscaler>("main-api").await;
    let trigger = &scaled.spec.triggers[0];
    assert_eq!(
        trigger.metadata["query"],
        "sum(tenantry_http_requests_in_flight{namespace=\"shop\",platform=\"main\"})"
    );
    let not_ready = json!({ "conditions": [{ "type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "no such Prometheus" }] });
    world.status::<ScaledObject>("main-api", not_ready).await;
    world.until("main", "degraded", says("Degraded", "AutoscalerInactive")).await;
    world.apply::<Platform>(&with(SCALED)).await;
    world.until::<HorizontalPodAutoscaler>("main-api", "back", |_| true).await;
    world.gone::<ScaledObject>("main-api").await;
}

#[tokio::test]
async fn a_kind_that_is_installed_later_is_used_without_a_restart() {
    let (world, _operator) = World::operated().await;
    world.apply::<Platform>(&with("observability: {serviceMonitor: true}")).await;
    let platform = world.until("main", "without it", says("Degraded", "DependencyMissing")).await;
    let conditions = platform.status.unwrap().conditions;
    let message = &crds::conditions::find(&conditions, "Degraded").unwrap().message;
    assert!(message.contains("PodMonitor") && message.contains("install the Prometheus operator"), "{message}");
    if !install(&world, "prometheus-podmonitors.yaml").await {
        return;
    }
    world.until::<PodMonitor>("main-api", "there", |_| true).await;
    world.until("main", "as declared", says("Degraded", "AsDeclared")).await;
}

//! Blue and green with the whole operator: the test plays the kubelet, the pods and Prometheus.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, routing};
use crds::Platform;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::{World, says};

const COLOR: &str = "tenantry.dev/color";
const RELEASE: &str = "tenantry.dev/release";

/// What pods and Prometheus do, as the test wishes.
#[derive(Default)]
struct Moods {
    /// Images whose pods crash.
    crashing: BTreeSet<String>,
    /// What Prometheus answers; nothing is an empty vector.
    errors: Option<f64>,
}

struct Node {
    moods: Arc<Mutex<Moods>>,
    prometheus: String,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Node {
    async fn start(world: &World) -> Self {
        let moods = Arc::<Mutex<Moods>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = moods.clone();
        let query = routing::post(move || {
            let series =
                asked.lock().unwrap().errors.map(|value| json!({ "metric": {}, "value": [1, value.to_string()] }));
            let result: Vec<Value> = series.into_iter().collect();
            async move { Json(json!({ "status": "success", "data": { "resultType": "vector", "result": result } })) }
        });
        let held = routing::get(|| async { Json(json!({ "tenants": {} })) });
        let router = Router::new().route("/api/v1/query", query).route("/internal/config", held);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let (client, mine) = (world.client.clone(), moods.clone());
        let kubelet = tokio::spawn(async move {
            loop {
                let deployments = kube::Api::<Deployment>::namespaced(client.clone(), crate::world::NAMESPACE);
                let pods = kube::Api::<Pod>::namespaced(client.clone(), crate::world::NAMESPACE);
                for deployment in deployments.list(&ListParams::default()).await.unwrap() {
                    run(&deployments, &pods, &deployment, port, &mine).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { moods, prometheus: format!("http://127.0.0.1:{port}"), tasks: [server, kubelet] }
    }
}

/// Brings a Deployment's pods to what it says, all at once.
async fn run(
    deployments: &kube::Api<Deployment>,
    pods: &kube::Api<Pod>,
    deployment: &Deployment,
    port: u16,
    moods: &Mutex<Moods>,
) {
    let (name, spec) = (deployment.name_any(), deployment.spec.clone().unwrap());
    let labels = spec.template.metadata.clone().unwrap_or_default().labels.unwrap_or_default();
    let release = labels.get(RELEASE).cloned().unwrap_or_default();
    let image = spec.template.spec.unwrap().containers[0].image.clone().unwrap();
    let crashes = moods.lock().unwrap().crashing.contains(&image);
    let wanted: BTreeSet<_> = (0..spec.replicas.unwrap_or(1)).map(|n| format!("{name}-{release}-{n}")).collect();
    let there: Vec<_> = pods.list(&ListParams::default()).await.unwrap().items;
    for pod in there.iter().filter(|pod| pod.labels().get("of") == Some(&name) && !wanted.contains(&pod.name_any())) {
        let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
    }
    for pod in wanted.iter().filter(|wanted| there.iter().all(|pod| pod.name_any() != **wanted)) {
        let mut labels = labels.clone();
        labels.insert("of".into(), name.clone());
        let ports = json!([{ "name": "management", "containerPort": port }]);
        let object = json!({
            "metadata": { "name": pod, "labels": labels },
            "spec": { "containers": [{ "name": "api", "image": image, "ports": ports }] },
        });
        let _ = pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
        let state =
            if crashes { json!({ "waiting": { "reason": "CrashLoopBackOff" } }) } else { json!({ "running": {} }) };
        let container = json!({
            "name": "api", "image": image, "imageID": "", "ready": !crashes, "state": state,
            "restartCount": if crashes { 4 } else { 0 },
            "lastState": if crashes { json!({ "terminated": { "exitCode": 3, "reason": "Error" } }) } else { json!({}) },
        });
        let ready = json!([{ "type": "Ready", "status": if crashes { "False" } else { "True" } }]);
        let status =
            json!({ "status": { "podIP": "127.0.0.1", "conditions": ready, "containerStatuses": [container] } });
        let _ = pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(status)).await;
    }
    let (count, ready) = (wanted.len(), if crashes { 0 } else { wanted.len() });
    let status = json!({
        "observedGeneration": deployment.metadata.generation, "replicas": count, "updatedReplicas": count,
        "readyReplicas": ready, "availableReplicas": ready,
    });
    if serde_json::to_value(&deployment.status).unwrap() != status {
        let _ =
            deployments.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await;
    }
}

fn platform(tag: u32, rollout: &str) -> String {
    format!(
        "metadata: {{name: main}}\nspec:\n  image: {{repository: tenantry-api, tag: \"{tag}\"}}\n  \
         postgres: {{external: {{secretRef: {{name: db}}}}}}\n  redis: {{external: {{secretRef: {{name: cache}}}}}}\n  \
         rollout: {{strategy: BlueGreen, {rollout}}}\n"
    )
}

/// Release 1 serves in blue.
async fn serving(world: &World, rollout: &str) -> String {
    world.secret("db", "uri", "postgres://tenantry@db/app").await;
    world.secret("cache", "uri", "redis://cache").await;
    world.apply::<Platform>(&platform(1, rollout)).await;
    let job = world.migrated(None, "Complete").await;
    let is_idle = |platform: &Platform| phase(platform) == "Idle" && says("Ready", "Ready")(platform);
    world.until("main", "serving release 1", is_idle).await;
    assert_eq!(selected(world).await, "blue");
    job
}

async fn declare(world: &World, tag: u32, rollout: &str, migrated: &str) {
    world.apply::<Platform>(&platform(tag, rollout)).await;
    world.migrated(Some(migrated), "Complete").await;
}

async fn selected(world: &World) -> String {
    color_of(&world.api::<Service>().get("main-api").await.unwrap())
}

fn color_of(service: &Service) -> String {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    selector.get(COLOR).cloned().unwrap_or_default()
}

fn phase(platform: &Platform) -> String {
    let rollout = platform.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.map(|rollout| rollout.phase.as_str().to_owned()).unwrap_or_default()
}

fn is(wanted: &'static str) -> impl Fn(&Platform) -> bool {
    move |platform| phase(platform) == wanted
}

fn message(platform: &Platform, type_: &str) -> String {
    let conditions = &platform.status.as_ref().unwrap().conditions;
    crds::conditions::find(conditions, type_).unwrap().message.clone()
}

async fn command(world: &World, value: &str) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "tenantry.dev/rollout": value } } }));
    world.api::<Platform>().patch("main", &PatchParams::default(), &patch).await.unwrap();
}

fn obeyed(platform: &Platform) -> bool {
    !platform.annotations().contains_key("tenantry.dev/rollout")
}

#[tokio::test]
async fn a_new_release_takes_over_and_the_old_one_goes_after_the_delay() {
    let (world, _operator) = World::operated().await;
    let _node = Node::start(&world).await;
    let rollout = "scaleDownDelaySeconds: 2";
    let job = serving(&world, rollout).await;
    declare(&world, 2, rollout, &job).await;
    world.until::<Service>("main-api", "switched", |service| color_of(service) == "green").await;
    let promoted = world.until("main", "promoted", is("Promoted")).await;
    assert!(says("Ready", "Ready")(&promoted) && says("Progressing", "Promoted")(&promoted));
    let size = |deployment: &Deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let blue = world.api::<Deployment>().get("main-api-blue").await.unwrap();
    assert_eq!(size(&blue), Some(2), "going back is immediate");
    let idle = world.until("main", "idle", is("Idle")).await;
    world.until::<Deployment>("main-api-blue", "gone", |blue| size(blue) == Some(0)).await;
    let status = idle.status.unwrap();
    assert_eq!(status.active_revision, status.stable_revision);
    assert_eq!(status.rollout.unwrap().history.len(), 2);
    assert_eq!(world.event("Promoted").await.regarding.unwrap().name.as_deref(), Some("main"));
}

#[tokio::test]
async fn a_release_that_crashes_is_rolled_back_and_not_tried_again() {
    let (world, _operator) = World::operated().await;
    let node = Node::start(&world).await;
    let rollout = "scaleDownDelaySeconds: 1";
    let job = serving(&world, rollout).await;
    node.moods.lock().unwrap().crashing.insert("tenantry-api:2".into());
    declare(&world, 2, rollout, &job).await;
    let back = world.until("main", "rolled back", says("Degraded", "RolledBack")).await;
    assert!(
        message(&back, "Degraded").contains("CrashLoopBackOff after 4 restarts (Error, exit code 3)"),
        "{}",
        message(&back, "Degraded")
    );
    assert!(says("Ready", "RolledBack")(&back) && says("Available", "Available")(&back));
    assert_eq!(selected(&world).await, "blue");
    assert!(world.event("RolledBack").await.note.unwrap().contains("CrashLoopBackOff"));

    node.moods.lock().unwrap().crashing.clear();
    let away = |green: &Deployment| green.status.as_ref().is_none_or(|status| status.replicas.unwrap_or(0) == 0);
    world.until("main-api-green", "scaled away", away).await;
    command(&world, "retry").await;
    world.until("main", "obeyed", obeyed).await;
    world.until::<Service>("main-api", "switched", |service| color_of(service) == "green").await;
}

#[tokio::test]
async fn an_empty_answer_never_promotes_and_a_bad_one_is_quoted() {
    let (world, operator) = World::operated().await;
    let node = Node::start(&world).await;
    let rollout = format!(
        "analysis: {{prometheus: {{address: \"{}\"}}, intervalSeconds: 5, count: 1, metrics: [{{name: errors, query: \
         'errors{{release=\"{{{{revision}}}}\"}}', thresholdRange: {{max: 0.01}}}}]}}",
        node.prometheus
    );
    let job = serving(&world, &rollout).await;
    declare(&world, 2, &rollout, &job).await;
    let empty =
        |platform: &Platform| is("Analyzing")(platform) && message(platform, "Progressing").contains("finds nothing");
    world.until("main", "without an answer", empty).await;
    // The next operator goes on with what this one had counted.
    operator.kill();
    let _second = world.operator("operator-1");
    node.moods.lock().unwrap().errors = Some(0.5);
    let back = world.until("main", "rolled back", says("Degraded", "RolledBack")).await;
    assert!(
        message(&back, "Ready").contains("metric errors is 0.5, wanted at most 0.01"),
        "{}",
        message(&back, "Ready")
    );
    assert_eq!(selected(&world).await, "blue");
}

#[tokio::test]
async fn a_person_promotes_and_goes_back_within_the_window_across_a_restart() {
    let (world, operator) = World::operated().await;
    let _node = Node::start(&world).await;
    let rollout = "autoPromotionEnabled: false, scaleDownDelaySeconds: 600";
    let job = serving(&world, rollout).await;
    declare(&world, 2, rollout, &job).await;
    world.until("main", "waiting", is("AwaitingPromotion")).await;
    let preview =
        world.until::<Service>("main-api-preview", "the newest", |service| color_of(service) == "green").await;
    assert!(preview.spec.unwrap().selector.unwrap().contains_key("tenantry.dev/platform"));
    operator.kill();
    let _second = world.operator("operator-1");
    command(&world, "promote").await;
    world.until::<Service>("main-api", "switched", |service| color_of(service) == "green").await;
    world.until("main", "obeyed", obeyed).await;
    world.until("main", "promoted", is("Promoted")).await;
    command(&world, "undo").await;
    world.until::<Service>("main-api", "back", |service| color_of(service) == "blue").await;
    let undone = world.until("main", "undone", is("Undone")).await;
    assert!(says("Degraded", "Undone")(&undone), "{undone:#?}");
}

#[tokio::test]
async fn an_earlier_release_comes_back_with_its_settings() {
    let (world, _operator) = World::operated().await;
    let _node = Node::start(&world).await;
    let rollout = "scaleDownDelaySeconds: 0";
    let job = serving(&world, rollout).await;
    let first = world.api::<Platform>().get("main").await.unwrap().status.unwrap().active_revision.unwrap();
    declare(&world, 2, rollout, &job).await;
    let done = |platform: &Platform| {
        is("Idle")(platform) && platform.status.as_ref().unwrap().active_revision.as_ref() != Some(&first)
    };
    world.until("main", "on release 2", done).await;
    command(&world, &format!("undo:{first}")).await;
    let back = world
        .until("main", "undone", |platform: &Platform| {
            is("Undone")(platform) && platform.status.as_ref().unwrap().active_revision.as_ref() == Some(&first)
        })
        .await;
    assert!(message(&back, "Ready").contains("annotate tenantry.dev/rollout=retry"));
    assert_eq!(selected(&world).await, "blue");
    let kept = world.api::<ConfigMap>().get(&format!("main-release-{first}")).await.unwrap();
    assert_eq!((kept.immutable, kept.data.unwrap()["TENANTRY_PORT"].as_str()), (Some(true), "8080"));
}

#[tokio::test]
async fn what_is_no_command_is_told_what_is() {
    let (world, _operator) = World::operated().await;
    let _node = Node::start(&world).await;
    serving(&world, "scaleDownDelaySeconds: 1").await;
    command(&world, "restart").await;
    world.until("main", "obeyed", obeyed).await;
    let refused = world.event("RolloutCommandRefused").await;
    assert!(refused.note.unwrap().contains("promote, abort, retry or undo"));
    assert_eq!(refused.type_.as_deref(), Some("Warning"));
}

#[tokio::test]
async fn pods_of_0_1_0_serve_until_the_first_colour_is_ready() {
    let world = World::new().await;
    let template = json!({ "metadata": { "labels": { "app": "x" } }, "spec": { "containers": [{ "name": "api", "image": "tenantry-api:0.1.0" }] } });
    let old = json!({
        "metadata": { "name": "main-api", "labels": { "tenantry.dev/platform": "main", "app.kubernetes.io/managed-by": "tenantry-operator" } },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "x" } }, "template": template },
    });
    world.api::<Deployment>().create(&PostParams::default(), &serde_json::from_value(old).unwrap()).await.unwrap();
    let _operator = world.operator("operator-0");
    world.secret("db", "uri", "postgres://tenantry@db/app").await;
    world.secret("cache", "uri", "redis://cache").await;
    world.apply::<Platform>(&platform(1, "scaleDownDelaySeconds: 1")).await;
    world.migrated(None, "Complete").await;
    world.until::<Deployment>("main-api-blue", "there", |_| true).await;
    assert_eq!(selected(&world).await, "", "every pod of the Platform, whatever its colour");
    let _node = Node::start(&world).await;
    world.until::<Service>("main-api", "taken over", |service| color_of(service) == "blue").await;
    world.gone::<Deployment>("main-api").await;
    world.until("main", "ready", says("Ready", "Ready")).await;
}

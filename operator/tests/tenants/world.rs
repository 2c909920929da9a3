//! A control plane in this process, the real operator against it, and replicas of the API that answer as they are told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use apiserver::Handle;
use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use clap::Parser;
use contract::names::{ANNOTATION_REVISION, LABEL_CONTRACT, LABEL_TENANT};
use crds::conditions;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Pod, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, wait, watcher},
};
use operator::{cli::Cli, kube_ext::Namespaced};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::{NAMESPACE, PATIENCE, control_plane};

/// How often a fake replica looks for news.
const LOOK: Duration = Duration::from_millis(20);

pub struct World {
    pub client: Client,
    pub replicas: Arc<Replicas>,
    running: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
    _control_plane: Handle,
}

/// What the fake replicas answer.
#[derive(Default)]
pub struct Replicas {
    /// Tenants that no replica has loaded.
    pub deaf: Mutex<Vec<String>>,
    /// Tenants whose documents every replica refuses.
    pub refusing: Mutex<Vec<String>>,
}

impl World {
    /// The kinds, a namespace, one Platform with its Secrets, and one replica; no operator yet.
    pub async fn new() -> Self {
        let (control_plane, client) = control_plane().await;
        let replicas = Arc::new(Replicas::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let documents = Api::namespaced(client.clone(), NAMESPACE);
        let router = Router::new().route("/internal/config", get(answer)).with_state((replicas.clone(), documents));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let world = Self { client, replicas, running: None, _control_plane: control_plane };
        world.apply(PLATFORM).await;
        world.replica("main-api-1", port).await;
        world
    }

    pub async fn with_operator() -> Self {
        let mut world = Self::new().await;
        world.start();
        world
    }

    pub fn start(&mut self) {
        let flags = ["tenantry-operator", "--leader-election=false", "--listen=127.0.0.1:0"];
        let stop = CancellationToken::new();
        let run = operator::run(Cli::parse_from(flags).settings, self.client.clone(), stop.clone());
        self.running = Some((stop, tokio::spawn(run)));
    }

    /// As `kill -9`: whatever it was at stays as it is.
    pub async fn kill(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }

    async fn replica(&self, name: &str, port: u16) {
        let labels = json!({
            "app.kubernetes.io/name": "tenantry-api",
            "app.kubernetes.io/instance": "main",
            "tenantry.dev/platform": "main",
        });
        let ports = json!([{"name": "management", "containerPort": port}]);
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "api", "image": "tenantry-api", "ports": ports}]},
        });
        let pods = self.all::<Pod>();
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let status = json!({"status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    pub fn all<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// `kubectl apply --server-side` of these documents.
    pub async fn apply(&self, yaml: &str) {
        for text in yaml.split("\n---\n").filter(|text| !text.trim().is_empty()) {
            let mut object: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let kind = object["kind"].as_str().unwrap().to_owned();
            object["apiVersion"] = if kind == "Secret" { "v1" } else { "tenantry.dev/v1alpha1" }.into();
            let done = match kind.as_str() {
                "Secret" => self.put::<Secret>(&name, &object).await,
                "Platform" => self.put::<crds::Platform>(&name, &object).await,
                "Tenant" => self.put::<crds::Tenant>(&name, &object).await,
                "RoleBinding" => self.put::<crds::RoleBinding>(&name, &object).await,
                "PaymentProvider" => self.put::<crds::PaymentProvider>(&name, &object).await,
                "RateLimitPolicy" => self.put::<crds::RateLimitPolicy>(&name, &object).await,
                other => panic!("no kind {other}"),
            };
            done.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        }
    }

    /// Untyped, so that what does not fit its kind can be put too.
    async fn put<K: Namespaced>(&self, name: &str, object: &Value) -> kube::Result<()> {
        let kind = ApiResource::erase::<K>(&());
        let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), NAMESPACE, &kind);
        let params = PatchParams::apply("test").force();
        objects.patch(name, &params, &Patch::Apply(object)).await.map(drop)
    }

    pub async fn delete<K: Namespaced>(&self, name: &str) {
        self.all::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn get<K: Namespaced>(&self, name: &str) -> K {
        self.all::<K>().get(name).await.unwrap()
    }

    /// Waits until the object is as described; `None` is an object that is gone.
    pub async fn until<K: Namespaced>(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(Option<&K>) -> bool + Send,
    ) -> Option<K> {
        let reached = wait::await_condition(self.all::<K>(), name, |object: Option<&K>| holds(object));
        if let Ok(object) = tokio::time::timeout(PATIENCE, reached).await {
            return object.unwrap();
        }
        let last = serde_json::to_string_pretty(&self.all::<K>().get_opt(name).await.unwrap()).unwrap();
        panic!("{} {name} never came to: {what}. It is {last}", K::kind(&()));
    }

    /// Waits for a condition of the newest generation; returns it.
    pub async fn condition<K: Namespaced>(&self, name: &str, type_: &str, status: &str, reason: &str) -> Condition {
        let wanted = |object: &K| {
            let (generation, list) = (object.meta().generation, conditions_of(object));
            let found = conditions::find(&list, type_)?;
            let holds = found.status == status && found.reason == reason && found.observed_generation == generation;
            holds.then(|| found.clone())
        };
        let what = format!("{type_}={status}/{reason}");
        let object = self.until::<K>(name, &what, |object| object.and_then(wanted).is_some()).await;
        object.as_ref().and_then(wanted).unwrap()
    }

    pub async fn ready<K: Namespaced>(&self, name: &str) -> K {
        self.condition::<K>(name, "Ready", "True", "Ready").await;
        self.get(name).await
    }

    /// Waits for a warning about an object of this name.
    pub async fn warned(&self, name: &str, reason: &str) {
        let mut events = watcher(self.all::<Event>(), watcher::Config::default()).applied_objects().boxed();
        let warned = async {
            while let Some(event) = events.try_next().await.unwrap() {
                let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
                let is = (event.type_.as_deref(), event.reason.as_deref()) == (Some("Warning"), Some(reason));
                if is && about == Some(name) {
                    return;
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, warned).await.is_ok(), "no warning {reason} about {name}");
    }

    /// Every state of the object from now on.
    pub fn watch<K: Namespaced>(&self, name: &str) -> impl futures::Stream<Item = K> + Unpin + use<K> {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let states = watcher(self.all::<K>(), config).applied_objects();
        states.map_err(|error| panic!("{error}")).filter_map(|object| async { object.ok() }).boxed()
    }
}

pub fn conditions_of<K: Serialize>(object: &K) -> Vec<Condition> {
    let value = serde_json::to_value(object).unwrap();
    serde_json::from_value(value["status"]["conditions"].clone()).unwrap_or_default()
}

/// Everything that a replica serves, when it is not what the cursor stands for any more.
async fn answer(
    State((replicas, documents)): State<(Arc<Replicas>, Api<ConfigMap>)>,
    Query(asked): Query<HashMap<String, String>>,
) -> Json<Value> {
    let since = asked.get("since").cloned();
    loop {
        let (mut tenants, mut rejected) = (serde_json::Map::new(), serde_json::Map::new());
        for document in documents.list(&ListParams::default().labels(LABEL_CONTRACT)).await.unwrap() {
            let (tenant, revision) = (&document.labels()[LABEL_TENANT], &document.annotations()[ANNOTATION_REVISION]);
            let mut serves = revision.as_str();
            if replicas.deaf.lock().contains(tenant) {
                continue;
            }
            if replicas.refusing.lock().contains(tenant) {
                rejected.insert(tenant.clone(), json!({"revision": revision, "error": "a field is new to me"}));
                serves = "0000000000000000";
            }
            tenants.insert(tenant.clone(), json!({"revision": serves, "loadedAt": "2026-01-01T00:00:00Z"}));
        }
        let told = json!({"tenants": tenants, "rejected": rejected});
        let cursor = hex::encode(Sha256::digest(told.to_string()));
        if since.as_ref() != Some(&cursor) {
            return Json(json!({"cursor": cursor, "whole": true, "tenants": tenants, "rejected": rejected}));
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub const PLATFORM: &str = "
kind: Secret
metadata: {name: db}
stringData: {uri: 'postgres://tenantry@db/tenantry'}
---
kind: Secret
metadata: {name: redis}
stringData: {uri: 'redis://redis'}
---
kind: Platform
metadata: {name: main}
spec: {postgres: {external: {secretRef: {name: db}}}, redis: {external: {secretRef: {name: redis}}}}
";

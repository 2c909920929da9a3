//! An API server with the kinds installed, and operators that run against it in process.

use std::{fmt::Debug, future::Future};

use apiserver::Handle;
use clap::Parser;
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{conditions::Condition, wait::await_condition},
};
use operator::{cli::Cli, kube_ext::Namespaced};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::common::NAMESPACE;
use crate::common::{PATIENCE, control_plane};

pub struct World {
    pub client: Client,
    _server: Handle,
}

/// An operator that runs until it is stopped (as by SIGTERM) or killed.
pub struct Operator {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl World {
    /// With the kinds and a namespace, and without an operator.
    pub async fn new() -> Self {
        let (server, client) = control_plane().await;
        Self { client, _server: server }
    }

    /// With an operator that leads.
    pub async fn operated() -> (Self, Operator) {
        let world = Self::new().await;
        let operator = world.operator("operator-0");
        (world, operator)
    }

    pub fn operator(&self, pod: &str) -> Operator {
        let arguments =
            ["tenantry-operator", "--pod-name", pod, "--listen", "127.0.0.1:0", "--api-image", "tenantry-api:1"];
        let settings = Cli::parse_from(arguments).settings;
        let stop = CancellationToken::new();
        let task = tokio::spawn(operator::run(settings, self.client.clone(), stop.clone()));
        Operator { stop, task }
    }

    pub fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Applies an object as a person would with `kubectl apply --server-side`.
    pub async fn apply<K: Namespaced>(&self, yaml: &str) -> K {
        let mut object: Value = serde_saphyr::from_str(yaml).unwrap();
        object["apiVersion"] = K::api_version(&()).into_owned().into();
        object["kind"] = K::kind(&()).into_owned().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("kubectl").force();
        self.api::<K>().patch(&name, &params, &Patch::Apply(&object)).await.unwrap()
    }

    pub async fn secret(&self, name: &str, key: &str, value: &str) {
        self.apply::<Secret>(&format!("metadata: {{name: {name}}}\nstringData: {{{key}: \"{value}\"}}")).await;
    }

    /// Writes a status, as the kubelet and the controllers of Kubernetes do.
    pub async fn status<K: Namespaced>(&self, name: &str, status: impl Serialize + Debug) {
        let patch = serde_json::json!({ "status": status });
        self.api::<K>().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until the object is so; fails with the object as it was seen last.
    pub async fn until<K: Namespaced>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool + Send) -> K {
        let condition = |object: Option<&K>| object.is_some_and(&holds);
        let waited = within(await_condition(self.api::<K>(), name, condition)).await;
        match waited {
            Some(object) => object.unwrap().unwrap(),
            None => panic!("{name} did not become {what}: {:#?}", self.api::<K>().get_opt(name).await),
        }
    }

    /// Waits until there is no such object.
    pub async fn gone<K: Namespaced>(&self, name: &str) {
        let absent = (|object: Option<&K>| object.is_none()).and(|_: Option<&K>| true);
        assert!(within(await_condition(self.api::<K>(), name, absent)).await.is_some(), "{name} is still there");
    }

    /// Waits for an event of this reason.
    pub async fn event(&self, reason: &str) -> Event {
        let list = ListParams::default();
        let found = within(async {
            loop {
                let events = self.api::<Event>().list(&list).await.unwrap();
                if let Some(event) = events.items.into_iter().find(|event| event.reason.as_deref() == Some(reason)) {
                    return event;
                }
                tokio::task::yield_now().await;
            }
        });
        found.await.unwrap_or_else(|| panic!("no event says {reason}"))
    }

    /// A Platform on external services whose Secrets exist.
    pub async fn platform(&self) {
        self.secret("db", "uri", "postgres://tenantry@db/app").await;
        self.secret("cache", "uri", "redis://cache").await;
        self.apply::<crds::Platform>(PLATFORM).await;
    }

    /// Ends the migration of Platform `main` and returns its Job's name.
    pub async fn migrated(&self, not: Option<&str>, outcome: &str) -> String {
        let jobs = self.api::<k8s_openapi::api::batch::v1::Job>();
        let found = within(async {
            loop {
                let list = jobs.list(&ListParams::default()).await.unwrap();
                if let Some(job) = list.items.iter().map(ResourceExt::name_any).find(|name| Some(name.as_str()) != not)
                {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        });
        let job = found.await.expect("a migration Job");
        let condition = serde_json::json!([{ "type": outcome, "status": "True", "message": "as the test says" }]);
        self.status::<k8s_openapi::api::batch::v1::Job>(&job, serde_json::json!({ "conditions": condition })).await;
        job
    }
}

pub const PLATFORM: &str = "
metadata: {name: main}
spec:
  postgres: {external: {secretRef: {name: db}}}
  redis: {external: {secretRef: {name: cache}}}
";

impl Operator {
    /// As by SIGTERM.
    pub async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.expect("it stops in time").unwrap().unwrap();
    }

    /// As by SIGKILL.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// The verdict of a condition: `("False", "SecretNotFound")`.
pub fn verdict<'a>(conditions: impl IntoIterator<Item = &'a Meta>, type_: &str) -> Option<(String, String)> {
    let condition = conditions.into_iter().find(|condition| condition.type_ == type_)?;
    Some((condition.status.clone(), condition.reason.clone()))
}

pub type Meta = k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Whether a Platform's condition has this reason.
pub fn says(type_: &'static str, reason: &'static str) -> impl Fn(&crds::Platform) -> bool {
    move |platform| {
        let conditions = platform.status.iter().flat_map(|status| &status.conditions);
        verdict(conditions, type_).is_some_and(|(_, found)| found == reason)
    }
}

pub async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

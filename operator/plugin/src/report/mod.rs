//! A support bundle: everything that helps to understand a problem, and nothing that must not leave.
//!
//! Values of Secrets are never asked for. Everything else goes through [`redact`], objects and logs alike.

use std::fmt::Write as _;

mod bundle;
pub mod redact;

use std::{fmt::Debug, path::PathBuf};

use anyhow::Result;
use contract::names::{LABEL_CONTRACT, LABEL_PLATFORM};
use crds::{PaymentProvider, Platform, RateLimitPolicy, RoleBinding, Tenant};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        coordination::v1::Lease,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
        events::v1::Event,
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, LogParams, PartialObjectMeta},
};
use serde_json::{Value, json};

use self::bundle::Bundle;
use crate::{
    Outcome,
    cli::{self, Looked},
    connect::Connection,
    output::{self, Failure, Format, Output},
    status, version,
};

pub async fn run(connection: &Connection, asked: &cli::Report, out: Output) -> Result<Outcome> {
    let now = connection.now;
    let mut gathered = Gathered { bundle: Bundle::default(), missing: Vec::new() };
    gathered.about(connection, now).await;
    gathered.namespace(connection, asked.log_lines).await;
    let operators = Connection { namespace: asked.operator_namespace.clone(), ..connection.clone() };
    if operators.namespace != connection.namespace {
        gathered.operator(&operators, asked.log_lines).await;
    }
    let Gathered { mut bundle, missing } = gathered;
    bundle.put("missing.txt", missing.join("\n"));
    let path = asked
        .to
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("tenantry-report-{}.tar.gz", now.strftime("%Y%m%d-%H%M%S"))));
    bundle.write(&path, now)?;
    let mut said = format!("{} files in {}; look through it before you send it on", bundle.len(), path.display());
    if !missing.is_empty() {
        let _ = write!(said, "; {} things could not be had, missing.txt says which", missing.len());
    }
    out.say(said)?;
    Ok(Outcome::Good)
}

struct Gathered {
    bundle: Bundle,
    /// What could not be had, and why.
    missing: Vec<String>,
}

impl Gathered {
    fn failed(&mut self, what: &str, error: impl Into<anyhow::Error>) {
        self.missing.push(redact::text(&format!("{what}: {}", Failure(&error.into()))));
    }

    /// Versions, and what `status` says.
    async fn about(&mut self, connection: &Connection, now: Timestamp) {
        let server = connection.client.apiserver_version().await;
        let versions = json!({
            "client": contract::version::describe(),
            "kubernetes": server.as_ref().map(|version| version.git_version.clone()).ok(),
            "images": version::images(connection).await,
            "time": now.to_string(),
            "namespace": connection.namespace,
        });
        self.object("version.yaml", &versions);
        if let Err(error) = server {
            self.failed("the cluster's version", error);
        }
        for (kind, file) in [(None, "status.txt"), (Some(Looked::Tenant), "tenants.txt")] {
            match status::gather(std::slice::from_ref(connection), kind, None, now).await {
                Ok(report) => self.bundle.put(file, redact::text(&report.human(now, output::Paint(false)))),
                Err(error) => self.failed(file, error),
            }
        }
    }

    /// What belongs to Tenantry in the namespace of its objects.
    async fn namespace(&mut self, connection: &Connection, lines: i64) {
        let all = ListParams::default();
        self.list::<Platform>(connection, &all).await;
        self.list::<Tenant>(connection, &all).await;
        self.list::<RoleBinding>(connection, &all).await;
        self.list::<PaymentProvider>(connection, &all).await;
        self.list::<RateLimitPolicy>(connection, &all).await;
        let ours = ListParams::default().labels(LABEL_PLATFORM);
        self.workload(connection, &ours, lines).await;
        self.list::<ConfigMap>(connection, &ours).await;
        self.list::<Ingress>(connection, &ours).await;
        self.list::<PersistentVolumeClaim>(connection, &ours).await;
        self.list::<StatefulSet>(connection, &ours).await;
        self.list::<CronJob>(connection, &ours).await;
        self.list::<EndpointSlice>(connection, &all).await;
        self.list::<HorizontalPodAutoscaler>(connection, &all).await;
        self.documents(connection).await;
        // Names, labels and owners: that a Secret is there says much, what is in it is nobody's business.
        let secrets = connection.api::<PartialObjectMeta<Secret>>().list(&all).await;
        match secrets {
            Ok(list) => {
                let metadata: Vec<_> = list.items.iter().map(|secret| clean(json!(secret.metadata))).collect();
                self.object(&format!("{}/secrets-metadata.yaml", connection.namespace), &json!(metadata));
            }
            Err(error) => self.failed("Secrets (their metadata)", error),
        }
    }

    async fn operator(&mut self, connection: &Connection, lines: i64) {
        let ours = ListParams::default().labels("app.kubernetes.io/part-of=tenantry");
        self.workload(connection, &ours, lines).await;
        self.list::<Lease>(connection, &ListParams::default()).await;
    }

    async fn workload(&mut self, connection: &Connection, ours: &ListParams, lines: i64) {
        self.list::<Deployment>(connection, ours).await;
        self.list::<ReplicaSet>(connection, ours).await;
        self.list::<Job>(connection, ours).await;
        self.list::<Service>(connection, ours).await;
        self.list::<PodDisruptionBudget>(connection, ours).await;
        self.list::<NetworkPolicy>(connection, ours).await;
        self.list::<Event>(connection, &ListParams::default().limit(2_000)).await;
        self.list::<Pod>(connection, ours).await;
        match connection.api::<Pod>().list(ours).await {
            Ok(pods) => {
                for pod in pods.items {
                    self.logs(connection, &pod, lines).await;
                }
            }
            Err(error) => self.failed("logs", error),
        }
    }

    /// Objects of one kind, as they are stored.
    async fn list<K>(&mut self, connection: &Connection, params: &ListParams)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Debug,
    {
        let kind = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(connection.client.clone(), &connection.namespace, &kind);
        match api.list(params).await {
            Ok(list) if list.items.is_empty() => {}
            Ok(list) => {
                let objects: Vec<_> = list.items.iter().map(|object| clean(json!(object))).collect();
                // Core RBAC has kinds of the same name.
                let file = format!("{}/{}.yaml", connection.namespace, K::plural(&()));
                self.object(&file, &json!(objects));
            }
            // In plain text where the kind is not served, which kube 5.0 does not recognize.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => self.failed(&format!("{} in {}", K::plural(&()), connection.namespace), error),
        }
    }

    /// Each tenant's effective configuration by itself.
    async fn documents(&mut self, connection: &Connection) {
        let documents = connection.api::<ConfigMap>().list(&ListParams::default().labels(LABEL_CONTRACT)).await;
        match documents {
            Ok(list) => {
                for document in list.items {
                    for (key, text) in document.data.iter().flatten() {
                        let file = format!("{}/documents/{}/{key}", connection.namespace, document.name_any());
                        self.bundle.put(&file, redact::text(text));
                    }
                }
            }
            Err(error) => self.failed("documents", error),
        }
    }

    async fn logs(&mut self, connection: &Connection, pod: &Pod, lines: i64) {
        let name = pod.name_any();
        let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        for container in containers {
            let restarted = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let restarted =
                restarted.into_iter().any(|status| status.name == container.name && status.restart_count > 0);
            for previous in [false, true].into_iter().take(1 + usize::from(restarted)) {
                let params = LogParams {
                    container: Some(container.name.clone()),
                    tail_lines: Some(lines),
                    previous,
                    ..LogParams::default()
                };
                let word = if previous { "-previous" } else { "" };
                let file = format!("{}/logs/{name}/{}{word}.log", connection.namespace, container.name);
                match connection.api::<Pod>().logs(&name, &params).await {
                    Ok(text) => self.bundle.put(&file, redact::text(&text)),
                    Err(error) => self.failed(&file, error),
                }
            }
        }
    }

    fn object(&mut self, file: &str, value: &Value) {
        match output::structured(Format::Yaml, value) {
            Ok(text) => self.bundle.put(file, redact::text(&text)),
            Err(error) => self.failed(file, error),
        }
    }
}

/// Without what only the API server reads, and without secrets.
fn clean(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    redact::value(&mut object);
    object
}

//! The built-in kinds as one table, and their schemas as k8s-openapi tells them.

mod around;
pub mod defaults;
mod event;
pub mod plugins;
mod pods;
pub mod rules;
mod security;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, OnceLock},
};

use k8s_openapi::{
    Resource,
    api::{
        admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authn,
        authorization::v1 as authz, autoscaling::v2 as autoscaling, batch::v1 as batch,
        coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, events::v1 as events,
        networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling,
        storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Status},
};
use parking_lot::Mutex;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::{
    registry::{Action, Kind, Scale, SchemaSource},
    schema::Schema,
};

type Definitions = Map<String, Value>;

/// The OpenAPI name of every definition the built-in kinds use, with its schema.
pub fn definitions() -> &'static Definitions {
    static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| {
        let mut settings = SchemaSettings::openapi3();
        settings.transforms.clear();
        let mut generator = settings.into_generator();
        for (_, register) in table() {
            register(&mut generator);
        }
        generator.subschema_for::<ObjectMeta>();
        generator.subschema_for::<DeleteOptions>();
        generator.subschema_for::<Status>();
        generator.take_definitions(false)
    });
    &DEFINITIONS
}

/// The compiled schema of a definition. Definitions shared by kinds (a pod's spec, metadata) are compiled once.
pub fn schema(definition: &str) -> Arc<Schema> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Schema>>>> = LazyLock::new(Mutex::default);
    crate::schema::compile_definition(definition, definitions(), &mut COMPILED.lock())
}

/// `metav1.ObjectMeta`, which every kind has.
pub fn object_meta() -> Arc<Schema> {
    schema(&ObjectMeta::schema_name())
}

pub fn kinds() -> Vec<Kind> {
    table().into_iter().map(|(kind, _)| kind).collect()
}

type Row = (Kind, fn(&mut SchemaGenerator));

fn row<T: Resource + JsonSchema>() -> Row {
    let group = T::GROUP.to_owned();
    let plural = T::URL_PATH_SEGMENT.to_owned();
    let kind = Kind {
        storage: format!("{group}/{plural}"),
        stored_as: T::API_VERSION.to_owned(),
        version: T::VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        list_kind: format!("{}List", T::KIND),
        singular: T::KIND.to_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        status: false,
        scale: None,
        actions: &[],
        generation: false,
        custom: false,
        schema: SchemaSource::Builtin { definition: T::schema_name().into_owned(), made: OnceLock::new() },
        columns: Vec::new(),
        selectable: Vec::new(),
        virtual_only: false,
        openapi: None,
        group,
        plural,
    };
    (kind, |generator| {
        generator.subschema_for::<T>();
    })
}

/// How a row of the table says what is special about its kind.
trait RowExt: Sized {
    fn edit(self, edit: impl FnOnce(&mut Kind)) -> Self;

    fn short(self, names: &[&str]) -> Self {
        self.edit(|kind| kind.short_names = names.iter().map(ToString::to_string).collect())
    }
    fn cluster(self) -> Self {
        self.edit(|kind| kind.namespaced = false)
    }
    fn status(self) -> Self {
        self.edit(|kind| kind.status = true)
    }
    fn generation(self) -> Self {
        self.edit(|kind| kind.generation = true)
    }
    /// Listed by `kubectl get all`.
    fn all(self) -> Self {
        self.edit(|kind| kind.categories = vec!["all".into()])
    }
    fn scale(self) -> Self {
        let scale = Scale {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: Some(".spec.selector".into()),
        };
        self.edit(|kind| kind.scale = Some(scale))
    }
    fn select(self, fields: &[&str]) -> Self {
        self.edit(|kind| kind.selectable = fields.iter().map(ToString::to_string).collect())
    }
    fn actions(self, actions: &'static [Action]) -> Self {
        self.edit(|kind| kind.actions = actions)
    }
    fn virtual_only(self) -> Self {
        self.edit(|kind| kind.virtual_only = true)
    }
}

impl RowExt for Row {
    fn edit(mut self, edit: impl FnOnce(&mut Kind)) -> Self {
        edit(&mut self.0);
        self
    }
}

const fn action(name: &'static str, kind: (&'static str, &'static str, &'static str), verb: &'static str) -> Action {
    Action { name, kind, verb }
}

const FINALIZE: [Action; 1] = [action("finalize", ("", "v1", "Namespace"), "update")];
const TOKEN: [Action; 1] = [action("token", ("authentication.k8s.io", "v1", "TokenRequest"), "create")];
const OF_PODS: [Action; 2] =
    [action("eviction", ("policy", "v1", "Eviction"), "create"), action("log", ("", "v1", "Pod"), "get")];

fn table() -> Vec<Row> {
    let involved = [
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];
    let regarding = ["regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason", "type"];
    let pod = [
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ];
    vec![
        row::<core::Namespace>().actions(&FINALIZE).cluster().status().short(&["ns"]).select(&["status.phase"]),
        row::<core::ConfigMap>().short(&["cm"]),
        row::<core::Secret>().select(&["type"]),
        row::<core::Service>().status().short(&["svc"]).all().select(&["spec.clusterIP", "spec.type"]),
        row::<core::ServiceAccount>().actions(&TOKEN).short(&["sa"]),
        row::<core::Pod>().actions(&OF_PODS).status().generation().short(&["po"]).all().select(&pod),
        row::<core::Event>().short(&["ev"]).select(&involved),
        row::<core::Node>().cluster().status().short(&["no"]).select(&["spec.unschedulable"]),
        row::<core::PersistentVolume>().cluster().status().short(&["pv"]),
        row::<core::PersistentVolumeClaim>().status().short(&["pvc"]),
        row::<core::Endpoints>().short(&["ep"]),
        row::<core::LimitRange>().short(&["limits"]),
        row::<core::ResourceQuota>().status().short(&["quota"]),
        row::<events::Event>().short(&["ev"]).select(&regarding).edit(|kind| {
            kind.storage = "/events".into();
            kind.stored_as = "v1".into();
        }),
        row::<apps::Deployment>().status().scale().generation().short(&["deploy"]).all(),
        row::<apps::ReplicaSet>().status().scale().generation().short(&["rs"]).all().select(&["status.replicas"]),
        row::<apps::StatefulSet>().status().scale().generation().short(&["sts"]).all(),
        row::<apps::DaemonSet>().status().generation().short(&["ds"]).all(),
        row::<apps::ControllerRevision>(),
        row::<batch::Job>().status().generation().all().select(&["status.successful"]),
        row::<batch::CronJob>().status().generation().short(&["cj"]).all(),
        row::<autoscaling::HorizontalPodAutoscaler>().status().short(&["hpa"]).all(),
        row::<networking::Ingress>().status().generation().short(&["ing"]),
        row::<networking::IngressClass>().cluster().generation(),
        row::<networking::NetworkPolicy>().generation().short(&["netpol"]),
        row::<discovery::EndpointSlice>().generation(),
        row::<policy::PodDisruptionBudget>().status().generation().short(&["pdb"]),
        row::<rbac::Role>(),
        row::<rbac::RoleBinding>(),
        row::<rbac::ClusterRole>().cluster(),
        row::<rbac::ClusterRoleBinding>().cluster(),
        row::<coordination::Lease>(),
        row::<scheduling::PriorityClass>().cluster().generation().short(&["pc"]),
        row::<storage::StorageClass>().cluster().short(&["sc"]),
        row::<admission::ValidatingAdmissionPolicy>().cluster().status().generation(),
        row::<admission::ValidatingAdmissionPolicyBinding>().cluster().generation(),
        row::<admission::ValidatingWebhookConfiguration>().cluster().generation(),
        row::<admission::MutatingWebhookConfiguration>().cluster().generation(),
        row::<apiextensions::CustomResourceDefinition>().cluster().status().generation().short(&["crd", "crds"]),
        row::<authz::SelfSubjectAccessReview>().cluster().virtual_only(),
        row::<authz::SelfSubjectRulesReview>().cluster().virtual_only(),
        row::<authz::SubjectAccessReview>().cluster().virtual_only(),
        row::<authz::LocalSubjectAccessReview>().virtual_only(),
        row::<authn::TokenReview>().cluster().virtual_only(),
        row::<authn::SelfSubjectReview>().cluster().virtual_only(),
    ]
}

/// `x-kubernetes-list-type` and merge keys of the built-in types, which their generated schemas do not carry:
/// definition (after its package), field, keys of server-side apply, key of strategic merge patch.
pub const LIST_MAPS: &[(&str, &str, &[&str], &str)] = &[
    ("core.v1.Container", "env", &["name"], "name"),
    ("core.v1.Container", "ports", &["containerPort", "protocol"], "containerPort"),
    ("core.v1.Container", "volumeDevices", &["devicePath"], "devicePath"),
    ("core.v1.Container", "volumeMounts", &["mountPath"], "mountPath"),
    ("core.v1.PodSpec", "containers", &["name"], "name"),
    ("core.v1.PodSpec", "ephemeralContainers", &["name"], "name"),
    ("core.v1.PodSpec", "hostAliases", &["ip"], "ip"),
    ("core.v1.PodSpec", "imagePullSecrets", &["name"], "name"),
    ("core.v1.PodSpec", "initContainers", &["name"], "name"),
    ("core.v1.PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"], "topologyKey"),
    ("core.v1.PodSpec", "volumes", &["name"], "name"),
    ("core.v1.PodStatus", "podIPs", &["ip"], "ip"),
    ("core.v1.PodStatus", "hostIPs", &[], "ip"),
    ("core.v1.ServiceAccount", "secrets", &["name"], "name"),
    ("core.v1.ServiceSpec", "ports", &["port", "protocol"], "port"),
    ("core.v1.NodeStatus", "addresses", &["type"], "type"),
    ("batch.v1.JobStatus", "conditions", &[], "type"),
    ("meta.v1.ObjectMeta", "ownerReferences", &["uid"], "uid"),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "variables", &["name"], "name"),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "matchConditions", &["name"], "name"),
    ("admissionregistration.v1.ValidatingWebhookConfiguration", "webhooks", &["name"], "name"),
    ("admissionregistration.v1.MutatingWebhookConfiguration", "webhooks", &["name"], "name"),
];

/// Lists whose items are a set of scalars.
pub const SETS: &[(&str, &str)] = &[
    ("meta.v1.ObjectMeta", "finalizers"),
    ("discovery.v1.Endpoint", "addresses"),
    ("admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "validationActions"),
];

/// Structs that are owned as one piece (`x-kubernetes-map-type: atomic`).
pub const ATOMIC: &[&str] = &[
    "core.v1.ConfigMapKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.SecretKeySelector",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
    "core.v1.TypedLocalObjectReference",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "networking.v1.IngressServiceBackend.port",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
];

/// Maps inside structs that are owned as one piece.
pub const ATOMIC_MAPS: &[(&str, &str)] = &[("core.v1.PodSpec", "nodeSelector"), ("core.v1.ServiceSpec", "selector")];

//! Who decides the number of pods: an autoscaler on the Platform's `/scale`, which shows it the active colour only.

use contract::names;
use crds::platform::{Autoscaling, AutoscalingEngine};
use k8s_openapi::{
    api::autoscaling::v2::{
        CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier,
        MetricSpec, MetricTarget, PodsMetricSource, ResourceMetricSource,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::Resource;

use super::{
    super::{around::Scaler, dereference::Dereferenced},
    meta,
};
use crate::{
    kube_ext::Prepared,
    peers::{Advanced, Fallback, HorizontalPodAutoscalerConfig, ScaleTarget, ScaledObject, ScaledObjectSpec, Trigger},
};

/// The gauge of each pod that load is read from.
pub const IN_FLIGHT: &str = "tenantry_http_requests_in_flight";
/// KEDA holds the number of pods it has after this many silent answers.
const SILENCES: u32 = 3;

/// What is declared, while it is enabled.
pub fn declared(found: &Dereferenced, engine: AutoscalingEngine) -> Option<&Autoscaling> {
    let autoscaling = found.platform.spec.autoscaling.as_ref();
    autoscaling.filter(|autoscaling| autoscaling.enabled && autoscaling.engine == engine)
}

pub fn scaler(found: &Dereferenced) -> Scaler {
    let horizontal = horizontal(found).map(|autoscaler| Scaler::Horizontal(Box::new(Prepared(autoscaler))));
    let scaler = horizontal.or_else(|| scaled_object(found).map(|scaled| Scaler::Keda(Box::new(Prepared(scaled)))));
    scaler.unwrap_or(Scaler::Nobody)
}

fn horizontal(found: &Dereferenced) -> Option<HorizontalPodAutoscaler> {
    let wish = declared(found, AutoscalingEngine::HorizontalPodAutoscaler)?;
    let cpu = wish.target_cpu_utilization_percentage.map(|percent| MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource {
            name: "cpu".into(),
            target: MetricTarget {
                type_: "Utilization".into(),
                average_utilization: i32::try_from(percent).ok(),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    let in_flight = wish.target_requests_in_flight_per_pod.map(|requests| MetricSpec {
        type_: "Pods".into(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: IN_FLIGHT.into(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".into(),
                average_value: Some(Quantity(requests.to_string())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    let target = target(found);
    Some(HorizontalPodAutoscaler {
        metadata: meta(found, names::api(&found.name)),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(target.api_version),
                kind: target.kind,
                name: target.name,
            },
            min_replicas: i32::try_from(wish.min_replicas).ok(),
            max_replicas: i32::try_from(wish.max_replicas).unwrap_or(i32::MAX),
            metrics: Some(cpu.into_iter().chain(in_flight).collect()),
            behavior: wish.behavior.clone(),
        },
        ..HorizontalPodAutoscaler::default()
    })
}

fn scaled_object(found: &Dereferenced) -> Option<ScaledObject> {
    let wish = declared(found, AutoscalingEngine::Keda).filter(|_| found.optional.keda)?;
    let trigger = |type_: &str, metric_type: &str, metadata: &[(&str, String)]| Trigger {
        type_: type_.into(),
        metric_type: metric_type.into(),
        metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    };
    let cpu = wish
        .target_cpu_utilization_percentage
        .map(|percent| trigger("cpu", "Utilization", &[("value", percent.to_string())]));
    let in_flight = wish.target_requests_in_flight_per_pod.zip(wish.prometheus.as_ref());
    let in_flight = in_flight.map(|(requests, prometheus)| {
        // Over both colours: what is in flight during a switch is load, wherever it ends.
        let query = format!("sum({IN_FLIGHT}{{namespace=\"{}\",platform=\"{}\"}})", found.namespace, found.name);
        trigger(
            "prometheus",
            "AverageValue",
            &[
                ("serverAddress", prometheus.address.clone()),
                ("query", query),
                ("threshold", requests.to_string()),
                // No answer is not the answer 0.
                ("ignoreNullValues", "false".to_owned()),
            ],
        )
    });
    // KEDA refuses a fallback where only resources of the pods are measured, which have no source that could be away.
    let fallback = in_flight.is_some().then(|| Fallback {
        failure_threshold: SILENCES,
        replicas: wish.min_replicas,
        behavior: "currentReplicasIfHigher".into(),
    });
    let spec = ScaledObjectSpec {
        scale_target_ref: target(found),
        min_replica_count: wish.min_replicas,
        max_replica_count: wish.max_replicas,
        fallback,
        advanced: wish.behavior.clone().map(|behavior| Advanced {
            horizontal_pod_autoscaler_config: HorizontalPodAutoscalerConfig { behavior: Some(behavior) },
        }),
        triggers: in_flight.into_iter().chain(cpu).collect(),
    };
    let mut scaled = ScaledObject::new(&names::api(&found.name), spec);
    scaled.metadata = meta(found, names::api(&found.name));
    Some(scaled)
}

fn target(found: &Dereferenced) -> ScaleTarget {
    ScaleTarget {
        api_version: crds::Platform::api_version(&()).into_owned(),
        kind: crds::Platform::kind(&()).into_owned(),
        name: found.name.clone(),
    }
}

//! The PodMonitor, where the Prometheus operator is installed.
//!
//! Pods and not a Service are scraped, so that the colour that takes no requests yet is measured too, and every series
//! says whose it is: an analysis compares colours and releases.

use contract::names::{self, LABEL_COLOR, LABEL_PLATFORM, LABEL_RELEASE, PORT_MANAGEMENT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{super::dereference::Dereferenced, meta, selector};
use crate::peers::{PodMetricsEndpoint, PodMonitor, PodMonitorSpec, Relabeling};

pub fn pod_monitor(found: &Dereferenced) -> Option<PodMonitor> {
    let observability = &found.platform.spec.observability;
    if !observability.service_monitor || !found.optional.prometheus_operator {
        return None;
    }
    let labelled = [(LABEL_PLATFORM, "platform"), (LABEL_COLOR, "color"), (LABEL_RELEASE, "release")];
    let relabelings = labelled.map(|(label, target)| Relabeling {
        // As Prometheus writes the labels of a pod.
        source_labels: vec![format!("__meta_kubernetes_pod_label_{}", label.replace(['.', '/', '-'], "_"))],
        target_label: target.into(),
    });
    let spec = PodMonitorSpec {
        selector: LabelSelector { match_labels: Some(selector(&found.name)), ..LabelSelector::default() },
        pod_metrics_endpoints: vec![PodMetricsEndpoint {
            port: PORT_MANAGEMENT.into(),
            path: "/metrics".into(),
            relabelings: relabelings.into(),
        }],
    };
    let mut monitor = PodMonitor::new(&names::api(&found.name), spec);
    monitor.metadata = meta(found, names::api(&found.name));
    let labels = monitor.metadata.labels.get_or_insert_default();
    for (key, value) in &observability.service_monitor_labels {
        // Ours say whose it is; without them it would be lost.
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Some(monitor)
}

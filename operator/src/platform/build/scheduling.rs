//! Where pods run, and which of them go first.

use k8s_openapi::{
    api::core::v1::{PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{super::dereference::Dereferenced, selector};

/// Kubernetes puts it on the pods of one template: each colour, and each step of a rolling update, spreads for itself,
/// and pods that are about to go do not push new ones into a corner.
const OF_ONE_TEMPLATE: &str = "pod-template-hash";

/// Puts into the pod what is declared about nodes.
pub fn schedule(found: &Dereferenced, pod: &mut PodSpec) {
    let spec = &found.platform.spec;
    pod.node_selector = Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty());
    pod.tolerations = Some(spec.tolerations.clone()).filter(|tolerations| !tolerations.is_empty());
    pod.affinity.clone_from(&spec.affinity);
    pod.priority_class_name.clone_from(&spec.priority_class_name);
    pod.topology_spread_constraints = Some(spread(found));
}

/// As declared (about the API's pods where no others are named), or else over zones and nodes as far as there are any.
fn spread(found: &Dereferenced) -> Vec<TopologySpreadConstraint> {
    let ours = || LabelSelector { match_labels: Some(selector(&found.name)), ..LabelSelector::default() };
    let declared = &found.platform.spec.topology_spread_constraints;
    if !declared.is_empty() {
        let of_ours = |constraint: &TopologySpreadConstraint| TopologySpreadConstraint {
            label_selector: constraint.label_selector.clone().or_else(|| Some(ours())),
            ..constraint.clone()
        };
        return declared.iter().map(of_ours).collect();
    }
    let over = |topology: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(ours()),
        match_label_keys: Some(vec![OF_ONE_TEMPLATE.into()]),
        ..TopologySpreadConstraint::default()
    };
    vec![over("topology.kubernetes.io/zone"), over("kubernetes.io/hostname")]
}

//! How an autoscaler fares, read from its own status: pure.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

use crate::peers::ScaledObject;

/// Whether the autoscaler can measure and act: the conditions that say no, as (type, reason).
///
/// Without the messages, which change with every measurement.
pub fn ability(autoscaler: &HorizontalPodAutoscaler) -> Vec<(String, String)> {
    let conditions = autoscaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.status == "False" && is_ability(&condition.type_))
        .map(|condition| (condition.type_.clone(), condition.reason.clone().unwrap_or_default()))
        .collect()
}

/// What the autoscaler complains of, in its own words.
pub fn complaint(autoscaler: &HorizontalPodAutoscaler) -> Option<String> {
    let conditions = autoscaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.status == "False" && is_ability(&condition.type_))
        .map(|condition| condition.message.clone().unwrap_or_default())
        .next()
}

/// The other one, `ScalingLimited`, is no complaint: the bounds are there to be reached.
fn is_ability(type_: &str) -> bool {
    matches!(type_, "AbleToScale" | "ScalingActive")
}

/// The same of KEDA's object.
pub fn keda_complaint(scaled: &ScaledObject) -> Option<String> {
    let conditions = scaled.status.iter().flat_map(|status| &status.conditions);
    let bad = |condition: &&crate::peers::ScaledObjectCondition| match condition.type_.as_str() {
        "Ready" => condition.status == "False",
        // It holds the number it had, because its source does not answer.
        "Fallback" => condition.status == "True",
        _ => false,
    };
    conditions.filter(bad).map(|condition| condition.message.clone()).next()
}

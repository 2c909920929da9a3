//! What a Platform declares and cannot have in this cluster, each with the cure.

use crds::{conditions::reasons, platform::AutoscalingEngine};

use super::{
    super::dereference::{Dereferenced, smtp_secret},
    Problem,
};
use crate::platform::{build::autoscaling::declared, routing, scaling};

/// The most important first: its reason becomes the condition's.
pub fn wants(found: &Dereferenced) -> Vec<Problem> {
    let spec = &found.platform.spec;
    let mut wants = Vec::new();
    let mut want = |reason, message: String| wants.push(Problem { reason, message });
    if let Some((reason, message)) = mail_secret(found) {
        want(reason, message);
    }
    if spec.gateway.is_some() && !found.optional.gateway_api {
        want(reasons::DEPENDENCY_MISSING, routing::missing_gateway_api());
    }
    let keda = declared(found, AutoscalingEngine::Keda).is_some();
    if keda && !found.optional.keda {
        let message = "spec.autoscaling.engine Keda needs the kind ScaledObject (keda.sh/v1alpha1), which is not installed, \
                       and the number of pods stays as it is: install KEDA, or set engine to HorizontalPodAutoscaler";
        want(reasons::DEPENDENCY_MISSING, message.to_owned());
    }
    let autoscaling = spec.autoscaling.as_ref().filter(|autoscaling| autoscaling.enabled);
    if autoscaling.is_some_and(|autoscaling| autoscaling.target_cpu_utilization_percentage.is_some())
        && !requests_cpu(found)
    {
        let message = "spec.autoscaling.targetCPUUtilizationPercentage is a share of what pods request, and they request \
                       nothing: set spec.resources.requests.cpu";
        want(reasons::AUTOSCALER_INACTIVE, message.to_owned());
    } else if let Some(complaint) = complaint(found) {
        let message = format!("the autoscaler leaves the number of pods as it is: {complaint}");
        want(reasons::AUTOSCALER_INACTIVE, message);
    }
    if spec.observability.service_monitor && !found.optional.prometheus_operator {
        let message = "spec.observability.serviceMonitor needs the kind PodMonitor (monitoring.coreos.com/v1), which is not \
                       installed: install the Prometheus operator, or set it to false and have the port named management scraped";
        want(reasons::DEPENDENCY_MISSING, message.to_owned());
    }
    wants
}

/// What the mail server's Secret lacks.
fn mail_secret(found: &Dereferenced) -> Option<(&'static str, String)> {
    let name = smtp_secret(&found.platform)?;
    let field = "spec.mail.smtp.secretRef";
    let Some(data) = &found.mail else {
        let message = format!(
            "{field}.name is {name:?}, and there is no such Secret, so mails wait: create it with the keys username and password"
        );
        return Some((reasons::SECRET_NOT_FOUND, message));
    };
    let missing: Vec<_> = ["username", "password"]
        .into_iter()
        .filter(|key| data.get(*key).is_none_or(|value| value.0.is_empty()))
        .collect();
    (!missing.is_empty()).then(|| {
        let message = format!("Secret {name} named in {field} lacks {}, so mails wait: add it", missing.join(" and "));
        (reasons::SECRET_KEY_NOT_FOUND, message)
    })
}

/// Kubernetes takes a limit for the request where none is given.
fn requests_cpu(found: &Dereferenced) -> bool {
    let resources = found.platform.spec.resources.iter();
    let quantities = resources.flat_map(|resources| [&resources.requests, &resources.limits]);
    quantities.flatten().any(|quantities| quantities.contains_key("cpu"))
}

fn complaint(found: &Dereferenced) -> Option<String> {
    let optional = &found.optional;
    if declared(found, AutoscalingEngine::Keda).is_some() {
        return optional.scaled_object.as_deref().and_then(scaling::keda_complaint);
    }
    declared(found, AutoscalingEngine::HorizontalPodAutoscaler)?;
    optional.autoscaler.as_deref().and_then(scaling::complaint)
}

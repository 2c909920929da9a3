//! An autoscaler that follows what the pods say of themselves.

use super::*;

/// Tells one metric: what its file says.
const TELL: &str =
    r#"cd "$SITE"; cp "$LOAD" metrics; exec python3 -m http.server 9090 --bind "$TENANTRY_BIND_ADDRESS""#;

#[tokio::test]
async fn an_autoscaler_follows_the_pods_own_metric_within_its_limits() {
    let machine = Machine::start().await;
    let load = machine.workdir.join("load");
    std::fs::write(&load, "requests_in_flight{route=\"a\"} 25\nrequests_in_flight{route=\"b\"} 15\n").unwrap();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "web", "image": "shell", "args": ["-c", TELL],
                    "env": [{"name": "SITE", "value": "/site"}, {"name": "LOAD", "value": load}],
                    "ports": [{"name": "management", "containerPort": 9090}],
                    "readinessProbe": {"httpGet": {"path": "/metrics", "port": "management"}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "site", "mountPath": "/site"}],
                }],
                "volumes": [{"name": "site", "emptyDir": {}}],
            },
        }},
    });
    let metric = json!({"type": "Pods", "pods": {
        "metric": {"name": "requests_in_flight"}, "target": {"type": "AverageValue", "averageValue": "20"}}});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 3, "metrics": [metric],
        },
    });
    machine.objects.apply(&deployment).await.unwrap();
    machine.objects.apply(&autoscaler).await.unwrap();

    // Forty each where twenty are wanted: twice as many, and twice as many again but for the limit.
    machine.until_pods(|pods| ready(pods) == 3).await;
    let look = async || Ok(machine.api::<HorizontalPodAutoscaler>().get("web").await?.status.unwrap_or_default());
    let limited = |status: &k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.reason.as_deref() == Some("TooManyReplicas"))
    };
    let status = wait::until_value("the limit to be named", look, limited).await.unwrap();
    assert_eq!(status.desired_replicas, 3);
    machine.stop().await;
}

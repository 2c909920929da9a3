//! What built-in kinds refuse, in the words of Kubernetes' own validation.

use serde_json::{Value, json};

use crate::world::{DEPLOYMENTS, STRATEGIC, World, deployment};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

/// That it is refused, and that the sentence ends so.
async fn refused(world: &World, path: &str, body: Value, end: &str) {
    let (code, status) = world.post(path, body).await;
    let message = status["message"].as_str().unwrap_or_default();
    assert!(matches!(code, 403 | 422) && message.ends_with(end), "{code} {message}\nwanted: {end}");
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).expect("the parent is there");
    match parent {
        Value::Array(list) => list[field.parse::<usize>().unwrap()] = value,
        other => other[field] = value,
    }
    object
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": { "containers": [{ "name": "main", "image": "nginx:1" }], "volumes": [{ "name": "tmp", "emptyDir": {} }] },
    })
}

#[tokio::test]
async fn a_pod_that_no_node_could_run_is_refused() {
    let world = World::start().await;
    let main = "/spec/containers/0";
    for (field, value, end) in [
        (
            "volumeMounts",
            json!([{ "name": "none", "mountPath": "/x" }]),
            "spec.containers[0].volumeMounts[0].name: Not found: \"none\"",
        ),
        ("name", json!("Main"), "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"),
        ("image", json!(""), "spec.containers[0].image: Required value"),
        ("ports", json!([{ "name": "much-too-long-port", "containerPort": 1 }]), "must be no more than 15 characters"),
        (
            "livenessProbe",
            json!({ "periodSeconds": 1 }),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            "resources",
            json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "1Gi" } }),
            "Invalid value: \"2Gi\": must be less than or equal to memory limit of 1Gi",
        ),
    ] {
        refused(&world, PODS, with(pod(), &format!("{main}/{field}"), value), end).await;
    }
    refused(
        &world,
        PODS,
        with(pod(), "/spec/volumes/0", json!({ "name": "tmp" })),
        "spec.volumes[0]: Required value: must specify a volume type",
    )
    .await;
    let stranger = with(pod(), "/spec/serviceAccountName", json!("none"));
    refused(&world, PODS, stranger, "error looking up service account default/none: serviceaccount \"none\" not found")
        .await;
    let urgent = with(pod(), "/spec/priorityClassName", json!("urgent"));
    refused(&world, PODS, urgent, "no PriorityClass with name urgent was found").await;
    let (code, made) = world.post(PODS, pod()).await;
    assert_eq!((code, &made["spec"]["serviceAccountName"]), (201, &json!("default")), "{made}");
}

#[tokio::test]
async fn a_restricted_namespace_takes_only_restricted_pods() {
    let world = World::start().await;
    let labels =
        json!({ "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" });
    world.post("/api/v1/namespaces", json!({ "metadata": { "name": "safe", "labels": labels } })).await;
    let pods = "/api/v1/namespaces/safe/pods";
    let end = "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"main\" must set \
               securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"main\" must set \
               securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"main\" must set \
               securityContext.runAsNonRoot=true), seccompProfile (pod or container \"main\" must set \
               securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    refused(&world, pods, pod(), end).await;
    let warnings = world
        .warnings("POST", "/apis/apps/v1/namespaces/safe/deployments", "application/json", deployment("web"))
        .await;
    assert!(warnings[0].contains("would violate PodSecurity"), "{warnings:?}");
    let context = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let mut safe = with(pod(), "/spec/containers/0/securityContext", context);
    safe["spec"]["securityContext"] = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    let (code, answer) = world.post(pods, safe).await;
    assert_eq!(code, 201, "{answer}");
}

#[tokio::test]
async fn names_and_labels_of_what_is_made_are_limited_too() {
    let world = World::start().await;
    let long = "a".repeat(64);
    let labelled = with(deployment("web"), "/spec/template/metadata/labels/color", json!(long));
    refused(&world, DEPLOYMENTS, labelled, "must be no more than 63 characters").await;
    refused(
        &world,
        SERVICES,
        json!({ "metadata": { "name": long }, "spec": { "ports": [{ "port": 1 }] } }),
        "must be no more than 63 characters",
    )
    .await;
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "a:1" }] } });
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    refused(
        &world,
        jobs,
        json!({ "metadata": { "name": long }, "spec": { "template": template } }),
        "must be no more than 63 characters",
    )
    .await;
    let cron = json!({ "metadata": { "name": "a".repeat(53) }, "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": template } } } });
    refused(&world, "/apis/batch/v1/namespaces/default/cronjobs", cron.clone(), "must be no more than 52 characters")
        .await;
    let wrong = with(with(cron, "/metadata/name", json!("a")), "/spec/schedule", json!("0 3"));
    refused(&world, "/apis/batch/v1/namespaces/default/cronjobs", wrong, "expected exactly 5 fields, found 2: [0 3]")
        .await;
}

#[tokio::test]
async fn what_cannot_change_does_not_change() {
    let world = World::start().await;
    let set = json!({
        "metadata": { "name": "db" },
        "spec": {
            "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
            "template": { "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [{ "name": "main", "image": "postgres:17", "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }] } },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }],
        },
    });
    let (code, made) = world.post(SETS, set).await;
    assert_eq!(code, 201, "{made}");
    let (code, status) = world.merge(&format!("{SETS}/db"), json!({ "spec": { "serviceName": "other" } })).await;
    assert_eq!(code, 422);
    let end = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    assert!(status["message"].as_str().unwrap().ends_with(end), "{status}");
    assert_eq!(world.merge(&format!("{SETS}/db"), json!({ "spec": { "replicas": 2 } })).await.0, 200);

    let claim = json!({ "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } } });
    assert_eq!(world.post(CLAIMS, claim).await.0, 201);
    let storage = |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
    assert_eq!(world.merge(&format!("{CLAIMS}/data"), storage("1Gi")).await.0, 422);
    assert_eq!(world.merge(&format!("{CLAIMS}/data"), storage("3Gi")).await.0, 200);
    assert_eq!(
        world.merge(&format!("{CLAIMS}/data"), json!({ "spec": { "accessModes": ["ReadOnlyMany"] } })).await.0,
        422
    );
    assert_eq!(world.merge(&format!("{CLAIMS}/data"), json!({ "spec": { "volumeName": "pv" } })).await.0, 200);

    world.post(DEPLOYMENTS, deployment("web")).await;
    let recreate = json!({ "spec": { "strategy": { "type": "Recreate" } } });
    let (code, status) = world.send("PATCH", &format!("{DEPLOYMENTS}/web"), STRATEGIC, Some(&recreate)).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().unwrap().ends_with("may not be specified when strategy `type` is 'Recreate'"),
        "{status}"
    );
}

#[tokio::test]
async fn services_budgets_autoscalers_and_leases_must_make_sense() {
    let world = World::start().await;
    let service = |ports: Value| json!({ "metadata": { "name": "web" }, "spec": { "ports": ports } });
    refused(&world, SERVICES, service(json!([])), "spec.ports: Required value").await;
    refused(
        &world,
        SERVICES,
        service(json!([{ "port": 1 }, { "port": 2, "name": "b" }])),
        "spec.ports[0].name: Required value",
    )
    .await;
    refused(
        &world,
        SERVICES,
        service(json!([{ "port": 1, "name": "a" }, { "port": 1, "name": "b" }])),
        "spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
    )
    .await;
    let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": 1, "maxUnavailable": 1 } });
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    refused(&world, budgets, budget, "minAvailable and maxUnavailable cannot be both set").await;
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
    let scaler = json!({ "metadata": { "name": "web" }, "spec": { "scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 2 } });
    let scalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    refused(&world, scalers, scaler, "must be greater than or equal to `minReplicas`").await;
    let lease = json!({ "metadata": { "name": "a" }, "spec": { "holderIdentity": "" } });
    refused(&world, "/apis/coordination.k8s.io/v1/namespaces/default/leases", lease, "must not be empty").await;
    let secret = json!({ "metadata": { "name": "a" }, "type": "kubernetes.io/tls", "data": {} });
    refused(
        &world,
        "/api/v1/namespaces/default/secrets",
        secret,
        "[data[tls.crt]: Required value, data[tls.key]: Required value]",
    )
    .await;
    let role = json!({ "metadata": { "name": "a" }, "rules": [{ "resources": ["pods"], "verbs": ["get"] }] });
    refused(
        &world,
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
        role,
        "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
    )
    .await;
}

#[tokio::test]
async fn an_event_is_whole_from_the_start_and_only_its_series_goes_on() {
    let world = World::start().await;
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({
        "metadata": { "name": "a" }, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Painted", "action": "Paint",
        "note": "now it is green", "reportingController": "tenantry.dev/operator", "reportingInstance": "operator-0",
        "regarding": { "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "namespace": "default" },
    });
    refused(&world, events, with(event.clone(), "/action", json!("")), "action: Required value").await;
    refused(&world, events, with(event.clone(), "/note", json!("x".repeat(1025))), "can have at most 1024 characters")
        .await;
    refused(
        &world,
        events,
        with(event.clone(), "/regarding/namespace", json!("other")),
        "does not match event.namespace",
    )
    .await;
    let (code, answer) = world.post(events, event).await;
    assert_eq!(code, 201, "{answer}");
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z" } });
    assert_eq!(world.merge(&format!("{events}/a"), series).await.0, 200);
    assert_eq!(world.merge(&format!("{events}/a"), json!({ "note": "now it is red" })).await.0, 422);
}

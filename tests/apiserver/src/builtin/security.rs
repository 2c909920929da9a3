//! Pod Security Standards, as namespaces ask for them by label.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>,
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

use serde_json::{Value, json};

/// What a pod's spec violates of a level; empty where it keeps to it.
pub fn violations(level: &str, spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if matches!(level, "baseline" | "restricted") {
        baseline(spec, &mut found);
    }
    if level == "restricted" {
        restricted(spec, &mut found);
    }
    found
}

fn containers(spec: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"];
    lists.iter().flat_map(|list| spec[*list].as_array().into_iter().flatten()).collect()
}

/// `container "a"` or `containers "a", "b"`.
fn named(containers: &[&Value]) -> String {
    let names: Vec<String> = containers.iter().map(|container| container["name"].to_string()).collect();
    format!("container{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn those(spec: &Value, wrong: impl Fn(&Value) -> bool) -> Vec<&Value> {
    containers(spec).into_iter().filter(|container| wrong(&container["securityContext"])).collect()
}

fn baseline(spec: &Value, found: &mut Vec<String>) {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[field] == true {
            found.push(format!("host namespaces ({field}=true)"));
        }
    }
    let privileged = those(spec, |context| context["privileged"] == true);
    if !privileged.is_empty() {
        found.push(format!("privileged ({} must not set securityContext.privileged=true)", named(&privileged)));
    }
    let host = |volume: &&Value| volume["hostPath"].is_object();
    let paths: Vec<String> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(host)
        .map(|volume| volume["name"].to_string())
        .collect();
    if !paths.is_empty() {
        found.push(format!("hostPath volumes (volume {})", paths.join(", ")));
    }
}

fn restricted(spec: &Value, found: &mut Vec<String>) {
    let escalating = those(spec, |context| context["allowPrivilegeEscalation"] != false);
    if !escalating.is_empty() {
        let who = named(&escalating);
        found.push(format!(
            "allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"
        ));
    }
    let all = json!("ALL");
    let capable = those(spec, |context| {
        let drops = context["capabilities"]["drop"].as_array().is_some_and(|drop| drop.contains(&all));
        let added =
            context["capabilities"]["add"].as_array().into_iter().flatten().any(|one| one != "NET_BIND_SERVICE");
        !drops || added
    });
    if !capable.is_empty() {
        let who = named(&capable);
        found.push(format!("unrestricted capabilities ({who} must set securityContext.capabilities.drop=[\"ALL\"])"));
    }
    let kinds =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kind = volume.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| *key != "name");
        if let Some(kind) = kind.filter(|kind| !kinds.contains(&kind.as_str())) {
            found.push(format!(
                "restricted volume types (volume {} uses restricted volume type {kind:?})",
                volume["name"]
            ));
        }
    }
    let pod = &spec["securityContext"];
    let maybe_root = those(spec, |context| {
        context["runAsNonRoot"] == false || (context["runAsNonRoot"].is_null() && pod["runAsNonRoot"] != true)
    });
    if !maybe_root.is_empty() {
        let who = named(&maybe_root);
        found.push(format!("runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"));
    }
    if pod["runAsUser"] == 0 || !those(spec, |context| context["runAsUser"] == 0).is_empty() {
        found.push("runAsUser=0 (pod or containers must not set runAsUser=0)".to_owned());
    }
    let profiled =
        |context: &Value| matches!(context["seccompProfile"]["type"].as_str(), Some("RuntimeDefault" | "Localhost"));
    let unconfined =
        those(spec, |context| !profiled(context) && (!context["seccompProfile"].is_null() || !profiled(pod)));
    if !unconfined.is_empty() {
        let who = named(&unconfined);
        found.push(format!(
            "seccompProfile (pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        ));
    }
}

/// Where the pods of a kind are described.
pub fn pod_spec<'a>(kind: &str, object: &'a Value) -> Option<&'a Value> {
    match kind {
        "Pod" => Some(&object["spec"]),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => Some(&object["spec"]["template"]["spec"]),
        "CronJob" => Some(&object["spec"]["jobTemplate"]["spec"]["template"]["spec"]),
        _ => None,
    }
}

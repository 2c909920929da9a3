//! The columns of each kind: those of a CustomResourceDefinition, or the ones that everybody knows from `kubectl get`.

use serde_json::{Value, json};

use super::table::{age, duration, labels, ratio, text};
use crate::{
    clock,
    object::at,
    registry::{self, Kind},
};

/// How one cell is read from an object.
enum Cell {
    Path(registry::Column),
    Made(fn(&Value) -> Value),
}

pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    cell: Cell,
}

impl Column {
    pub fn cell(&self, object: &Value) -> Value {
        match &self.cell {
            Cell::Made(make) => make(object),
            Cell::Path(column) => from_path(column, object),
        }
    }
}

fn made(name: &str, cell: fn(&Value) -> Value) -> Column {
    let (name, priority) = name.strip_suffix('*').map_or((name, 0), |wide| (wide, 1));
    let format = if name == "Name" { "name" } else { "" };
    Column {
        name: name.into(),
        kind: "string".into(),
        format: format.into(),
        description: String::new(),
        priority,
        cell: Cell::Made(cell),
    }
}

fn name() -> Column {
    made("Name", |object| object["metadata"]["name"].clone())
}

fn created() -> Column {
    made("Age", |object| json!(age(&object["metadata"]["creationTimestamp"])))
}

/// The columns of a kind, always with the name first.
pub fn of(kind: &Kind) -> Vec<Column> {
    let mut columns = vec![name()];
    if kind.custom {
        columns.extend(kind.columns.iter().map(|column| Column {
            name: column.name.clone(),
            kind: column.kind.clone(),
            format: column.format.clone(),
            description: column.description.clone(),
            priority: column.priority,
            cell: Cell::Path(column.clone()),
        }));
        if kind.columns.is_empty() {
            columns.push(created());
        }
    } else {
        columns.extend(builtin(kind));
    }
    columns
}

/// A JSONPath of the simple kind that printer columns have: fields, `[?(@.type=="Ready")]`, `[0]`, `['a.b']`.
fn from_path(column: &registry::Column, object: &Value) -> Value {
    let found = json_path(object, &column.path);
    let Some(value) = found.first() else { return Value::Null };
    match column.kind.as_str() {
        "date" => value.as_str().map_or(Value::Null, |_| json!(age(value))),
        "integer" | "number" | "boolean" => (*value).clone(),
        _ => match value {
            Value::Array(list) => {
                json!(format!("[{}]", list.iter().map(Value::to_string).collect::<Vec<_>>().join(",")))
            }
            value => json!(text(value)),
        },
    }
}

pub fn json_path<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((step, after)) = bracket(inner) else { return Vec::new() };
            rest = after;
            found = found.into_iter().flat_map(|value| indexed(value, step)).collect();
        } else {
            let inner = rest.trim_start_matches('.');
            let end = field_end(inner);
            let field = inner[..end].replace("\\.", ".");
            rest = &inner[end..];
            if field.is_empty() {
                continue;
            }
            found = found.into_iter().filter_map(|value| value.get(&field)).collect();
        }
    }
    found.retain(|value| !value.is_null());
    found
}

/// Up to the bracket that closes, which may hold quoted brackets.
fn bracket(inner: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (index, character) in inner.char_indices() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, ']') => return Some((&inner[..index], &inner[index + 1..])),
            _ => {}
        }
    }
    None
}

fn field_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .find(|&index| bytes[index] == b'[' || (bytes[index] == b'.' && (index == 0 || bytes[index - 1] != b'\\')))
        .unwrap_or(bytes.len())
}

fn unquote(text: &str) -> &str {
    text.trim().trim_matches(['\'', '"'])
}

fn indexed<'a>(value: &'a Value, step: &str) -> Vec<&'a Value> {
    if let Some(condition) = step.strip_prefix("?(").and_then(|step| step.strip_suffix(')')) {
        let (path, wanted, equal) = match (condition.split_once("=="), condition.split_once("!=")) {
            (Some((path, wanted)), _) => (path, wanted, true),
            (_, Some((path, wanted))) => (path, wanted, false),
            _ => return Vec::new(),
        };
        let path = path.trim().trim_start_matches('@');
        let matches = |item: &&Value| {
            json_path(item, path).first().is_some_and(|found| (text(found) == unquote(wanted)) == equal)
        };
        return value.as_array().into_iter().flatten().filter(matches).collect();
    }
    match step.trim() {
        "*" => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        step => match (step.parse::<usize>(), value) {
            (Ok(index), Value::Array(list)) => list.get(index).into_iter().collect(),
            _ => value.get(unquote(step)).into_iter().collect(),
        },
    }
}

fn count(object: &Value, path: &str) -> Value {
    match at(object, path) {
        Value::Object(map) => json!(map.len()),
        Value::Array(list) => json!(list.len()),
        _ => json!(0),
    }
}

fn number(object: &Value, path: &str) -> Value {
    json!(at(object, path).as_i64().unwrap_or(0))
}

fn shown(object: &Value, path: &str) -> Value {
    json!(text(at(object, path)))
}

fn joined(list: &Value, separator: &str, each: impl Fn(&Value) -> String) -> Value {
    let parts: Vec<String> = list.as_array().into_iter().flatten().map(each).collect();
    json!(if parts.is_empty() { "<none>".to_owned() } else { parts.join(separator) })
}

fn containers(object: &Value) -> &Value {
    at(object, "spec.template.spec.containers")
}

fn ports(list: &Value) -> Value {
    joined(list, ",", |port| {
        let node = port["nodePort"].as_i64().map_or(String::new(), |node| format!(":{node}"));
        format!("{}{node}/{}", text(&port["port"]), text(&port["protocol"]))
    })
}

/// What a pod says in its STATUS column.
fn pod_status(pod: &Value) -> Value {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return json!("Terminating");
    }
    let states = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let reason = states
        .filter_map(|status| {
            status["state"]["waiting"]["reason"].as_str().or(status["state"]["terminated"]["reason"].as_str())
        })
        .next_back();
    json!(reason.or(pod["status"]["reason"].as_str()).or(pod["status"]["phase"].as_str()).unwrap_or("Unknown"))
}

fn pod_ready(pod: &Value) -> Value {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    json!(format!("{}/{all}", statuses.filter(|status| status["ready"] == true).count()))
}

fn restarts(pod: &Value) -> Value {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    json!(statuses.map(|status| status["restartCount"].as_i64().unwrap_or(0)).sum::<i64>().to_string())
}

fn job_status(job: &Value) -> Value {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let done = conditions
        .filter(|condition| condition["status"] == "True")
        .find_map(|condition| ["Complete", "Failed", "Suspended"].into_iter().find(|kind| condition["type"] == *kind));
    json!(done.unwrap_or("Running"))
}

fn job_duration(job: &Value) -> Value {
    let second = |path: &str| at(job, path).as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    let Some(start) = second("status.startTime") else { return json!("") };
    json!(duration(second("status.completionTime").unwrap_or_else(|| clock::now().as_second()) - start))
}

fn last_seen(event: &Value) -> Value {
    let times = [
        at(event, "series.lastObservedTime"),
        &event["lastTimestamp"],
        &event["eventTime"],
        at(event, "metadata.creationTimestamp"),
    ];
    json!(age(times.into_iter().find(|time| time.is_string()).unwrap_or(&Value::Null)))
}

fn builtin(kind: &Kind) -> Vec<Column> {
    let images = || made("Images*", |object| joined(containers(object), ",", |container| text(&container["image"])));
    let names = || made("Containers*", |object| joined(containers(object), ",", |container| text(&container["name"])));
    let selector = || made("Selector*", |object| json!(labels(at(object, "spec.selector.matchLabels"))));
    match kind.storage.as_str() {
        "/namespaces" => vec![made("Status", |object| shown(object, "status.phase")), created()],
        "/configmaps" => vec![
            made("Data", |object| {
                json!(count(object, "data").as_i64().unwrap_or(0) + count(object, "binaryData").as_i64().unwrap_or(0))
            }),
            created(),
        ],
        "/secrets" => {
            vec![made("Type", |object| shown(object, "type")), made("Data", |object| count(object, "data")), created()]
        }
        "/services" => vec![
            made("Type", |object| shown(object, "spec.type")),
            made("Cluster-IP", |object| shown(object, "spec.clusterIP")),
            made("External-IP", |object| {
                joined(at(object, "status.loadBalancer.ingress"), ",", |item| {
                    text(item.get("ip").unwrap_or(&item["hostname"]))
                })
            }),
            made("Port(s)", |object| ports(at(object, "spec.ports"))),
            created(),
            made("Selector*", |object| json!(labels(at(object, "spec.selector")))),
        ],
        "/serviceaccounts" => vec![made("Secrets", |object| count(object, "secrets")), created()],
        "/pods" => vec![
            made("Ready", pod_ready),
            made("Status", pod_status),
            made("Restarts", restarts),
            created(),
            made("IP*", |object| shown(object, "status.podIP")),
            made("Node*", |object| shown(object, "spec.nodeName")),
        ],
        "/events" => vec![
            made("Last Seen", last_seen),
            made("Type", |object| shown(object, "type")),
            made("Reason", |object| shown(object, "reason")),
            made("Object", |object| {
                let about = object.get("involvedObject").unwrap_or(&object["regarding"]);
                json!(format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"])))
            }),
            made("Message", |object| json!(text(object.get("message").unwrap_or(&object["note"])))),
        ],
        "/nodes" => vec![
            made("Status", |_| json!("Ready")),
            made("Version", |object| shown(object, "status.nodeInfo.kubeletVersion")),
            created(),
        ],
        "/persistentvolumeclaims" => vec![
            made("Status", |object| shown(object, "status.phase")),
            made("Volume", |object| json!(at(object, "spec.volumeName").as_str().unwrap_or_default())),
            made("Capacity", |object| json!(at(object, "status.capacity.storage").as_str().unwrap_or_default())),
            made("StorageClass", |object| json!(at(object, "spec.storageClassName").as_str().unwrap_or_default())),
            created(),
        ],
        "apps/deployments" => vec![
            made("Ready", |object| ratio(object, "status.readyReplicas", "spec.replicas")),
            made("Up-to-date", |object| number(object, "status.updatedReplicas")),
            made("Available", |object| number(object, "status.availableReplicas")),
            created(),
            names(),
            images(),
            selector(),
        ],
        "apps/replicasets" => vec![
            made("Desired", |object| number(object, "spec.replicas")),
            made("Current", |object| number(object, "status.replicas")),
            made("Ready", |object| number(object, "status.readyReplicas")),
            created(),
            names(),
            images(),
            selector(),
        ],
        "apps/statefulsets" => {
            vec![
                made("Ready", |object| ratio(object, "status.readyReplicas", "spec.replicas")),
                created(),
                names(),
                images(),
            ]
        }
        "apps/daemonsets" => vec![
            made("Desired", |object| number(object, "status.desiredNumberScheduled")),
            made("Current", |object| number(object, "status.currentNumberScheduled")),
            made("Ready", |object| number(object, "status.numberReady")),
            created(),
        ],
        "batch/jobs" => vec![
            made("Status", job_status),
            made("Completions", |object| ratio(object, "status.succeeded", "spec.completions")),
            made("Duration", job_duration),
            created(),
            names(),
            images(),
        ],
        "batch/cronjobs" => vec![
            made("Schedule", |object| shown(object, "spec.schedule")),
            made("Suspend", |object| json!(if at(object, "spec.suspend") == true { "True" } else { "False" })),
            made("Active", |object| count(object, "status.active")),
            made("Last Schedule", |object| {
                let last = at(object, "status.lastScheduleTime");
                json!(if last.is_string() { age(last) } else { "<none>".into() })
            }),
            created(),
        ],
        "networking.k8s.io/ingresses" => vec![
            made("Class", |object| shown(object, "spec.ingressClassName")),
            made("Hosts", |object| {
                joined(at(object, "spec.rules"), ",", |rule| rule["host"].as_str().unwrap_or("*").to_owned())
            }),
            made("Address", |object| {
                let addresses = at(object, "status.loadBalancer.ingress").as_array();
                let address = addresses
                    .and_then(|list| list.first())
                    .map(|item| text(item.get("ip").unwrap_or(&item["hostname"])));
                json!(address.unwrap_or_default())
            }),
            made("Ports", |object| json!(if at(object, "spec.tls").is_array() { "80, 443" } else { "80" })),
            created(),
        ],
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => vec![
            made("Role", |object| {
                json!(format!("{}/{}", text(at(object, "roleRef.kind")), text(at(object, "roleRef.name"))))
            }),
            created(),
        ],
        "rbac.authorization.k8s.io/roles" | "rbac.authorization.k8s.io/clusterroles" | crate::crd::STORAGE => {
            vec![made("Created At", |object| shown(object, "metadata.creationTimestamp"))]
        }
        "coordination.k8s.io/leases" => vec![made("Holder", |object| shown(object, "spec.holderIdentity")), created()],
        "discovery.k8s.io/endpointslices" => vec![
            made("AddressType", |object| shown(object, "addressType")),
            made("Ports", |object| joined(&object["ports"], ",", |port| text(&port["port"]))),
            made("Endpoints", |object| joined(&object["endpoints"], ",", |endpoint| text(&endpoint["addresses"][0]))),
            created(),
        ],
        "autoscaling/horizontalpodautoscalers" => vec![
            made("Reference", |object| {
                json!(format!(
                    "{}/{}",
                    text(at(object, "spec.scaleTargetRef.kind")),
                    text(at(object, "spec.scaleTargetRef.name"))
                ))
            }),
            made("MinPods", |object| number(object, "spec.minReplicas")),
            made("MaxPods", |object| number(object, "spec.maxReplicas")),
            made("Replicas", |object| number(object, "status.currentReplicas")),
            created(),
        ],
        "policy/poddisruptionbudgets" => {
            vec![
                made("Min Available", |object| {
                    json!(at(object, "spec.minAvailable").as_i64().map_or_else(
                        || text(at(object, "spec.minAvailable")).replace("<none>", "N/A"),
                        |n| n.to_string()
                    ))
                }),
                made("Allowed Disruptions", |object| number(object, "status.disruptionsAllowed")),
                created(),
            ]
        }
        _ => vec![created()],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::json_path;

    #[test]
    fn paths_of_printer_columns_find_fields_items_and_conditions() {
        let object = json!({
            "metadata": { "labels": { "a.b/c": "x" } },
            "status": { "list": [1, 2], "conditions": [{ "type": "Ready", "status": "True" }, { "type": "Other", "status": "False" }] },
        });
        for (path, expected) in [
            (".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")]),
            (".status.conditions[?(@.type=='Other')].status", vec![json!("False")]),
            (".status.conditions[*].type", vec![json!("Ready"), json!("Other")]),
            (".status.list[1]", vec![json!(2)]),
            (".metadata.labels['a.b/c']", vec![json!("x")]),
            (".metadata.labels.a\\.b/c", vec![json!("x")]),
            (".status.missing.deeper", vec![]),
            (".status[", vec![]),
        ] {
            assert_eq!(json_path(&object, path), expected.iter().collect::<Vec<_>>(), "{path}");
        }
    }
}

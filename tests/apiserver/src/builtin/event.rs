//! `events.k8s.io/v1`: an event is complete from the start, and only its series goes on.
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>

use serde_json::Value;

use crate::status::Cause;

/// `event` is as it is sent, in the shape of its group.
pub fn validate(event: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    for (field, most) in
        [("reportingController", 316), ("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024)]
    {
        if text(field).is_empty() && field != "note" {
            causes.push(Cause::required(field, ""));
        } else if text(field).len() > most {
            let why = format!("can have at most {most} characters");
            causes.push(Cause::invalid(field, &format!("{:?}", text(field)), &why));
        }
    }
    if text("eventTime").is_empty() {
        causes.push(Cause::required("eventTime", ""));
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        causes.push(Cause::invalid("type", &format!("{:?}", text("type")), "has invalid value: "));
    }
    let about = event["regarding"]["namespace"].as_str().unwrap_or_default();
    let home = event["metadata"]["namespace"].as_str().unwrap_or_default();
    if about.is_empty() {
        if !matches!(home, "default" | "kube-system") {
            let why = "does not match event.namespace";
            causes.push(Cause::invalid("regarding.namespace", "\"\"", why));
        }
    } else if about != home {
        causes.push(Cause::invalid("regarding.namespace", &format!("{about:?}"), "does not match event.namespace"));
    }
    let series = &event["series"];
    if series.is_object() {
        if series["count"].as_i64().unwrap_or(0) < 2 {
            causes.push(Cause::invalid("series.count", &series["count"].to_string(), "should be at least 2"));
        }
        if !series["lastObservedTime"].is_string() {
            causes.push(Cause::required("series.lastObservedTime", ""));
        }
    }
    let Some(old) = old else { return causes };
    let fixed = [
        "regarding",
        "reason",
        "note",
        "deprecatedSource",
        "deprecatedFirstTimestamp",
        "deprecatedLastTimestamp",
        "deprecatedCount",
    ];
    for field in
        fixed.into_iter().chain(["eventTime", "reportingController", "reportingInstance", "action", "type", "related"])
    {
        if old[field] != event[field] {
            causes.push(Cause::invalid(field, &event[field].to_string(), "field is immutable"));
        }
    }
    causes
}

//! The scale subresource: `autoscaling/v1` Scale in front of a few fields.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#scale-subresource>

use serde_json::{Value, json};

use super::{Api, Context, Target};
use crate::{
    object,
    patch::Patch,
    registry::Scale,
    status::{Cause, Result, Status},
    store::Entry,
};

impl Api {
    pub fn scale(&self, target: Target<'_>) -> Result<Value> {
        let entry = self.get(target)?;
        Ok(show(paths(target)?, &entry))
    }

    /// Writes `spec.replicas`; the body is a whole Scale or, with `patch`, what is left of one after the patch.
    pub fn set_scale(
        &self,
        target: Target<'_>,
        patch: Option<&Patch>,
        body: &Value,
        context: &mut Context,
    ) -> Result<Value> {
        let paths = paths(target)?;
        let entry = self.change(target, context, |live, _| {
            let current = scale_of(paths, live);
            let wanted = match patch {
                Some(Patch::Json(patch)) => {
                    let mut scale = current;
                    json_patch::patch(&mut scale, patch).map_err(|error| Status::unprocessable(error.to_string()))?;
                    scale
                }
                Some(Patch::Merge(patch) | Patch::Strategic(patch)) => {
                    let mut scale = current;
                    json_patch::merge(&mut scale, patch);
                    scale
                }
                None => body.clone(),
            };
            let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
            if replicas < 0 {
                let why = "must be greater than or equal to 0";
                let cause = Cause::invalid("spec.replicas", &replicas.to_string(), why);
                return Err(Status::invalid("autoscaling", "Scale", target.name, &[cause]));
            }
            let mut new = live.clone();
            let version = object::meta(&wanted, "resourceVersion");
            if !version.is_empty() {
                object::metadata(&mut new).insert("resourceVersion".into(), json!(version));
            }
            put(&mut new, &paths.spec_replicas, json!(replicas));
            Ok(new)
        })?;
        Ok(show(paths, &entry))
    }
}

fn paths(target: Target<'_>) -> Result<&Scale> {
    target.kind.scale.as_ref().ok_or_else(Status::no_such_path)
}

fn show(paths: &Scale, entry: &Entry) -> Value {
    scale_of(paths, &entry.value)
}

fn scale_of(paths: &Scale, value: &Value) -> Value {
    let field = |name: &str| value["metadata"][name].clone();
    let mut status = json!({ "replicas": object::at(value, &paths.status_replicas).as_i64().unwrap_or(0) });
    if let Some(selector) = paths.selector.as_deref().map(|path| object::at(value, path)) {
        let text = match selector {
            Value::Object(_) => {
                let labels = selector["matchLabels"].as_object().into_iter().flatten();
                labels
                    .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                    .collect::<Vec<_>>()
                    .join(",")
            }
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        status["selector"] = json!(text);
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": field("name"), "namespace": field("namespace"), "uid": field("uid"),
            "resourceVersion": field("resourceVersion"), "creationTimestamp": field("creationTimestamp"),
        },
        "spec": { "replicas": object::at(value, &paths.spec_replicas).as_i64().unwrap_or(0) },
        "status": status,
    })
}

fn put(value: &mut Value, path: &str, new: Value) {
    let mut node = value;
    for field in path.trim_start_matches('.').split('.') {
        node = object::map(node).entry(field).or_insert(Value::Null);
    }
    *node = new;
}

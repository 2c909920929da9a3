//! Questions about rights: `kubectl auth can-i`, `kubectl auth whoami`.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>

use serde_json::{Value, json};

use super::{Attributes, User};
use crate::{
    api::Api,
    registry::Kind,
    status::{Cause, Result, Status},
};

/// Answers a review. `namespace` is the path's.
pub fn review(api: &Api, user: &User, kind: &Kind, namespace: &str, mut body: Value) -> Result<Value> {
    body["status"] = match kind.kind.as_str() {
        "SelfSubjectRulesReview" => rules(api, user, body["spec"]["namespace"].as_str().unwrap_or_default()),
        "TokenReview" => match api.tokens.verify(api, body["spec"]["token"].as_str().unwrap_or_default()) {
            Some(user) => json!({ "authenticated": true, "user": user.info() }),
            None => json!({ "user": {}, "error": "invalid bearer token" }),
        },
        "SelfSubjectReview" => json!({ "userInfo": user.info() }),
        _ => {
            let spec = &body["spec"];
            let asked = attributes(spec).ok_or_else(|| {
                let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                let cause = Cause::invalid("spec.resourceAttributes", "null", why);
                Status::invalid(&kind.group, &kind.kind, "", &[cause])
            })?;
            if kind.kind == "LocalSubjectAccessReview" && asked.namespace != namespace {
                let why = "must match metadata.namespace";
                let cause = Cause::invalid("spec.resourceAttributes.namespace", &format!("{:?}", asked.namespace), why);
                return Err(Status::invalid(&kind.group, &kind.kind, "", &[cause]));
            }
            if kind.kind == "SelfSubjectAccessReview" {
                verdict(api, user, &asked)
            } else {
                let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let other = User {
                    name: spec["user"].as_str().unwrap_or_default().to_owned(),
                    groups: groups.map(str::to_owned).collect(),
                    ..User::default()
                };
                verdict(api, &other, &asked)
            }
        }
    };
    Ok(body)
}

fn verdict(api: &Api, user: &User, asked: &Attributes) -> Value {
    match api.authorize(user, asked) {
        Ok(()) => json!({ "allowed": true }),
        Err(_) => json!({ "allowed": false }),
    }
}

fn attributes(spec: &Value) -> Option<Attributes> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Object(_), Value::Object(_)) => None,
        (resource @ Value::Object(_), _) => {
            let field = |name: &str| text(&resource[name]);
            let asked = Attributes::resource(
                &field("verb"),
                &field("group"),
                &field("resource"),
                &field("namespace"),
                &field("name"),
            );
            Some(Attributes { subresource: field("subresource"), ..asked })
        }
        (_, path @ Value::Object(_)) => {
            Some(Attributes { verb: text(&path["verb"]), path: text(&path["path"]), ..Attributes::default() })
        }
        _ => None,
    }
}

fn rules(api: &Api, user: &User, namespace: &str) -> Value {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    let mut missing = Vec::new();
    if user.groups.iter().any(|group| group == super::MASTERS) {
        resources.push(json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
        paths.push(json!({ "verbs": ["*"], "nonResourceURLs": ["*"] }));
    }
    api.visit_rules(user, namespace, &mut missing, &mut |rule| {
        if rule["nonResourceURLs"].is_array() {
            paths.push(rule.clone());
        } else {
            resources.push(rule.clone());
        }
        false
    });
    json!({ "incomplete": !missing.is_empty(), "resourceRules": resources, "nonResourceRules": paths })
}

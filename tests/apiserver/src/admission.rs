//! ValidatingAdmissionPolicies: CEL that is asked before a write or a deletion.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

use std::sync::Arc;

use kube_cel::{AdmissionRequest, GroupVersionKind, GroupVersionResource, VapEvaluator, VapExpression};
use serde_json::Value;

use crate::{
    api::{Api, Context, Target},
    object, selectors,
    status::{Result, Status},
    store::Entry,
};

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";

/// What is about to happen.
struct Attempt<'a> {
    api: &'a Api,
    target: Target<'a>,
    operation: &'a str,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
    context: Context,
}

/// Refuses what a bound policy denies. The first denial is told, as there.
pub fn admit(
    api: &Api,
    target: Target<'_>,
    operation: &str,
    new: Option<&Value>,
    old: Option<&Value>,
    context: &mut Context,
) -> Result<()> {
    let bindings = api.store.collection(BINDINGS).list(&api.store, "").items;
    // A policy cannot lock its own way out.
    if bindings.is_empty() || target.kind.group == "admissionregistration.k8s.io" {
        return Ok(());
    }
    let attempt = Attempt { api, target, operation, new, old, context: context.clone() };
    for (_, binding) in bindings {
        let name = binding.value["spec"]["policyName"].as_str().unwrap_or_default().to_owned();
        if let Some(policy) = api.store.get(POLICIES, &(String::new(), name)) {
            attempt.ask(&policy, &binding, context)?;
        }
    }
    Ok(())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn named(list: &Value, wanted: &str) -> bool {
    texts(list).any(|text| text == "*" || text == wanted)
}

/// Whether an expression could not be answered, which is not the same as the answer no.
fn broken(message: &str) -> bool {
    ["evaluation error:", "expression returned non-boolean", "failed to compile"]
        .iter()
        .any(|start| message.starts_with(start))
}

/// Whether a label selector takes any of the objects.
fn selected<'b>(selector: &Value, objects: impl IntoIterator<Item = &'b Value>) -> bool {
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        return true;
    }
    objects.into_iter().any(|value| selectors::label_selector(selector, value))
}

impl Attempt<'_> {
    fn ask(&self, policy: &Arc<Entry>, binding: &Arc<Entry>, context: &mut Context) -> Result<()> {
        let (policy, binding) = (&policy.value, &binding.value);
        let (spec, resources) = (&policy["spec"], &binding["spec"]["matchResources"]);
        if !self.matches(&spec["matchConstraints"], true) || !self.matches(resources, false) {
            return Ok(());
        }
        let evaluator = self.evaluator(spec, binding);
        let ignore = spec["failurePolicy"] == "Ignore";
        for condition in evaluator.evaluate(&expressions(spec, "matchConditions")) {
            let message = condition.message.unwrap_or_default();
            if broken(&message) && !ignore {
                return Err(self.denied(Some("Forbidden"), &message));
            }
            if !condition.passed {
                return Ok(());
            }
        }
        let validations = expressions(spec, "validations");
        let reasons =
            spec["validations"].as_array().into_iter().flatten().map(|validation| validation["reason"].as_str());
        for (result, reason) in
            evaluator.evaluate(&validations).into_iter().zip(reasons).filter(|(result, _)| !result.passed)
        {
            let message = result.message.unwrap_or_default();
            let broken = broken(&message);
            if broken && ignore {
                continue;
            }
            let actions: Vec<&str> = texts(&binding["spec"]["validationActions"]).collect();
            let (policy, binding) = (object::name(policy), object::name(binding));
            let why =
                format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}");
            if actions.contains(&"Deny") || broken {
                return Err(self.denied(reason, &why));
            }
            if actions.contains(&"Warn") {
                context.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
                ));
            }
        }
        Ok(())
    }

    fn denied(&self, reason: Option<&str>, why: &str) -> Status {
        let kind = self.target.kind;
        let mut status = Status::forbidden(&kind.group, &kind.plural, self.target.name, why);
        match reason {
            Some("Forbidden") => {}
            Some("Unauthorized") => (status.code, status.reason) = (401, "Unauthorized"),
            Some("RequestEntityTooLarge") => (status.code, status.reason) = (413, "RequestEntityTooLarge"),
            // `Invalid` is the default.
            _ => (status.code, status.reason) = (422, "Invalid"),
        }
        status
    }

    /// Whether rules and selectors are about this attempt. A policy must name resources; a binding may leave it to the policy.
    fn matches(&self, constraints: &Value, policy: bool) -> bool {
        let rules = |field: &str| constraints[field].as_array().map(Vec::as_slice).unwrap_or_default();
        let included = rules("resourceRules");
        let about = |rule: &Value| self.about(rule);
        let chosen = if included.is_empty() { !policy } else { included.iter().any(about) };
        chosen
            && !rules("excludeResourceRules").iter().any(about)
            && selected(&constraints["objectSelector"], [self.new, self.old].into_iter().flatten())
            && (constraints["namespaceSelector"].is_null()
                || selected(&constraints["namespaceSelector"], self.namespace().as_ref()))
    }

    fn about(&self, rule: &Value) -> bool {
        let Target { kind, subresource, name, .. } = self.target;
        let resource =
            if subresource.is_empty() { kind.plural.clone() } else { format!("{}/{subresource}", kind.plural) };
        // `*` means every resource but no subresource; `*/*` means all.
        let resources = texts(&rule["resources"]).any(|wanted| {
            wanted == resource
                || wanted == "*/*"
                || (wanted == "*" && subresource.is_empty())
                || wanted.strip_suffix("/*") == Some(&kind.plural)
        });
        let names = &rule["resourceNames"];
        let scope = match rule["scope"].as_str() {
            Some("Cluster") => !kind.namespaced,
            Some("Namespaced") => kind.namespaced,
            _ => true,
        };
        named(&rule["operations"], self.operation)
            && named(&rule["apiGroups"], &kind.group)
            && named(&rule["apiVersions"], &kind.version)
            && resources
            && scope
            && (names.is_null() || texts(names).any(|wanted| wanted == name))
    }

    fn namespace(&self) -> Option<Value> {
        let key = (String::new(), self.target.namespace.to_owned());
        self.api.store.get("/namespaces", &key).map(|entry| entry.value.clone())
    }

    fn evaluator(&self, spec: &Value, binding: &Value) -> VapEvaluator {
        let Target { kind, namespace, name, .. } = self.target;
        let (group, version) = (kind.group.clone(), kind.version.clone());
        let mut builder = VapEvaluator::builder().request(AdmissionRequest {
            operation: self.operation.to_owned(),
            username: self.context.user.name.clone(),
            groups: self.context.user.groups.clone(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            dry_run: self.context.dry_run,
            kind: GroupVersionKind { group: group.clone(), version: version.clone(), kind: kind.kind.clone() },
            resource: GroupVersionResource { group, version, resource: kind.plural.clone() },
            ..AdmissionRequest::default()
        });
        if let Some(new) = self.new {
            builder = builder.object(new.clone());
        }
        if let Some(old) = self.old {
            builder = builder.old_object(old.clone());
        }
        if let Some(home) = self.namespace() {
            builder = builder.namespace_object(home);
        }
        if let Some(params) = self.params(spec, binding) {
            builder = builder.params(params);
        }
        builder.build()
    }

    /// The object that the binding gives to the policy as its parameters.
    fn params(&self, spec: &Value, binding: &Value) -> Option<Value> {
        let (kind, reference) = (&spec["paramKind"], &binding["spec"]["paramRef"]);
        let kinds = self.api.registry.kinds();
        let kind = kinds.by_kind(kind["apiVersion"].as_str()?, kind["kind"].as_str()?)?;
        let namespace = match reference["namespace"].as_str() {
            Some(namespace) => namespace,
            None if kind.namespaced => self.target.namespace,
            None => "",
        };
        let key = (namespace.to_owned(), reference["name"].as_str()?.to_owned());
        self.api.store.get(&kind.storage, &key).map(|entry| crate::convert::value(kind, &entry))
    }
}

/// The expressions of a list, with each `variables.x` written out: CEL has no side effects, so a variable is its expression.
fn expressions(spec: &Value, list: &str) -> Vec<VapExpression> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let expand = |text: &str, variables: &[(String, String)]| {
        // Later variables may use earlier ones, which are written out already. Longest names first: one may begin another.
        let mut text = text.to_owned();
        for (name, expression) in variables {
            text = text.replace(name, expression);
        }
        text
    };
    for variable in spec["variables"].as_array().into_iter().flatten() {
        let name = format!("variables.{}", variable["name"].as_str().unwrap_or_default());
        let expression = expand(variable["expression"].as_str().unwrap_or_default(), &variables);
        variables.push((name, format!("({expression})")));
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    }
    let text = |value: &Value| value.as_str().map(|text| expand(text, &variables));
    spec[list]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| VapExpression {
            expression: text(&entry["expression"]).unwrap_or_default(),
            message: entry["message"].as_str().map(str::to_owned),
            message_expression: text(&entry["messageExpression"]),
        })
        .collect()
}

//! `x-kubernetes-validations` of one schema node.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

use kube_cel::{CompiledSchema, ErrorKind};
use serde_json::Value;

use super::{Type, join};
use crate::{object::show, status::Cause};

/// The rules of a node. Which value meets which old value is decided by the walk that calls them, because it knows the
/// keys of list maps; here a node is always the root.
#[derive(Debug)]
pub struct Rules(CompiledSchema);

impl Rules {
    pub fn compile(openapi: &Value) -> Option<Self> {
        openapi.get("x-kubernetes-validations").and_then(Value::as_array).filter(|rules| !rules.is_empty())?;
        let mut alone = openapi.clone();
        for field in ["properties", "items", "additionalProperties", "allOf", "anyOf", "oneOf"] {
            if let Some(below) = alone.get_mut(field) {
                without_rules(below);
            }
        }
        Some(Self(kube_cel::compile_schema(&alone)))
    }

    /// What does not compile, for the CustomResourceDefinition's own validation.
    pub fn errors(&self) -> Vec<String> {
        self.0.compilation_errors().iter().map(ToString::to_string).collect()
    }

    pub fn check(&self, kind: Type, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
        let Err(errors) = kube_cel::validate_compiled(&self.0, value, old) else { return };
        for error in errors {
            let field = error.field_path.trim_start_matches('.');
            let field = if field.is_empty() { path.to_owned() } else { join(path, field) };
            let message = match error.kind {
                ErrorKind::ValidationFailure => error.message.clone(),
                _ => format!("rule compile or evaluation error: {}: {}", error.rule, error.message),
            };
            causes.push(match error.reason.as_deref() {
                Some("FieldValueForbidden") => Cause::forbidden(field, &message),
                Some("FieldValueRequired") => Cause::required(field, &message),
                Some("FieldValueDuplicate") => {
                    Cause { field, reason: "FieldValueDuplicate", message: format!("Duplicate value: {}", show(value)) }
                }
                // An object is too much to show.
                _ if matches!(kind, Type::Object | Type::Array) => {
                    Cause { field, reason: "FieldValueInvalid", message: format!("Invalid value: {message}") }
                }
                _ => Cause::invalid(field, &show(value), &message),
            });
        }
    }
}

fn without_rules(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.shift_remove("x-kubernetes-validations");
            map.values_mut().for_each(without_rules);
        }
        Value::Array(list) => list.iter_mut().for_each(without_rules),
        _ => {}
    }
}

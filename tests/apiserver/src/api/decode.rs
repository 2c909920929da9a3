//! From a body to an object of its kind.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>

use serde_json::Value;

use super::Context;
use crate::{
    object,
    registry::Kind,
    schema::{default, prune, validate},
    status::{Cause, Result, Status},
};

/// What happens to fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Checks that `body` says it is of `kind`, drops what the kind does not have, and for built-in kinds refuses wrong types.
pub fn decode(kind: &Kind, mut body: Value, context: &mut Context) -> Result<Value> {
    let handled = |why: &str| {
        let Kind { kind, version, .. } = kind;
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    if !body.is_object() {
        return Err(handled("json: cannot unmarshal a value that is not an object"));
    }
    let (api_version, expected) = (body["apiVersion"].as_str().unwrap_or_default(), kind.api_version());
    // A typed client may leave both out: the path says them.
    if !api_version.is_empty() && api_version != expected {
        let why =
            format!("the API version in the data ({api_version}) does not match the expected API version ({expected})");
        return Err(Status::bad_request(why));
    }
    let stated = body["kind"].as_str().unwrap_or_default();
    if !stated.is_empty() && stated != kind.kind {
        let why = format!("the object provided is unrecognized: kind {stated:?} is not {:?}", kind.kind);
        return Err(Status::bad_request(why));
    }
    object::map(&mut body).insert("apiVersion".into(), expected.into());
    object::map(&mut body).insert("kind".into(), kind.kind.clone().into());
    if !body.get("metadata").is_none_or(|metadata| metadata.is_object() || metadata.is_null()) {
        return Err(handled("json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta"));
    }
    if body.get("metadata").is_none_or(Value::is_null) {
        object::map(&mut body).insert("metadata".into(), Value::Object(serde_json::Map::new()));
    }

    let schema = kind.schema();
    default::drop_nulls(schema, &mut body);
    let unknown: Vec<String> =
        prune::apply(schema, &mut body).into_iter().map(|field| format!("unknown field {field:?}")).collect();
    match context.validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            return Err(handled(&format!("strict decoding error: {}", unknown.join(", "))));
        }
        FieldValidation::Warn => context.warnings.extend(unknown),
        _ => {}
    }
    if !kind.custom {
        if let Some(cause) = validate::mistyped(schema, &body).first() {
            let Cause { field, message, .. } = cause;
            return Err(handled(&format!("json: cannot unmarshal field {field}: {message}")));
        }
    } else if let Some(cause) = schema
        .properties
        .get("metadata")
        .and_then(|meta| validate::mistyped(meta, &body["metadata"]).into_iter().next())
    {
        return Err(handled(&format!("json: cannot unmarshal field .metadata.{}: {}", cause.field, cause.message)));
    }
    Ok(body)
}

/// Server-side apply reads the configuration as typed fields: what it cannot type is refused whatever the field validation.
pub fn typed_patch(kind: &Kind, namespace: &str, name: &str, body: &Value) -> Result<()> {
    let schema = kind.schema();
    let mut probe = body.clone();
    default::drop_nulls(schema, &mut probe);
    let unknown =
        prune::apply(schema, &mut probe).into_iter().map(|field| format!(".{field}: field not declared in schema"));
    let mistyped =
        validate::mistyped(schema, &probe).into_iter().map(|cause| format!(".{}: {}", cause.field, cause.message));
    let problems: Vec<String> = unknown.chain(mistyped).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let object = if namespace.is_empty() { format!("/{name}") } else { format!("{namespace}/{name}") };
    let list = problems.join("\n  ");
    let list = if problems.len() > 1 { format!("errors:\n  {list}") } else { list };
    let message =
        format!("failed to create typed patch object ({object}; {}, Kind={}): {list}", kind.api_version(), kind.kind);
    Err(Status { code: 500, reason: "", message, details: None })
}

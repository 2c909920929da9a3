//! create, update, patch, delete.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, header},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    protobuf, read,
    request::{Accept, Place, Query},
    response,
};
use crate::{
    access::User,
    api::{Api, Context, DeleteOptions, Deleted, FieldValidation},
    object,
    patch::Patch,
    status::{Cause, Result, Status},
    store::Entry,
};

#[expect(clippy::too_many_arguments, reason = "a request has this many parts")]
pub fn write(
    api: &Api,
    user: &Arc<User>,
    method: &Method,
    place: &Place,
    query: &Query,
    headers: &HeaderMap,
    body: &Bytes,
    accept: Accept,
) -> Result<Response> {
    let collection = place.name.is_empty();
    if place.kind.virtual_only && *method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let mut context = context(user, query, headers)?;
    match *method {
        Method::POST if collection => {
            let object = object(headers, body)?;
            let entry = api.create(&place.kind, &place.namespace, object, &mut context)?;
            Ok(answer(201, place, &entry, accept, &context))
        }
        Method::POST if place.subresource == "token" => {
            let request = object(headers, body)?;
            let issued = api.tokens.issue(api, place.target(), request)?;
            Ok(response::raw(201, issued.to_string().into()))
        }
        Method::POST if place.subresource == "eviction" => {
            let eviction = object(headers, body)?;
            api.evict(place.target(), &eviction, &mut context)?;
            let done =
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
            Ok(response::raw(201, done.to_string().into()))
        }
        Method::PUT | Method::PATCH if matches!(place.subresource.as_str(), "token" | "eviction" | "log") => {
            Err(Status::method_not_allowed())
        }
        Method::PUT if !collection => {
            let object = object(headers, body)?;
            if place.subresource == "scale" {
                return Ok(response::json(&api.set_scale(place.target(), None, &object, &mut context)?));
            }
            let entry = api.update(place.target(), object, &mut context)?;
            Ok(answer(200, place, &entry, accept, &context))
        }
        Method::PATCH if !collection => patch(api, place, query, headers, body, accept, &mut context),
        Method::DELETE => delete(api, place, query, headers, body, accept, &mut context),
        _ => Err(Status::method_not_allowed()),
    }
}

fn answer(code: u16, place: &Place, entry: &Entry, accept: Accept, context: &Context) -> Response {
    response::warn(response::raw(code, read::one(&place.kind, entry, accept)), &context.warnings)
}

/// What the query says about a write.
fn context(user: &Arc<User>, query: &Query, headers: &HeaderMap) -> Result<Context> {
    let dry_run = match query.get("dryRun") {
        "" => false,
        "All" => true,
        other => {
            let why = format!("Unsupported value: {other:?}: supported values: \"All\"");
            let cause = Cause { field: "dryRun".into(), reason: "FieldValueNotSupported", message: why };
            return Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &[cause]));
        }
    };
    let validation = match query.get("fieldValidation") {
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        "" | "Warn" => FieldValidation::Warn,
        other => {
            let why = format!("Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\"");
            let cause = Cause { field: "fieldValidation".into(), reason: "FieldValueNotSupported", message: why };
            return Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &[cause]));
        }
    };
    // Without a manager's name the first word of the user agent is one.
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("unknown");
    let manager = match query.get("fieldManager") {
        "" => agent.split('/').next().unwrap_or("unknown").to_owned(),
        manager => manager.to_owned(),
    };
    Ok(Context { user: user.clone(), dry_run, validation, manager, force: query.flag("force"), warnings: Vec::new() })
}

fn media(headers: &HeaderMap) -> &str {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(response::JSON);
    stated.split(';').next().unwrap_or_default().trim()
}

/// The body as JSON, whether it came as JSON or YAML.
fn object(headers: &HeaderMap, body: &Bytes) -> Result<Value> {
    match media(headers) {
        response::JSON | "" => serde_json::from_slice(body).map_err(|error| malformed(&error)),
        "application/yaml" => yaml(body),
        protobuf::MEDIA => protobuf::decode(body),
        other => Err(Status::unsupported_media_type(other, "application/json, application/yaml")),
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type Object): couldn't get version/kind; json parse error: {error}"
    ))
}

fn yaml(body: &Bytes) -> Result<Value> {
    let text = std::str::from_utf8(body).map_err(|error| malformed(&error))?;
    serde_saphyr::from_str(text).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))
}

fn patch(
    api: &Api,
    place: &Place,
    query: &Query,
    headers: &HeaderMap,
    body: &Bytes,
    accept: Accept,
    context: &mut Context,
) -> Result<Response> {
    let target = place.target();
    let parsed = || {
        serde_json::from_slice::<Value>(body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
    };
    let patch = match media(headers) {
        "application/apply-patch+yaml" => {
            if query.get("fieldManager").is_empty() {
                let cause = Cause::required("fieldManager", "is required for apply patch");
                return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[cause]));
            }
            let config = yaml(body)?;
            let stated = &config["apiVersion"];
            if stated.is_null() || config["kind"].is_null() {
                let field = if stated.is_null() { "apiVersion" } else { "kind" };
                return Err(Status::bad_request(format!("{field} must be set in an apply patch")));
            }
            let (entry, created) = api.apply(target, &config, context)?;
            return Ok(answer(if created { 201 } else { 200 }, place, &entry, accept, context));
        }
        _ if context.force => {
            let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[cause]));
        }
        "application/json-patch+json" => {
            let patch = serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            Patch::Json(patch)
        }
        "application/merge-patch+json" => Patch::Merge(parsed()?),
        "application/strategic-merge-patch+json" if !place.kind.custom => Patch::Strategic(parsed()?),
        other => {
            let accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Err(Status::unsupported_media_type(other, accepted));
        }
    };
    if place.subresource == "scale" {
        return Ok(response::json(&api.set_scale(target, Some(&patch), &Value::Null, context)?));
    }
    let entry = api.patch(target, &patch, context)?;
    Ok(answer(200, place, &entry, accept, context))
}

fn delete(
    api: &Api,
    place: &Place,
    query: &Query,
    headers: &HeaderMap,
    body: &Bytes,
    accept: Accept,
    context: &mut Context,
) -> Result<Response> {
    let stated = if body.is_empty() { Value::Null } else { object(headers, body)? };
    let mut options = DeleteOptions::parse(&stated)?;
    options.dry_run |= context.dry_run;
    if options.propagation.is_none() && !query.get("propagationPolicy").is_empty() {
        options.propagation = Some(query.get("propagationPolicy").to_owned());
    }
    options.grace_seconds = options.grace_seconds.or_else(|| query.number("gracePeriodSeconds"));
    let kind = &place.kind;
    if place.name.is_empty() {
        let gone = api.delete_collection(kind, &place.namespace, &place.selector(query)?, &options, context)?;
        let items: Vec<&Value> = gone.iter().map(|entry| &entry.value).collect();
        let metadata = json!({ "resourceVersion": api.store.revision().to_string() });
        let list =
            json!({ "kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": items });
        return Ok(response::json(&list));
    }
    if !place.subresource.is_empty() {
        return Err(Status::method_not_allowed());
    }
    match api.delete(place.target(), &options, context)? {
        Deleted::Waiting(entry) => Ok(answer(200, place, &entry, accept, context)),
        // A pod is answered with itself, anything else with a success.
        Deleted::Gone(entry) if kind.storage == "/pods" => Ok(answer(200, place, &entry, accept, context)),
        Deleted::Gone(entry) => Ok(response::json(&json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": { "name": place.name, "group": kind.group, "kind": kind.plural, "uid": object::uid(&entry.value) },
        }))),
    }
}

//! get and list.

use std::sync::Arc;

use axum::{body::Bytes, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    request::{Accept, Form, Place, Query},
    response, table,
};
use crate::{
    api::{Api, Target},
    convert,
    registry::Kind,
    selectors::Selector,
    status::{Result, Status},
    store::{Entry, Key, Page},
};

impl Place {
    pub fn target(&self) -> Target<'_> {
        Target { kind: &self.kind, namespace: &self.namespace, name: &self.name, subresource: &self.subresource }
    }

    pub fn selector(&self, query: &Query) -> Result<Selector> {
        Selector::parse(&self.kind, query.get("labelSelector"), query.get("fieldSelector"))
    }
}

pub fn read(api: &Api, place: &Place, query: &Query, accept: Accept) -> Result<Response> {
    if place.kind.virtual_only {
        return Err(Status::method_not_allowed());
    }
    if accept.form == Form::Other {
        return Err(Status::not_acceptable());
    }
    if place.name.is_empty() {
        return list(api, place, query, accept);
    }
    if place.kind.actions.iter().any(|action| action.name == place.subresource) {
        return Err(Status::method_not_allowed());
    }
    if place.subresource == "scale" {
        return Ok(response::json(&api.scale(place.target())?));
    }
    not_ahead(api, query)?;
    Ok(response::raw(200, one(&place.kind, &*api.get(place.target())?, accept)))
}

/// One object in the form that was asked for.
pub fn one(kind: &Kind, entry: &Entry, accept: Accept) -> Bytes {
    match accept.form {
        Form::Table => Bytes::from(table::of(kind, &[&convert::value(kind, entry)], None, true).to_string()),
        Form::Metadata => Bytes::from(metadata(entry, true).to_string()),
        _ if convert::is_stored_form(kind, entry) || entry.revision == 0 => entry.json(),
        _ => Bytes::from(convert::value(kind, entry).to_string()),
    }
}

pub fn metadata(entry: &Entry, with_kind: bool) -> Value {
    let metadata = &entry.value["metadata"];
    if with_kind {
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
    } else {
        json!({ "metadata": metadata })
    }
}

/// A version that is not there yet cannot be read.
fn not_ahead(api: &Api, query: &Query) -> Result<()> {
    let asked = revision(query)?;
    let current = api.store.revision();
    if asked > current { Err(Status::too_large_resource_version(asked, current)) } else { Ok(()) }
}

pub fn revision(query: &Query) -> Result<u64> {
    let text = query.get("resourceVersion");
    if text.is_empty() {
        return Ok(0);
    }
    let why = format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax");
    text.parse().map_err(|_| Status::bad_request(format!("resourceVersion: {why}")))
}

/// Where the next page of a list begins: the version the first page was read at, and the last name that was told.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>
fn decode_token(token: &str) -> Result<(u64, Key)> {
    let wrong = || Status::bad_request("continue key is not valid: invalid continue token");
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    serde_json::from_slice(&json).map_err(|_| wrong())
}

fn page(api: &Api, place: &Place, query: &Query) -> Result<Page> {
    let collection = api.store.collection(&place.kind.storage);
    let expired = "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
                   the continue parameter.";
    if !query.get("continue").is_empty() {
        let (revision, last) = decode_token(query.get("continue"))?;
        let mut page =
            collection.list_at(&api.store, &place.namespace, revision).map_err(|_gone| Status::expired(expired))?;
        page.items.retain(|(key, _)| **key > last);
        return Ok(page);
    }
    not_ahead(api, query)?;
    if query.get("resourceVersionMatch") == "Exact" {
        let asked = revision(query)?;
        return collection.list_at(&api.store, &place.namespace, asked).map_err(|_gone| {
            Status::expired(format!("The resourceVersion for the provided list is too old: {asked}"))
        });
    }
    Ok(collection.list(&api.store, &place.namespace))
}

fn list(api: &Api, place: &Place, query: &Query, accept: Accept) -> Result<Response> {
    let kind = &place.kind;
    let selector = place.selector(query)?;
    let Page { mut items, revision } = page(api, place, query)?;
    if let Some(name) = selector.only_name() {
        items.retain(|(key, _)| key.1 == name);
    }
    if !selector.is_empty() {
        items.retain(|(_, entry)| matches(kind, &selector, entry));
    }
    let limit = query.number::<usize>("limit").filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let mut meta = json!({ "resourceVersion": revision.to_string() });
    if items.len() > limit {
        let remaining = items.len() - limit;
        items.truncate(limit);
        if let Some((last, _)) = items.last() {
            meta["continue"] = json!(URL_SAFE_NO_PAD.encode(json!([revision, **last]).to_string()));
        }
        // With a selector the server does not know how many are left.
        if selector.is_empty() {
            meta["remainingItemCount"] = json!(remaining);
        }
    }
    let body = match accept.form {
        Form::Table => {
            let whole = query.get("includeObject");
            let values: Vec<Value> = items.iter().map(|(_, entry)| convert::value(kind, entry)).collect();
            let values: Vec<&Value> = values.iter().collect();
            let mut table = table::rows(kind, &values, whole);
            table["metadata"] = meta;
            Bytes::from(table.to_string())
        }
        Form::Metadata => {
            let items: Vec<Value> = items.iter().map(|(_, entry)| metadata(entry, false)).collect();
            let list = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items });
            Bytes::from(list.to_string())
        }
        _ => whole(kind, &items, &meta),
    };
    Ok(response::raw(200, body))
}

pub fn matches(kind: &Kind, selector: &Selector, entry: &Entry) -> bool {
    if convert::is_stored_form(kind, entry) {
        selector.matches(&entry.value)
    } else {
        selector.matches(&convert::value(kind, entry))
    }
}

/// The list as text, from the text that each object already has.
fn whole(kind: &Kind, items: &[(Arc<Key>, Arc<Entry>)], meta: &Value) -> Bytes {
    let head = json!({ "kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": meta }).to_string();
    let mut body = Vec::with_capacity(head.len() + items.len() * 1024);
    body.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    body.extend_from_slice(b",\"items\":[");
    for (index, (_, entry)) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let bare = !kind.custom && convert::is_stored_form(kind, entry);
        body.extend_from_slice(&if bare { entry.item() } else { one(kind, entry, Accept::default()) });
    }
    body.extend_from_slice(b"]}");
    Bytes::from(body)
}

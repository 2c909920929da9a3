//! Watches: what is there first if that was asked for, then every change in its order.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>,
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{
    Wire, read,
    request::{Accept, Form, Place, Query},
    response, table,
};
use crate::{
    convert,
    registry::Kind,
    selectors::Selector,
    status::{Cause, Result, Status},
    store::{Collection, Entry, Event},
};

/// One open watch.
struct Watch {
    wire: Wire,
    collection: Arc<Collection>,
    grown: Receiver<u64>,
    kind: Arc<Kind>,
    definitions: Receiver<()>,
    namespace: String,
    name: String,
    selector: Selector,
    form: Form,
    /// Whether the table's columns have been told.
    told_columns: bool,
    /// Everything up to here has been told.
    cursor: u64,
    bookmarks: Option<Interval>,
    deadline: Instant,
    /// What the first answer brings.
    first: Option<Bytes>,
    ended: bool,
}

pub fn start(wire: &Wire, place: &Place, query: &Query, accept: Accept) -> Result<Response> {
    if accept.form == Form::Other {
        return Err(Status::not_acceptable());
    }
    if place.kind.virtual_only {
        return Err(Status::method_not_allowed());
    }
    let store = &wire.api.store;
    let collection = store.collection(&place.kind.storage);
    // A real server ends a watch by itself after half an hour or more.
    let seconds = query.number("timeoutSeconds").filter(|seconds| *seconds > 0).unwrap_or(1800);
    let bookmarks = query.flag("allowWatchBookmarks").then(|| {
        let mut ticks = tokio::time::interval_at(Instant::now() + wire.bookmark_interval, wire.bookmark_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut watch = Watch {
        wire: wire.clone(),
        grown: collection.grown(),
        collection,
        kind: place.kind.clone(),
        definitions: wire.api.registry.changes(),
        namespace: place.namespace.clone(),
        name: place.name.clone(),
        selector: place.selector(query)?,
        form: accept.form,
        told_columns: false,
        cursor: read::revision(query)?,
        bookmarks,
        deadline: Instant::now() + Duration::from_secs(seconds),
        first: None,
        ended: false,
    };
    let streaming = streaming(query)?;
    let begin = query.get("resourceVersion");
    let everything = streaming.unwrap_or(matches!(begin, "" | "0"));
    if streaming == Some(true) && watch.cursor > store.revision() {
        return Err(Status::too_large_resource_version(watch.cursor, store.revision()));
    }
    if everything {
        watch.first = Some(watch.initial(streaming == Some(true)));
    } else if matches!(begin, "" | "0") {
        watch.cursor = store.revision();
    } else if let Err(gone) = watch.collection.may_begin(watch.cursor) {
        watch.first = Some(watch.expired(gone.oldest));
    }
    // An idle watch must get its headers at once, or the client would wait for the first change.
    let events = stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), watch))
    });
    Ok(response::bytes(200, response::JSON, Body::from_stream(events)))
}

/// `sendInitialEvents`, with what it requires.
fn streaming(query: &Query) -> Result<Option<bool>> {
    let invalid = |cause: Cause| Status::invalid("meta.k8s.io", "ListOptions", "", &[cause]);
    let matching = query.get("resourceVersionMatch");
    match query.get("sendInitialEvents") {
        "" if matching.is_empty() => Ok(None),
        "" => Err(invalid(Cause::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ))),
        _ if matching != "NotOlderThan" => Err(invalid(Cause::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ))),
        value => Ok(Some(matches!(value, "1" | "true"))),
    }
}

impl Watch {
    /// Everything there is, as if it had just been added.
    fn initial(&mut self, with_end: bool) -> Bytes {
        let page = self.collection.list(&self.wire.api.store, &self.namespace);
        self.cursor = page.revision;
        let mut out = Vec::new();
        for (key, entry) in page.items {
            if (self.name.is_empty() || key.1 == self.name) && self.matches(&entry) {
                self.write(&mut out, "ADDED", &entry);
            }
        }
        if with_end && self.bookmarks.is_some() {
            self.bookmark(&mut out, true);
        }
        Bytes::from(out)
    }

    fn expired(&mut self, oldest: u64) -> Bytes {
        self.ended = true;
        let status = Status::expired(format!("too old resource version: {} ({oldest})", self.cursor));
        Bytes::from(format!("{}\n", json!({ "type": "ERROR", "object": status.body() })))
    }

    /// Whether the kind still is the one that this watch began with; a real server builds a changed one anew, too.
    fn is_defined(&self) -> bool {
        let Kind { group, version, plural, .. } = &*self.kind;
        let now = self.wire.api.registry.kinds().find(group, version, plural);
        now.is_some_and(|now| Arc::ptr_eq(&now, &self.kind))
    }

    fn matches(&self, entry: &Entry) -> bool {
        self.selector.is_empty() || read::matches(&self.kind, &self.selector, entry)
    }

    /// The next piece of the answer, or the end of it.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(first);
        }
        while !self.ended {
            match self.collection.since(&self.wire.api.store, self.cursor) {
                Err(gone) => return Some(self.expired(gone.oldest)),
                Ok((events, revision)) => {
                    self.cursor = revision.max(self.cursor);
                    let mut out = Vec::new();
                    for event in &events {
                        self.tell(&mut out, event);
                    }
                    if !out.is_empty() {
                        return Some(Bytes::from(out));
                    }
                }
            }
            let tick = async {
                match &mut self.bookmarks {
                    Some(ticks) => ticks.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wire.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.deadline) => return None,
                changed = self.grown.changed() => changed.ok()?,
                changed = self.definitions.changed() => {
                    changed.ok()?;
                    if !self.is_defined() {
                        return None;
                    }
                }
                _ = tick => {
                    let mut out = Vec::new();
                    self.bookmark(&mut out, false);
                    return Some(Bytes::from(out));
                }
            }
        }
        None
    }

    /// A change as this watch sees it: what begins to match is added, what no longer does is deleted.
    fn tell(&mut self, out: &mut Vec<u8>, event: &Event) {
        let here = (self.namespace.is_empty() || event.key.0 == self.namespace)
            && (self.name.is_empty() || event.key.1 == self.name);
        if !here {
            return;
        }
        let before = event.before.as_ref().is_some_and(|before| self.matches(before));
        let now = !event.deleted && self.matches(&event.now);
        match (before, now) {
            (false, true) => self.write(out, "ADDED", &event.now),
            (true, true) => self.write(out, "MODIFIED", &event.now),
            (true, false) => self.write(out, "DELETED", &event.now),
            (false, false) => {}
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, kind: &str, entry: &Entry) {
        let object = match self.form {
            Form::Table => {
                let value = convert::value(&self.kind, entry);
                let table = table::of(&self.kind, &[&value], None, !self.told_columns);
                self.told_columns = true;
                Bytes::from(table.to_string())
            }
            Form::Metadata => Bytes::from(read::metadata(entry, true).to_string()),
            _ => read::one(&self.kind, entry, Accept::default()),
        };
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        out.extend_from_slice(&object);
        out.extend_from_slice(b"}\n");
    }

    /// Nothing but the version up to which everything has been told.
    fn bookmark(&self, out: &mut Vec<u8>, end_of_initial: bool) {
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string() });
        if end_of_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object: Value = match self.form {
            Form::Table => {
                json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": [], "rows": [] })
            }
            Form::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            _ => json!({ "kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata }),
        };
        out.extend_from_slice(json!({ "type": "BOOKMARK", "object": object }).to_string().as_bytes());
        out.push(b'\n');
    }
}

//! The wire. Paths are data here (kinds come and go), so there is one handler that reads them, not a table of routes.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

mod columns;
mod discovery;
mod logs;
mod openapi;
mod protobuf;
mod read;
mod request;
mod response;
mod table;
mod watch;
mod write;

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Attributes, User},
    api::Api,
    status::{Result, Status},
};
use request::{Accept, Place, Query};

/// What every request needs.
#[derive(Clone, Debug)]
pub struct Wire {
    pub api: Arc<Api>,
    pub stop: CancellationToken,
    pub bookmark_interval: Duration,
    /// Where containers' output is.
    pub logs: Option<Arc<Path>>,
}

/// The limit of a request's body on a real server.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// What etcd takes at once.
const ETCD_LIMIT: usize = 1536 * 1024;

pub fn router(wire: Wire) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(wire)
}

async fn handle(State(wire): State<Wire>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let answer = admitted(&wire, &method, &uri, &headers, &body);
    let status = answer.as_ref().map_or_else(|error| error.code, |response| response.status().as_u16());
    tracing::debug!(%method, %uri, status, "request");
    answer.unwrap_or_else(|error| response::status(&error))
}

/// Who asks, whether they may, and then the answer; all of it is noted.
fn admitted(wire: &Wire, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Response> {
    let path: Vec<String> = uri.path().split('/').filter(|part| !part.is_empty()).map(request::unescape).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = Query::parse(uri);
    let user = wire.api.authenticate(headers)?;
    let asked = Attributes::of(method, &path, query.flag("watch"), query.get("fieldSelector"));
    let answer = wire.api.authorize(&user, &asked).and_then(|()| match body.len() {
        size if size > BODY_LIMIT => Err(Status::too_large()),
        size if size > ETCD_LIMIT => Err(Status::too_large_for_etcd()),
        _ => route(wire, &user, method, &path, &query, headers, body),
    });
    let code = answer.as_ref().map_or_else(|error| error.code, |response| response.status().as_u16());
    wire.api.audit.note(&user, &asked, code);
    answer
}

fn route(
    wire: &Wire,
    user: &Arc<User>,
    method: &Method,
    path: &[&str],
    query: &Query,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response> {
    let accept = Accept::parse(headers);
    match path {
        ["livez" | "readyz" | "healthz", ..] => return Ok(response::text("ok")),
        ["version"] => return Ok(response::json(&discovery::version())),
        ["openapi", "v2"] => return Ok(openapi::v2()),
        ["openapi", "v3", rest @ ..] => return openapi::v3(&wire.api, rest),
        ["standin", "audit"] => return Ok(audit(wire)),
        [] => {
            return Ok(response::json(
                &json!({ "paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"] }),
            ));
        }
        _ => {}
    }
    let kinds = wire.api.registry.kinds();
    if let Some(answer) = discovery::answer(&kinds, path, accept) {
        return if method == Method::GET { Ok(answer) } else { Err(Status::method_not_allowed()) };
    }
    let place = Place::find(&kinds, path).ok_or_else(Status::no_such_path)?;
    match *method {
        Method::GET if place.subresource == "log" => logs::read(wire, &place, query),
        Method::GET if place.is_watch(query) => watch::start(wire, &place, query, accept),
        Method::GET => read::read(&wire.api, &place, query, accept),
        _ => write::write(&wire.api, user, method, &place, query, headers, body, accept),
    }
}

/// What was asked so far, by whom; no path of Kubernetes.
fn audit(wire: &Wire) -> Response {
    let records =
        wire.api.audit.records().into_iter().map(|(record, count)| json!({ "request": record, "count": count }));
    response::json(&records.collect())
}

//! The wire. Paths are data here (kinds come and go), so there is one handler that reads them, not a table of routes.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

mod columns;
mod discovery;
mod openapi;
mod protobuf;
mod read;
mod request;
mod response;
mod table;
mod watch;
mod write;

use std::{sync::Arc, time::Duration};

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
}

/// The limit of a request's body on a real server.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// What etcd takes at once.
const ETCD_LIMIT: usize = 1536 * 1024;

pub fn router(api: Arc<Api>, stop: CancellationToken, bookmark_interval: Duration) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(Wire { api, stop, bookmark_interval })
}

async fn handle(State(wire): State<Wire>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let answer = match body.len() {
        size if size > BODY_LIMIT => Err(Status::too_large()),
        size if size > ETCD_LIMIT => Err(Status::too_large_for_etcd()),
        _ => route(&wire, &method, &uri, &headers, &body),
    };
    let status = answer.as_ref().map_or_else(|error| error.code, |response| response.status().as_u16());
    tracing::debug!(%method, %uri, status, "request");
    answer.unwrap_or_else(|error| response::status(&error))
}

fn route(wire: &Wire, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Response> {
    let path: Vec<String> = uri.path().split('/').filter(|part| !part.is_empty()).map(request::unescape).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let accept = Accept::parse(headers);
    match path[..] {
        ["livez" | "readyz" | "healthz", ..] => return Ok(response::text("ok")),
        ["version"] => return Ok(response::json(&discovery::version())),
        ["openapi", "v2"] => return Ok(openapi::v2()),
        ["openapi", "v3", ref rest @ ..] => return openapi::v3(&wire.api, rest),
        [] => {
            return Ok(response::json(
                &json!({ "paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"] }),
            ));
        }
        _ => {}
    }
    let kinds = wire.api.registry.kinds();
    if let Some(answer) = discovery::answer(&kinds, &path, accept) {
        return if method == Method::GET { Ok(answer) } else { Err(Status::method_not_allowed()) };
    }
    let place = Place::find(&kinds, &path).ok_or_else(Status::no_such_path)?;
    let query = Query::parse(uri);
    match *method {
        Method::GET if place.is_watch(&query) => watch::start(wire, &place, &query, accept),
        Method::GET => read::read(&wire.api, &place, &query, accept),
        _ => write::write(&wire.api, method, &place, &query, headers, body, accept),
    }
}

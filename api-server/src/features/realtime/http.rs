//! Who may open a connection, before it has shown a token.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::Deserialize;
use url::Url;

use super::{connection, hub::Handshake, packet::MAX_PAYLOAD};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Query, Tenant},
    middleware::{Scope, host},
    tenancy::TenantSnapshot,
};

/// Most connections are silent: what each holds in memory counts more than how fast it could be read.
const READ_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER: usize = 4 * 1024;
const MAX_WRITE_BUFFER: usize = 256 * 1024;

/// Apart from the document of routes: what is spoken here is Socket.IO, which OpenAPI cannot describe.
pub fn router() -> Router<App> {
    Router::new().route("/socket.io/", any(open)).route("/socket.io", any(open))
}

/// What a client of Socket.IO puts into the address.
#[derive(Deserialize)]
struct Wish {
    #[serde(rename = "EIO")]
    version: Option<String>,
    transport: Option<String>,
}

async fn open(
    State(app): State<App>,
    tenant: Tenant,
    scope: Scope,
    parts: Parts,
    Query(wish): Query<Wish>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    wish.check()?;
    let upgrade = upgrade.map_err(|refused| {
        let message = format!("This path takes WebSockets: {refused}");
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", message)
            .with_header(header::UPGRADE, http::HeaderValue::from_static("websocket"))
    })?;
    check_origin(&tenant, host(&parts.uri, &parts.headers).as_deref(), &parts.headers)?;
    let place = app.realtime.admit(&tenant)?;
    let handshake = Arc::new(Handshake { scope, method: parts.method, headers: parts.headers });
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_frame_size(MAX_PAYLOAD)
        .max_message_size(MAX_PAYLOAD);
    Ok(upgrade.on_upgrade(move |socket| connection::serve(app, socket, handshake, place)).into_response())
}

impl Wish {
    fn check(&self) -> Result<(), ApiError> {
        let mut faults = vec![];
        if self.version.as_deref() != Some("4") {
            faults.push(Detail::new("EIO", "UNSUPPORTED", "use 4: a client of Socket.IO 3 or 4"));
        }
        if self.transport.as_deref() != Some("websocket") {
            faults.push(Detail::new(
                "transport",
                "UNSUPPORTED",
                "use websocket (`transports: [\"websocket\"]`): polling would have to reach the same replica each time",
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(ApiError::validation(faults)) }
    }
}

/// A browser says which page opens a connection, and no CORS keeps others from it: the tenant's pages may, and those of the
/// host that is asked. Programs send no origin.
fn check_origin(tenant: &TenantSnapshot, asked: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let own = || {
        let url = Url::parse(origin).ok()?;
        (url.host_str() == asked).then_some(())
    };
    if tenant.allows_origin(origin) || asked.is_some() && own().is_some() {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "Pages of {origin:?} may not connect: it is not among the tenant's cors.allowedOrigins"
    ))
    .with_code("ORIGIN_REFUSED"))
}

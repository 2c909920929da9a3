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
use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use super::{
    connection,
    hub::Handshake,
    packet::{self, MAX_PAYLOAD},
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{Query, Tenant},
    middleware::{Client, Scope, host},
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
    /// Of a connection that is open already, when polling.
    sid: Option<String>,
}

async fn open(
    State(app): State<App>,
    tenant: Tenant,
    scope: Scope,
    parts: Parts,
    Query(wish): Query<Wish>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if let Err(refused) = wish.check() {
        return if wish.begins_polling(&parts.method) && upgrade.is_err() {
            Ok(told_by_polling(&refused))
        } else {
            Err(refused)
        };
    }
    let upgrade = upgrade.map_err(|refused| {
        let message = format!("This path takes WebSockets: {refused}");
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", message)
            .with_header(header::UPGRADE, http::HeaderValue::from_static("websocket"))
    })?;
    check_origin(&tenant, host(&parts.uri, &parts.headers).as_deref(), &parts.headers)?;
    let place = app.realtime.admit(&tenant)?;
    let client = Client { ip: scope.client_ip(), behind_proxy: scope.behind_proxy() };
    let handshake = Arc::new(Handshake {
        tenant: tenant.name.clone(),
        tenant_id: tenant.id,
        scope: Scope::new(scope.request_id().into(), scope.path().into(), client),
        method: parts.method,
        headers: parts.headers,
    });
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
        match self.transport.as_deref() {
            Some("websocket") => {}
            Some("polling") if faults.is_empty() => return Err(polling_refused()),
            _ => faults.push(Detail::new("transport", "UNSUPPORTED", "use websocket")),
        }
        if faults.is_empty() { Ok(()) } else { Err(ApiError::validation(faults)) }
    }

    /// Whether it is the first request of a client that polls, to which alone it listens for an answer of Socket.IO.
    fn begins_polling(&self, method: &Method) -> bool {
        let (version, transport) = (self.version.as_deref(), self.transport.as_deref());
        method == Method::GET && version == Some("4") && transport == Some("polling") && self.sid.is_none()
    }
}

fn polling_refused() -> ApiError {
    let message = "Connect with `transports: [\"websocket\"]`: polling, with which clients begin unless told otherwise, \
                   would have to reach the same replica each time";
    ApiError::new(StatusCode::BAD_REQUEST, "POLLING_UNSUPPORTED", message)
}

/// Says to a client that polls why it cannot connect, and how it could. Of an answer that is an error the client shows its
/// developer "xhr poll error" and no word of the body, and tries again for ever. So it is given a connection, over which it
/// is refused: `connect_error` has the message, and the client stops. Nothing is kept of it here.
fn told_by_polling(refused: &ApiError) -> Response {
    let packets = [packet::open(Uuid::now_v7()), packet::refused("/", refused.message(), &connection::told(refused))];
    packets.join(packet::SEPARATOR).into_response()
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

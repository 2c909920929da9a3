//! The OpenAPI document and the page that shows it, all of it from this binary.

#[cfg(debug_assertions)]
mod document;
#[cfg(test)]
mod matrix;
mod routes;
#[cfg(test)]
mod tests;

use std::io::Read as _;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::get,
};
use flate2::read::GzDecoder;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub use self::routes::Routes;
pub(crate) use self::routes::routes;
use crate::app::App;

/// What the build script packed: the committed document.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

/// The document as JSON. To say it takes a tenth of a program, so a release only carries what a build for debugging was
/// told by the routes; a check holds one against the other.
#[cfg(debug_assertions)]
pub fn text() -> anyhow::Result<String> {
    Ok(document::document().to_pretty_json()? + "\n")
}

/// The document as JSON.
#[cfg(not(debug_assertions))]
pub fn text() -> anyhow::Result<String> {
    let mut text = String::new();
    GzDecoder::new(PACKED).read_to_string(&mut text)?;
    Ok(text)
}

/// `/docs` and `/openapi.json`.
pub fn pages() -> Router<App> {
    // The page's own scripts, and the styles it sets on its elements; nothing from elsewhere.
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'",
    );
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    const GZIP: HeaderValue = HeaderValue::from_static("gzip");
    let document = || async { ([(header::CONTENT_TYPE, JSON), (header::CONTENT_ENCODING, GZIP)], PACKED) };
    let page = Router::new()
        .merge(SwaggerUi::new("/docs").config(Config::from("/openapi.json")))
        .route("/openapi.json", get(document));
    page.layer(from_fn(unpacked)).layer(SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, POLICY))
}

/// The binary holds the page's files compressed, and hands them out so. Who cannot read that gets them plain.
async fn unpacked(request: Request, next: Next) -> Response {
    let accepted = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let takes_gzip = accepted.is_some_and(|encodings| encodings.contains("gzip"));
    let answer = next.run(request).await;
    let packed = answer.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    if takes_gzip || !packed {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let mut plain = Vec::new();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if GzDecoder::new(&bytes[..]).read_to_end(&mut plain).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(plain))
}

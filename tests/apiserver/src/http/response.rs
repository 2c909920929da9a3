//! Answers.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::Value;

use crate::status::Status;

pub const JSON: &str = "application/json";

pub fn bytes(code: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub fn json(body: &Value) -> Response {
    bytes(200, JSON, body.to_string())
}

pub fn text(body: &'static str) -> Response {
    bytes(200, "text/plain; charset=utf-8", body)
}

pub fn status(status: &Status) -> Response {
    if status.code == 404 && status.reason.is_empty() {
        return bytes(404, "text/plain; charset=utf-8", format!("{status}\n"));
    }
    bytes(status.code, JSON, status.body().to_string())
}

pub fn raw(code: u16, body: Bytes) -> Response {
    bytes(code, JSON, body)
}

/// Adds `Warning: 299 - "…"` headers, which kubectl prints.
pub fn warn(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

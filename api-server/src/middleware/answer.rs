//! The one place where bodies get their shape: four dialects for errors, three for successes.
//!
//! Handlers and layers leave a [`Plain`] or an [`ApiError`] on the response. What comes without either (a page of the
//! documentation, a metrics text) passes as it is; a bare error of a library gets the shape of ours.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use contract::tenant::Dialect;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use super::Scope;
use crate::{
    app::App,
    error::{self, ApiError},
    reply::Plain,
};

const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

pub async fn write(State(app): State<App>, scope: Scope, request: Request, next: Next) -> Response {
    let accept = Accept::of(request.headers());
    let mut response = next.run(request).await;
    let dialect = accept.dialect.unwrap_or_else(|| scope.dialect());
    if let Some(plain) = response.extensions_mut().remove::<Plain>() {
        succeed(&mut response, dialect, plain);
    } else if let Some(error) = response.extensions_mut().remove::<ApiError>().or_else(|| bare(&response)) {
        log(&error);
        fail(&mut response, dialect, &accept, &error, &scope, app.clock.now());
    }
    secure(response.headers_mut());
    response
}

fn succeed(response: &mut Response, dialect: Dialect, plain: Plain) {
    let Plain { data, message, pagination } = plain;
    let body = match dialect {
        Dialect::Envelope => {
            let mut body = Vec::with_capacity(data.len() + 64);
            body.extend_from_slice(b"{\"success\":true,\"data\":");
            body.extend_from_slice(&data);
            if let Some(message) = message {
                body.extend_from_slice(format!(",\"message\":{}", json!(message)).as_bytes());
            }
            if let Some(pagination) = pagination {
                body.extend_from_slice(format!(",\"meta\":{}", json!({ "pagination": pagination })).as_bytes());
            }
            body.push(b'}');
            body
        }
        // These dialects have no place beside the data, so a list goes on by a header.
        Dialect::Flat | Dialect::Legacy => {
            let cursor = pagination.and_then(|page| page.next_cursor);
            if let Some(cursor) = cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok()) {
                response.headers_mut().insert(NEXT_CURSOR, cursor);
            }
            data
        }
    };
    put(response, "application/json", body);
}

fn fail(response: &mut Response, dialect: Dialect, accept: &Accept, error: &ApiError, scope: &Scope, now: Timestamp) {
    let (status, code, message, details) = (error.status(), error.code(), error.message(), error.details());
    let meta = json!({ "timestamp": now, "path": scope.path(), "requestId": scope.request_id() });
    let (content_type, body) = if accept.problem {
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": message,
            "instance": scope.path(),
            "code": code,
            "errors": details,
            "requestId": scope.request_id(),
        });
        ("application/problem+json", body)
    } else {
        let body = match dialect {
            Dialect::Envelope => json!({
                "success": false,
                "error": { "code": code, "message": message, "details": details },
                "meta": meta,
            }),
            Dialect::Flat => json!({ "code": code, "message": message, "details": details }),
            Dialect::Legacy => json!({ "error": message, "details": details }),
        };
        ("application/json", body)
    };
    if dialect == Dialect::Legacy && code == error::INVALID_TOKEN && !accept.problem {
        // The clients of this dialect take 401 for "no token" and 403 for "a bad one".
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    put(response, content_type, body.to_string().into_bytes());
}

/// An error that no code of ours made, such as a body over the limit.
fn bare(response: &Response) -> Option<ApiError> {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().ends_with(b"json"));
    (failed && !json).then(|| match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(status, "PAYLOAD_TOO_LARGE", "The body is too large"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(status, "METHOD_NOT_ALLOWED", "This path does not take this method: see the header Allow")
        }
        _ if status.is_client_error() => {
            ApiError::new(status, "BAD_REQUEST", status.canonical_reason().unwrap_or("Bad request"))
        }
        _ => ApiError::new(status, "INTERNAL_ERROR", "Something went wrong on our side"),
    })
}

fn log(error: &ApiError) {
    match (error.status().is_server_error(), error.cause()) {
        (true, cause) => tracing::error!(code = error.code(), cause, "request failed"),
        (false, Some(cause)) => tracing::debug!(code = error.code(), cause, "request refused"),
        (false, None) => {}
    }
}

fn put(response: &mut Response, content_type: &'static str, body: Vec<u8>) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
}

/// Headers of every answer. A page that needs a wider policy (`/docs`) brings its own.
fn secure(headers: &mut HeaderMap) {
    const ALWAYS: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        // Answers are about one user of one tenant; a cache that does not know that must keep out.
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// What the caller can read, of what we can write.
#[derive(Debug, Default, PartialEq)]
struct Accept {
    /// Asked for by `application/vnd.platform.<dialect>+json`.
    dialect: Option<Dialect>,
    /// Errors as RFC 9457 wants them: named, and not less welcome than plain JSON.
    problem: bool,
}

impl Accept {
    fn of(headers: &HeaderMap) -> Self {
        let (mut accept, mut problem, mut json) = (Self::default(), None, 0.0);
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for item in values.flat_map(|value| value.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
            match media_type.as_str() {
                "application/problem+json" => problem = Some(quality),
                "application/json" => json = quality,
                "application/vnd.platform.envelope+json" => accept.dialect = Some(Dialect::Envelope),
                "application/vnd.platform.flat+json" => accept.dialect = Some(Dialect::Flat),
                "application/vnd.platform.legacy+json" => accept.dialect = Some(Dialect::Legacy),
                _ => {}
            }
        }
        accept.problem = problem.is_some_and(|quality| quality > 0.0 && quality >= json);
        accept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> Accept {
        Accept::of(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn an_error_is_a_problem_document_where_that_is_named_and_not_less_welcome() {
        for yes in [
            "application/problem+json",
            "application/json, application/problem+json",
            "application/problem+json;q=0.5, */*",
        ] {
            assert!(accept(yes).problem, "{yes}");
        }
        for no in [
            "",
            "*/*",
            "application/json, text/plain, */*",
            "application/problem+json;q=0.5, application/json",
            "application/problem+json;q=0",
        ] {
            assert!(!accept(no).problem, "{no}");
        }
    }

    #[test]
    fn a_caller_may_ask_for_a_dialect() {
        assert_eq!(accept("application/vnd.platform.flat+json").dialect, Some(Dialect::Flat));
        assert_eq!(accept("application/vnd.platform.LEGACY+json, application/json").dialect, Some(Dialect::Legacy));
        assert_eq!(accept("application/json").dialect, None);
    }
}

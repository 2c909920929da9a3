//! What a caller is told when something cannot be done.
//!
//! A room has its own error enum; one `From<…> for ApiError` at the foot of its `http.rs` chooses code and status. The
//! body is written in `middleware/answer.rs`, which knows the request: its dialect, its id, its path.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::infra::gate::is_away;

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub struct ApiError {
    inner: Box<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    details: Vec<Detail>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only; never for the caller.
    cause: Option<String>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"field": "password", "message": "use at least 8 characters", "code": "TOO_SHORT"}))]
pub struct Detail {
    /// The field in the request, as a dotted path; a header or query parameter by its name.
    pub field: Cow<'static, str>,
    /// What is wrong with it, and what would be right.
    pub message: Cow<'static, str>,
    /// The same for machines.
    pub code: Cow<'static, str>,
}

impl Detail {
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.into(), message: message.into(), code: code.into() }
    }
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let inner = Inner { status, code, message: message.into(), details: vec![], headers: vec![], cause: None };
        Self { inner: Box::new(inner) }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// A request whose fields break their rules.
    pub fn validation(details: Vec<Detail>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "Validation failed").with_details(details)
    }

    /// No credential was given.
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Access token required")
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The credential is not good (any more).
    pub fn invalid_token(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, INVALID_TOKEN, message)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""))
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    pub fn unprocessable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "UNPROCESSABLE_ENTITY", message)
    }

    /// Something we stand on is away; the caller may come again.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after_seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
    }

    /// Our fault. The cause goes to the log and stays there.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Something went wrong on our side")
            .with_cause(cause)
    }

    #[must_use]
    pub fn with_details(mut self, details: Vec<Detail>) -> Self {
        self.inner.details = details;
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn with_cause(mut self, cause: impl std::fmt::Display) -> Self {
        self.inner.cause = Some(cause.to_string());
        self
    }

    /// A more telling code than the status has.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.inner.code = code;
        self
    }

    pub fn status(&self) -> StatusCode {
        self.inner.status
    }

    pub fn code(&self) -> &'static str {
        self.inner.code
    }

    pub fn message(&self) -> &str {
        &self.inner.message
    }

    pub fn details(&self) -> &[Detail] {
        &self.inner.details
    }

    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.inner.headers
    }

    pub fn cause(&self) -> Option<&str> {
        self.inner.cause.as_deref()
    }
}

/// A database that is away or overloaded is told apart from a query that went wrong.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if is_away(&error) {
            return Self::unavailable("The database does not answer: try again", 1).with_cause(error);
        }
        Self::internal(error)
    }
}

/// The code of a token that does not count; the `legacy` dialect answers it with 403.
pub const INVALID_TOKEN: &str = "INVALID_TOKEN";

impl IntoResponse for ApiError {
    /// The error itself travels to `middleware/answer.rs`, which writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.headers_mut().extend(self.inner.headers.iter().cloned());
        response.extensions_mut().insert(self);
        response
    }
}

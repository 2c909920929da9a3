//! What a handler answers when all went well, whatever dialect the caller speaks.
//!
//! A handler gives its data and never writes an envelope: `middleware/answer.rs` does, once, for all dialects.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, Detail};

/// The result of every handler.
pub type Answer<T> = Result<Reply<T>, ApiError>;

/// A successful answer with its data.
#[derive(Debug)]
pub struct Reply<T> {
    status: StatusCode,
    data: T,
    message: Option<Cow<'static, str>>,
    pagination: Option<Pagination>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl<T> Reply<T> {
    pub fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, data, message: None, pagination: None, headers: vec![] }
    }

    pub fn created(data: T) -> Self {
        Self { status: StatusCode::CREATED, ..Self::ok(data) }
    }

    pub fn data_mut(&mut self) -> &mut T {
        &mut self.data
    }

    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    #[must_use]
    pub fn with_pagination(mut self, pagination: Pagination) -> Self {
        self.pagination = Some(pagination);
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A [`Reply`] on its way out: data already JSON, the shape around it still open.
#[derive(Debug, Clone)]
pub(crate) struct Plain {
    pub data: Vec<u8>,
    pub message: Option<Cow<'static, str>>,
    pub pagination: Option<Pagination>,
}

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let data = match serde_json::to_vec(&self.data) {
            Ok(data) => data,
            Err(error) => return ApiError::internal(error).into_response(),
        };
        let mut response = self.status.into_response();
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(Plain { data, message: self.message, pagination: self.pagination });
        response
    }
}

/// Where a list goes on.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// The page's size.
    #[schema(example = 20)]
    pub limit: u32,
    pub has_more: bool,
    /// Give it as `cursor` to go on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Of a request by `page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Of a request by `page`: how many there are in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

/// The shape of a successful answer in the default dialect.
#[derive(Serialize, ToSchema)]
pub struct Envelope<T: ToSchema> {
    #[schema(example = true)]
    pub success: bool,
    pub data: T,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<ListMeta>,
}

/// What belongs to a list and is not in it.
#[derive(Serialize, ToSchema)]
pub struct ListMeta {
    pub pagination: Pagination,
}

/// The shape of every error in the default dialect.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "success": false,
    "error": {"code": "VALIDATION_ERROR", "message": "Validation failed",
              "details": [{"field": "email", "message": "write an address such as ada@example.com", "code": "INVALID"}]},
    "meta": {"timestamp": "2026-01-01T12:00:00Z", "path": "/api/v1/auth/login", "requestId": "0192f0c1-7a00-7000-8000-000000000001"}
}))]
pub struct ErrorBody {
    #[schema(example = false)]
    pub success: bool,
    pub error: ErrorOut,
    pub meta: ErrorMeta,
}

#[derive(Serialize, ToSchema)]
pub struct ErrorOut {
    /// For machines: `VALIDATION_ERROR`, `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`, `CONFLICT`, `RATE_LIMITED` …
    #[schema(example = "UNAUTHORIZED")]
    pub code: String,
    /// For people.
    pub message: String,
    pub details: Vec<Detail>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorMeta {
    pub timestamp: jiff::Timestamp,
    pub path: String,
    /// Give it to support: it is in the log, and in the header `X-Request-Id`.
    pub request_id: String,
}

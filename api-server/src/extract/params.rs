//! What stands in the address of a request: segments of the path, and the query.

use axum::extract::{FromRequestParts, RawPathParams, path::ErrorKind, rejection::PathRejection};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::text::{self, NUL};
use crate::error::{ApiError, Detail};

/// A segment of the path, parsed.
pub struct Path<T>(pub T);

/// The query, parsed.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, state).await?;
        let segments = RawPathParams::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
        match segments.iter().find(|(_, text)| text.contains('\0')) {
            Some((name, _)) => Err(wrong(name, NUL)),
            None => Ok(Self(value)),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        text::form(query.as_bytes()).map(Self).map_err(|(field, reason)| wrong(&field, &reason))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        let PathRejection::FailedToDeserializePathParams(error) = &rejection else { return Self::internal(rejection) };
        match error.kind() {
            ErrorKind::DeserializeError { key, message, .. } => wrong(key, message),
            ErrorKind::ParseErrorAtKey { key, expected_type, .. } => wrong(key, &format!("write a {expected_type}")),
            ErrorKind::InvalidUtf8InPathParam { key } => wrong(key, "write UTF-8"),
            kind => wrong("path", &kind.to_string()),
        }
    }
}

/// `field` is the name of a segment or parameter, and empty where no single one is at fault.
fn wrong(field: &str, reason: &str) -> ApiError {
    let field = if field.is_empty() { "query" } else { field };
    ApiError::validation(vec![Detail::new(field.to_owned(), "INVALID", text::plain(reason).to_owned())])
}

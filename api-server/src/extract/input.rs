//! What the caller sent: parsed, checked, and refused with the field's name where it is wrong.

use axum::extract::{FromRequest, OptionalFromRequest, Request, rejection::BytesRejection};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use serde::de::DeserializeOwned;

use super::text::{self, NUL};
use crate::error::{ApiError, Detail};

/// The JSON object of a body, parsed; a form body of flat fields is taken as well.
pub struct Json<T>(pub T);

/// A value that keeps the rules of its type.
pub trait Validate {
    /// Names every field that breaks a rule.
    fn validate(&self, violations: &mut Violations);
}

/// Extracts like `T` and refuses what breaks its rules: `Valid(Json(body)): Valid<Json<NewUser>>`.
pub struct Valid<T>(pub T);

/// What is wrong with a request, collected field by field.
#[derive(Debug, Default)]
pub struct Violations(Vec<Detail>);

impl Violations {
    /// Notes that `field` is wrong unless `ok`.
    pub fn require(&mut self, ok: bool, field: &'static str, code: &'static str, message: &'static str) {
        if !ok {
            self.add(Detail::new(field, code, message));
        }
    }

    pub fn add(&mut self, detail: Detail) {
        self.0.push(detail);
    }

    pub fn into_details(self) -> Vec<Detail> {
        self.0
    }

    /// An error that names them all, or nothing.
    pub fn into_result(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::validation(self.0)) }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let form = is(request.headers(), "application/x-www-form-urlencoded");
        if !form && !is_json(request.headers()) {
            let message = "Send the body as JSON with the header Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        let body = Bytes::from_request(request, state).await?;
        if form {
            return text::form(&body).map(Self).map_err(|(field, reason)| malformed(&field, &reason));
        }
        // serde would take an array for a struct, field by field.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("", "send a JSON object, such as {\"name\": \"Ada\"}"));
        }
        if let Some(field) = text::nul_in_json(&body) {
            return Err(malformed(&field, NUL));
        }
        let mut json = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            // A text that is no JSON at all has no field that is wrong.
            let field = if error.inner().is_data() { error.path().to_string() } else { String::new() };
            malformed(field.trim_matches('.'), &error.inner().to_string())
        })?;
        json.end().map_err(|error| malformed("", &error.to_string()))?;
        Ok(Self(value))
    }
}

/// No body at all is `None`; a bad one is refused as ever.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        if request.headers().contains_key(header::CONTENT_TYPE) && !request.body().is_end_stream() {
            <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<S: Send + Sync, T: Validate> FromRequest<S> for Valid<Json<T>>
where
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(value) = <Json<T> as FromRequest<S>>::from_request(request, state).await?;
        let mut violations = Violations::default();
        value.validate(&mut violations);
        violations.into_result()?;
        Ok(Self(Json(value)))
    }
}

fn is(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(wanted))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn malformed(field: &str, reason: &str) -> ApiError {
    let field = if field.is_empty() { "body" } else { field };
    ApiError::validation(vec![Detail::new(field.to_owned(), "INVALID", text::plain(reason).to_owned())])
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => Self::new(status, "PAYLOAD_TOO_LARGE", "The body is too large"),
            _ => Self::bad_request("The body could not be read").with_cause(rejection.body_text()),
        }
    }
}

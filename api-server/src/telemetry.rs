//! What the API says of itself: logs and traces ([`telemetry`]), and each request's part of its caller's trace.

use http::{HeaderMap, Method, StatusCode};
use opentelemetry::{global, propagation::Extractor, trace::Status};
use telemetry::{Running, Telemetry};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{extract::UserId, settings::Log};

pub fn start(log: &Log) -> anyhow::Result<Running> {
    let telemetry = Telemetry {
        service: "tenantry-api",
        instance: log.pod_name.as_deref(),
        level: &log.log_level,
        level_variable: "TENANTRY_LOG_LEVEL",
        // PostgreSQL's notices (a table that exists already) are no news.
        quiet: &["sqlx::postgres::notice=warn"],
        format: log.log_format,
        endpoint: log.otlp_endpoint.as_deref(),
    };
    telemetry.start()
}

/// Makes `span` part of the trace that the caller's `traceparent` names. Without an endpoint this does nothing.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    struct Headers<'a>(&'a HeaderMap);
    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key).and_then(|value| value.to_str().ok())
        }
        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }
    if headers.contains_key("traceparent") {
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        // Fails only where no trace is made at all.
        let _ = span.set_parent(parent);
    }
}

/// Says in the trace what the request came to. Attributes go to the trace alone; as fields they would be logged as well.
pub fn describe(
    span: &Span,
    method: &Method,
    route: &str,
    status: StatusCode,
    tenant: Option<&str>,
    user: Option<UserId>,
) {
    span.set_attribute("http.request.method", method.to_string());
    span.set_attribute("http.route", route.to_owned());
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if let Some(tenant) = tenant {
        span.set_attribute("tenant", tenant.to_owned());
    }
    if let Some(user) = user {
        span.set_attribute("user.id", user.to_string());
    }
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
}

//! Logs to stdout, one JSON object a line; traces by OTLP where an endpoint is set, continued from the caller's.

use anyhow::Context as _;
use http::{HeaderMap, Method, StatusCode};
use opentelemetry::{
    KeyValue, global,
    propagation::Extractor,
    trace::{Status, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    extract::UserId,
    settings::{Log, LogFormat},
};

/// Sends what is still to be sent when it is dropped at the end of `main`.
#[must_use]
pub struct Telemetry(Option<SdkTracerProvider>);

pub fn start(log: &Log) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(&log.log_level).with_context(|| {
        format!("TENANTRY_LOG_LEVEL={:?} is not a log filter: use a level such as info", log.log_level)
    })?;
    // PostgreSQL's notices (a table that exists already) are no news.
    let filter = filter.add_directive("sqlx::postgres::notice=warn".parse()?);
    let lines = match log.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer().boxed(),
    };
    let endpoint = log.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    let provider = endpoint.map(|endpoint| exporter(endpoint, log.pod_name.as_deref())).transpose()?;
    let traces =
        provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("tenantry-api")));
    if provider.is_some() {
        global::set_text_map_propagator(TraceContextPropagator::new());
    }
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces)
        .try_init()
        .context("telemetry was started twice")?;
    Ok(Telemetry(provider))
}

fn exporter(endpoint: &str, pod: Option<&str>) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(&endpoint).build();
    let exporter =
        exporter.with_context(|| format!("OTEL_EXPORTER_OTLP_ENDPOINT: cannot send traces to {endpoint}"))?;
    let instance = pod.map(|pod| KeyValue::new("service.instance.id", pod.to_owned()));
    let resource = Resource::builder().with_service_name("tenantry-api").with_attributes(instance).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
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

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

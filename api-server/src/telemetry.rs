//! Logs to stdout, one JSON object a line; traces by OTLP where an endpoint is set, continued from the caller's.

use std::collections::HashMap;

use anyhow::Context as _;
use http::HeaderMap;
use opentelemetry::{global, propagation::Extractor, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::settings::{Log, LogFormat};

/// Sends what is still to be sent when it is dropped at the end of `main`.
#[must_use]
pub struct Telemetry(Option<SdkTracerProvider>);

pub fn start(log: &Log) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(&log.log_level)
        .with_context(|| format!("TENANTRY_LOG_LEVEL={:?} is not a log filter: use a level such as info", log.log_level))?;
    let lines = match log.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer().boxed(),
    };
    let provider = log.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()).map(exporter).transpose()?;
    let traces = provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("tenantry-api")));
    if provider.is_some() {
        global::set_text_map_propagator(TraceContextPropagator::new());
    }
    tracing_subscriber::registry().with(filter).with(lines).with(traces).try_init().context("telemetry was started twice")?;
    Ok(Telemetry(provider))
}

fn exporter(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(&endpoint).build();
    let exporter = exporter.with_context(|| format!("OTEL_EXPORTER_OTLP_ENDPOINT: cannot send traces to {endpoint}"))?;
    let resource = Resource::builder().with_service_name("tenantry-api").build();
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

/// The headers that continue the current trace in a call of ours to somebody else.
pub fn trace_headers() -> HashMap<String, String> {
    let mut headers = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&Span::current().context(), &mut headers));
    headers
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

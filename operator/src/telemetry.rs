//! Logs, and traces where a collector is named.

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::{LogFormat, Settings};

const NAME: &str = "tenantry-operator";

/// Sends what is still to be sent when it is dropped at the end of `main`.
#[must_use]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Sets the process up to log, and to trace where an endpoint is set.
pub fn start(settings: &Settings) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .with_context(|| format!("LOG_LEVEL={:?} is not a log filter: use a level such as info", settings.log_level))?;
    let lines = match settings.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer().boxed(),
    };
    let endpoint = settings.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    let provider = endpoint.map(exporter).transpose()?;
    let layer = |provider: &SdkTracerProvider| tracing_opentelemetry::layer().with_tracer(provider.tracer(NAME));
    let traces = provider.as_ref().map(layer);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces)
        .try_init()
        .context("telemetry was started twice")?;
    Ok(Telemetry(provider))
}

fn exporter(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(&endpoint).build();
    let exporter =
        exporter.with_context(|| format!("OTEL_EXPORTER_OTLP_ENDPOINT: cannot send traces to {endpoint}"))?;
    let resource = Resource::builder().with_service_name(NAME).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

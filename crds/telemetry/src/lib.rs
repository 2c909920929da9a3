//! How a process of the house says what it does: logs to stdout, one JSON object a line; traces by OTLP where an endpoint
//! is named; and a metric that tells which build it is. Each binary brings its name, its settings and what is its own.

use anyhow::Context;
use contract::version;
use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use prometheus_client::{metrics::info::Info, registry::Registry};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look: one JSON object a line for machines, or text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

/// What a process says of itself, and how much.
#[derive(Debug, Clone)]
pub struct Telemetry<'a> {
    /// The binary; `service.name` of its traces.
    pub service: &'static str,
    /// The pod; `service.instance.id` of its traces.
    pub instance: Option<&'a str>,
    /// Levels, of modules too: `info,sqlx=warn`.
    pub level: &'a str,
    /// The variable that sets the level, to name it where that is wrong.
    pub level_variable: &'static str,
    /// Levels on top of those, for what the process knows to be no news.
    pub quiet: &'a [&'static str],
    pub format: LogFormat,
    /// Where an OpenTelemetry collector takes OTLP over HTTP; no traces are made without one.
    pub endpoint: Option<&'a str>,
}

/// Sends what is still to be sent when it is dropped at the end of `main`.
#[must_use]
pub struct Running(Option<SdkTracerProvider>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

impl Telemetry<'_> {
    /// Sets the process up to log, and to trace where an endpoint is set. Fails on a level that is none, on an address to
    /// which nothing can be sent, and when it was done before.
    pub fn start(&self) -> anyhow::Result<Running> {
        let filter = self.filter()?;
        let lines = match self.format {
            LogFormat::Json => {
                tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).boxed()
            }
            LogFormat::Text => tracing_subscriber::fmt::layer().boxed(),
        };
        let endpoint = self.endpoint.filter(|endpoint| !endpoint.is_empty());
        let provider = endpoint.map(|endpoint| self.exporter(endpoint)).transpose()?;
        let traces =
            provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(self.service)));
        if provider.is_some() {
            // Whoever calls may be part of a trace already.
            global::set_text_map_propagator(TraceContextPropagator::new());
        }
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .with(traces)
            .try_init()
            .context("telemetry was started twice")?;
        Ok(Running(provider))
    }

    fn filter(&self) -> anyhow::Result<EnvFilter> {
        let (variable, level) = (self.level_variable, self.level);
        let filter = EnvFilter::try_new(level)
            .with_context(|| format!("{variable}={level:?} is not a log filter: use a level such as info"))?;
        self.quiet.iter().try_fold(filter, |filter, quiet| Ok(filter.add_directive(quiet.parse()?)))
    }

    fn exporter(&self, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(&endpoint).build();
        let exporter =
            exporter.with_context(|| format!("OTEL_EXPORTER_OTLP_ENDPOINT: cannot send traces to {endpoint}"))?;
        let instance = self.instance.map(|pod| KeyValue::new("service.instance.id", pod.to_owned()));
        let resource = Resource::builder().with_service_name(self.service).with_attributes(instance).build();
        Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
    }
}

/// Registers `build_info{version, commit}`.
pub fn register_build(registry: &mut Registry) {
    let build = Info::new([("version", version::VERSION), ("commit", version::COMMIT)]);
    registry.register("build", "Which build this is", build);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(level: &str) -> Telemetry<'_> {
        Telemetry {
            service: "test",
            instance: Some("test-1"),
            level,
            level_variable: "LOG_LEVEL",
            quiet: &["noisy=warn"],
            format: LogFormat::Json,
            endpoint: None,
        }
    }

    #[test]
    fn a_level_that_is_none_is_named_with_its_variable_and_its_cure() {
        let error = telemetry("info=loud=er").filter().unwrap_err().to_string();
        assert_eq!(error, r#"LOG_LEVEL="info=loud=er" is not a log filter: use a level such as info"#);
    }

    #[test]
    fn what_is_no_news_is_quiet_whatever_the_level() {
        let filter = telemetry("debug").filter().unwrap().to_string();
        assert!(filter.contains("noisy=warn") && filter.contains("debug"), "{filter}");
    }

    #[test]
    fn the_build_is_told_with_version_and_commit() {
        let (mut registry, mut text) = (Registry::default(), String::new());
        register_build(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let told = format!("build_info{{version=\"{}\",commit=\"{}\"}} 1", version::VERSION, version::COMMIT);
        assert!(text.contains(&told), "{text}");
    }
}

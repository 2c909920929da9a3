//! The command line and what the process is told at start. Every setting is a flag and an environment variable.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand};
use telemetry::LogFormat;

use crate::{
    hooks::{check::Check, platform::ApplyPlatform},
    leader::Timing,
};

/// Image of the API that came with this version.
pub const DEFAULT_API_IMAGE: &str = concat!("ghcr.io/tenantry/tenantry-api:", env!("CARGO_PKG_VERSION"));

/// The operator of Tenantry: turns Platform, Tenant, RoleBinding, PaymentProvider and RateLimitPolicy into the
/// configuration that the API serves.
#[derive(Debug, Parser)]
#[command(name = "tenantry-operator", version = contract::version::describe())]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Debug, Clone, Default, Subcommand)]
pub enum Command {
    /// Reconcile until told to stop (the default).
    #[default]
    Run,
    /// Print the CustomResourceDefinitions as YAML, for `kubectl apply --server-side -f -`.
    Crds,
    /// Prove that an installation works, then exit: what `helm test` runs.
    Check(Check),
    /// Apply a Platform as soon as its kind is served, then exit: what the chart's first install runs.
    ApplyPlatform(ApplyPlatform),
}

#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Name of this pod: the identity in the Lease and the instance in events. Default: the host's name.
    #[arg(long, env = "POD_NAME", default_value_t = hostname(), global = true)]
    pub pod_name: String,

    /// Namespace of this pod, which holds the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", global = true)]
    pub pod_namespace: String,

    /// Namespaces to reconcile, separated by commas. Default: all.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', global = true)]
    pub watch_namespaces: Vec<String>,

    /// Whether only the holder of the Lease reconciles. Turn off only where there is one replica by construction.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set, global = true)]
    pub leader_election: bool,

    /// How long a silent leader keeps the Lease: the longest pause after a crash.
    #[arg(long, env = "LEASE_DURATION_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=600), global = true)]
    pub lease_duration_seconds: u32,

    /// How often the leader renews the Lease and the others look at it. Must be less than half of the duration.
    #[arg(long, env = "LEASE_RENEW_SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=300), global = true)]
    pub lease_renew_seconds: u32,

    /// Where /livez, /readyz and /metrics answer.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8081", global = true)]
    pub listen: SocketAddr,

    /// Log filter: a level (`info`) or directives (`info,kube=debug`).
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,

    /// One JSON object per line, or text for people.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, global = true)]
    pub log_format: LogFormat,

    /// Base URL of an OpenTelemetry collector (OTLP over HTTP), such as http://otel-collector:4318. Default: no traces leave.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otlp_endpoint: Option<String>,

    /// Image of the API where a Platform does not name one.
    #[arg(long, env = "API_IMAGE", default_value = DEFAULT_API_IMAGE, global = true)]
    pub api_image: String,
}

impl Settings {
    /// The namespaces to watch, without the empty name that an empty variable gives; none means all.
    pub fn namespaces(&self) -> Vec<String> {
        self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).map(Into::into).collect()
    }

    /// How the Lease is kept.
    pub fn timing(&self) -> anyhow::Result<Timing> {
        let (duration, renew) = (self.lease_duration_seconds, self.lease_renew_seconds);
        anyhow::ensure!(
            renew * 2 < duration,
            "LEASE_RENEW_SECONDS is {renew}, which is not less than half of LEASE_DURATION_SECONDS ({duration}): \
             a leader must have time for a second attempt",
        );
        Ok(Timing { duration: Duration::from_secs(duration.into()), renew: Duration::from_secs(renew.into()) })
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".into(), |name| name.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        Cli::parse_from(["tenantry-operator"].iter().chain(arguments)).settings
    }

    #[test]
    fn an_empty_list_of_namespaces_means_all() {
        assert!(settings(&["--watch-namespaces", ""]).namespaces().is_empty());
        assert_eq!(settings(&["--watch-namespaces", "a, b"]).namespaces(), ["a", "b"]);
    }

    #[test]
    fn a_leader_must_have_time_to_renew_twice() {
        assert!(settings(&[]).timing().is_ok());
        let error = settings(&["--lease-duration-seconds", "4", "--lease-renew-seconds", "2"]).timing().unwrap_err();
        assert!(error.to_string().contains("LEASE_RENEW_SECONDS is 2"), "{error}");
    }
}

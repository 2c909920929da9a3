//! `cargo dev bench <name>`: figures for the reader. Never a test: a machine's speed proves nothing about the code.

mod api;
mod figures;
mod footprint;
mod me;
mod peer;
mod propagation;
mod rollout;
mod scale;
mod sign_in;

use std::{env, fs, os::unix::process::CommandExt};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use harness::binaries::{BUILT_VARIABLE, repository, target_folder};

use super::{run, setup};

/// Print figures of this machine: how fast a change arrives, what a request costs, how much memory it takes.
///
/// Builds everything with the release profile first (minutes, the first time). Figures depend on the machine and on what
/// else it does; tests/README.md says how to read them.
#[derive(Args)]
pub struct Bench {
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    amounts: Amounts,
    /// Measure this very build, to work on the benchmarks themselves.
    #[arg(long, hide = true)]
    dev_profile: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// From `apply` to effective on every replica.
    Propagation,
    /// CPU of one `GET /auth/me` with a rate limit in force, beside the same backend in Express.
    Me,
    /// Latency of `GET /auth/me`, refresh and login at 30 % and 70 % of the most, and what a wave of logins does to others.
    SignIn,
    /// Blue/green under load: failed requests, and seconds from a new spec to promoted.
    Rollout,
    /// Start, memory and size of the API server; the operator's memory and time with many tenants.
    Footprint,
    /// With one tenant, a thousand and ten thousand: memory, requests to the Kubernetes API, time of a change and of a
    /// restart, change of leader. Takes long, and is not part of `all`.
    Scale,
    All,
}

#[derive(Args)]
struct Amounts {
    /// propagation: changes, one after the other; scale: changes at 50 a second [default: 200, and 1000 for scale].
    #[arg(long)]
    changes: Option<usize>,
    /// propagation, rollout, scale: replicas of the API.
    #[arg(long, default_value_t = 3)]
    replicas: u32,
    /// me, footprint, scale: how often each measurement is repeated.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// me, sign-in: seconds of load for each measurement.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// rollout: how many, and as many aborts.
    #[arg(long, default_value_t = 20)]
    rollouts: usize,
    /// rollout: requests a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// footprint, scale: how many tenants are many [default: 1000; 1, 1000 and 10000 for scale].
    #[arg(long)]
    tenants: Option<usize>,
}

impl Bench {
    pub async fn run(self) -> Result<()> {
        if cfg!(debug_assertions) && !self.dev_profile {
            return again_as_release().await;
        }
        setup::ensure(&[setup::POSTGRES, setup::REDIS, setup::NAMES]).await?;
        let profile = if cfg!(debug_assertions) { "DEBUG: THESE FIGURES MEAN NOTHING" } else { "release" };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<_> = load.split(' ').take(3).collect();
        println!("build: {profile}; cores: {}; load average before: {}", figures::cores(), load.join(" "));
        // The one that needs quiet cores and pins itself to them comes last.
        if matches!(self.what, What::Footprint | What::All) {
            footprint::run(&self.amounts).await?;
        }
        if self.what == What::Scale {
            scale::run(&self.amounts).await?;
        }
        if matches!(self.what, What::Propagation | What::All) {
            propagation::run(&self.amounts).await?;
        }
        if matches!(self.what, What::Rollout | What::All) {
            rollout::run(&self.amounts).await?;
        }
        if matches!(self.what, What::SignIn | What::All) {
            sign_in::run(&self.amounts).await?;
        }
        if matches!(self.what, What::Me | What::All) {
            me::run(&self.amounts).await?;
        }
        Ok(())
    }
}

/// Becomes the release build of this program: the harness, its local node and the stand-in control plane are part of
/// what is measured.
async fn again_as_release() -> Result<()> {
    println!("Building for release …");
    let debug = target_folder()?;
    let target = debug.parent().context("a target folder has a parent")?;
    let mut build = run::cargo(
        "build --release --package operator --package api-server --package kubectl-tenantry --package tests --bins",
    );
    build.arg("--target-dir").arg(target);
    run::pass(build).await?;
    let mut bench = std::process::Command::new(target.join("release/dev"));
    bench.args(env::args_os().skip(1)).env(BUILT_VARIABLE, "1").current_dir(repository());
    Err(bench.exec()).context("the release build does not start")
}

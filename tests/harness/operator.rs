//! The real operator, as a process: one, two, or none at a time.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::Result;
use uuid::Uuid;

use crate::{
    process::{Launch, Process, Signal},
    wait,
};

/// How operators are started in a world.
#[derive(Debug, Clone)]
pub struct Settings {
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
    /// The world's: where the lease is, and all that is watched.
    pub namespace: String,
    pub image: String,
    pub folder: PathBuf,
    pub log_format: &'static str,
    /// What makes it find the cluster's Services by name.
    pub names: Vec<(String, PathBuf)>,
}

#[derive(Debug)]
pub struct Operator {
    pub name: String,
    pub url: String,
    process: Process,
}

impl Operator {
    pub async fn start(settings: &Settings) -> Result<Self> {
        let [a, b, c, ..] = Uuid::new_v4().into_bytes();
        // An address of its own, like a pod's: the usual port cannot be taken.
        let listen = format!("{}:8081", Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)));
        let name = format!("operator-{a:02x}{b:02x}");
        let process = Launch::new(&name, &settings.program, settings.folder.join(format!("{name}.log")))
            .args(["run"])
            .env("KUBECONFIG", &settings.kubeconfig)
            .env("POD_NAME", &name)
            .env("POD_NAMESPACE", &settings.namespace)
            .env("WATCH_NAMESPACES", &settings.namespace)
            .env("LEADER_ELECTION", "true")
            .env("LISTEN", &listen)
            .env("LOG_LEVEL", std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".into()))
            .env("LOG_FORMAT", settings.log_format)
            .env("API_IMAGE", &settings.image)
            // As its image has it.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .envs(settings.names.clone())
            .start()
            .await?;
        Ok(Self { name, url: format!("http://{listen}"), process })
    }

    /// Its own word for it: controllers run, and CRDs are there.
    pub async fn is_ready(&mut self) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let url = format!("{}/readyz", self.url);
        wait::until("the operator to be ready", async || {
            self.process.check_alive()?;
            Ok(client.get(&url).send().await.ok().filter(|answer| answer.status().is_success()))
        })
        .await?;
        Ok(())
    }

    /// `kill -9`: no lease is given back, nothing is tidied.
    pub async fn kill(mut self) -> Result<()> {
        self.process.kill().await?;
        Ok(())
    }

    pub async fn stop(mut self) -> Result<()> {
        self.process.stop(Signal::TERM, Duration::from_secs(10)).await?;
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }
}

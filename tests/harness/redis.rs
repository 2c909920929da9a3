//! A Redis for one world: a private one; on a cluster with nodes the one that `TENANTRY_TEST_REDIS_URL` names.

use std::{env, path::Path, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

use crate::{
    process::{Launch, Process, Signal, find_program, free_port},
    wait,
};

pub const URL_VARIABLE: &str = "TENANTRY_TEST_REDIS_URL";

#[derive(Debug)]
pub struct Redis {
    pub url: Url,
    pub origin: String,
    process: Option<Process>,
}

impl Redis {
    /// For pods that cannot reach our loopback address.
    pub fn borrow() -> Result<Self> {
        let url =
            env::var(URL_VARIABLE).with_context(|| format!("{URL_VARIABLE} must name a Redis that pods reach"))?;
        let url = Url::parse(&url).with_context(|| format!("{URL_VARIABLE} is no URL"))?;
        Ok(Self { url, origin: format!("borrowed ({URL_VARIABLE})"), process: None })
    }

    /// Keeps nothing on disk: what is in Redis may be lost at any time, and the platform must live with it.
    pub async fn start(folder: &Path) -> Result<Self> {
        let server = available().with_context(|| {
            format!("no `redis-server` on this machine: apt-get install redis-server, or set {URL_VARIABLE}")
        })?;
        let port = free_port()?;
        let arguments = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        let mut process = Launch::new("redis", server, folder.join("redis.log"))
            .args(arguments)
            .args([port.to_string()])
            .start()
            .await?;
        wait::until("Redis to answer PING", async || {
            process.check_alive()?;
            Ok(ping(port).await.ok().filter(|pong| *pong))
        })
        .await?;
        let url = Url::parse(&format!("redis://127.0.0.1:{port}"))?;
        Ok(Self { url, origin: format!("private, port {port}"), process: Some(process) })
    }

    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::TERM, Duration::from_secs(5)).await?;
        }
        Ok(())
    }
}

pub fn available() -> Option<std::path::PathBuf> {
    ["redis-server", "valkey-server"].iter().find_map(|name| find_program(name, &[]))
}

async fn ping(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG\r\n")
}

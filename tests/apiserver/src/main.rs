//! `apiserver`: the stand-in as a process of its own, for a shell and a kubeconfig.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use apiserver::{Options, Server};
use clap::Parser;

/// A stand-in for a Kubernetes API server that kubectl and kube-rs can use: in memory, plain HTTP, loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8001")]
    addr: SocketAddr,
    /// Keep objects in this directory, so that the next start finds them
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Note each kind of request in this file
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// What containers print, for `kubectl logs`: `<namespace>/<pod>/<container>.log` in this directory
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Write a kubeconfig here (it is printed otherwise)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Changes per resource that a watch may lie behind before it gets 410 Gone
    #[arg(long, default_value_t = 10_000)]
    history: usize,
    /// Seconds between the bookmarks of an idle watch
    #[arg(long, default_value_t = 30)]
    bookmark_seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let server = Server::start(Options {
        addr: arguments.addr,
        data_dir: arguments.data,
        audit: arguments.audit,
        logs: arguments.logs,
        history: arguments.history,
        bookmark_interval: Duration::from_secs(arguments.bookmark_seconds),
    })
    .await?;
    match arguments.kubeconfig {
        Some(path) => {
            std::fs::write(&path, server.kubeconfig()).with_context(|| format!("cannot write {}", path.display()))?;
            tracing::info!(url = server.url(), kubeconfig = %path.display(), "serving");
        }
        None => println!("{}", server.kubeconfig()),
    }
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}

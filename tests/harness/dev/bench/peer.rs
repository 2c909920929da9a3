//! The peer of tests/bench/peer: the same backend in Express, as a user would write it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use harness::{
    binaries::repository,
    process::{find_program, free_port},
};
use url::Url;

use super::{
    api::{REQUESTS_A_MINUTE, Server, pinned},
    run,
};

pub struct Peer<'a> {
    pub database: &'a Url,
    pub redis: &'a Url,
    pub log: PathBuf,
    /// As tutorials write it: the JWT is verified with a string in place of a prepared key.
    pub tutorial: bool,
    pub prefix: &'a [&'a str],
}

impl Peer<'_> {
    /// What package-lock.json names, once.
    pub async fn install() -> Result<()> {
        let folder = folder();
        if folder.join("node_modules/.package-lock.json").exists() {
            return Ok(());
        }
        println!("Installing the peer's packages with npm …");
        let mut npm = run::program("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
        run::pass(npm).await
    }

    pub async fn serve(&self) -> Result<Server> {
        let node = find_program("node", &[]).context("npm is here and node is not")?;
        let port = free_port()?;
        let launch = pinned("peer", self.prefix, &node, self.log.clone())
            .args([folder().join("server.js")])
            .env("NODE_ENV", "production")
            .env("DATABASE_URL", self.database.as_str())
            .env("REDIS_URL", self.redis.as_str())
            .env("RATE_LIMIT", REQUESTS_A_MINUTE.to_string())
            .env("PORT", port.to_string());
        let launch = if self.tutorial { launch.env("TUTORIAL", "1") } else { launch };
        let root = format!("http://127.0.0.1:{port}");
        Server::start(launch, format!("{root}/api"), &format!("{root}/health")).await
    }
}

fn folder() -> PathBuf {
    repository().join("tests/bench/peer")
}

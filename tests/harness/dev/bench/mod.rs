//! `cargo dev bench <name>`: figures for the reader. Never a test: a machine's speed proves nothing about the code.

use anyhow::Result;
use clap::Args;

/// Print figures of this machine: how fast a change arrives, what a request costs, how much memory it takes.
#[derive(Args)]
pub struct Bench {}

impl Bench {
    pub async fn run(self) -> Result<()> {
        Ok(())
    }
}

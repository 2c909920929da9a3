//! Official client libraries of other languages, as their users install them: from PyPI, into a folder below the target.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::{process::Command, sync::Mutex};

use crate::{binaries, process::find_program};

/// A Python that has these packages (`stripe==16.1.0`): made once, found by every later run.
pub async fn with(packages: &[&str]) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;

    let name = hex::encode(&Sha256::digest(packages.join(" ").as_bytes())[..8]);
    let home = binaries::target_folder()?.join("python").join(name);
    let interpreter = home.join("bin/python");
    // Written last, so an interrupted install is made anew.
    let complete = home.join("complete");
    if !complete.exists() {
        let python =
            find_program("python3", &[]).context("no `python3` on this machine: apt-get install python3-venv")?;
        run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&home)).await?;
        run(Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(packages))
        .await?;
        std::fs::write(&complete, packages.join("\n"))?;
    }
    Ok(interpreter)
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.output().await?;
    if !output.status.success() {
        let program = Path::new(command.as_std().get_program()).display().to_string();
        bail!(
            "{program} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

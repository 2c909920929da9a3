//! JavaScript clients, as frontends have them: the packages of `tests/clients` from npm, in a folder below the target.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::{process::Command, sync::Mutex};

use crate::{
    binaries::{self, repository},
    process::find_program,
};

/// The scripts of `tests/clients` beside their packages: made once, found by every later run.
pub async fn clients() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;

    let source = repository().join("tests/clients");
    let names = ["package.json", "package-lock.json"];
    let mut hash = Sha256::new();
    for name in names {
        hash.update(std::fs::read(source.join(name))?);
    }
    let home = binaries::target_folder()?.join("clients").join(hex::encode(&hash.finalize()[..8]));
    std::fs::create_dir_all(&home)?;
    for entry in std::fs::read_dir(&source)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            std::fs::copy(&path, home.join(name))?;
        }
    }
    // npm writes it last, so an interrupted install is made anew.
    if !home.join("node_modules/.package-lock.json").exists() {
        let npm = find_program("npm", &[]).context("no `npm` on this machine: apt-get install npm")?;
        let arguments = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new(npm).args(arguments).current_dir(&home)).await?;
    }
    Ok(home)
}

/// Runs a script of `tests/clients` to its end and gives what it printed; its complaint, where it fails.
pub async fn script(name: &str, arguments: &[&str]) -> Result<String> {
    let home = clients().await?;
    run(command(&home, name, arguments)?.stdin(Stdio::null())).await
}

/// A script of `tests/clients`, to be started.
pub fn command(home: &Path, name: &str, arguments: &[&str]) -> Result<Command> {
    let node = find_program("node", &[]).context("no `node` on this machine: apt-get install nodejs")?;
    let mut command = Command::new(node);
    command.arg(home.join(name)).args(arguments).current_dir(home).kill_on_drop(true);
    Ok(command)
}

async fn run(command: &mut Command) -> Result<String> {
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let program = command.as_std().get_args().next().unwrap_or_default().display().to_string();
        bail!("{program} failed: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

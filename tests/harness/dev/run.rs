//! Other programs, run from the root of the checkout with their output passed on.

use std::{ffi::OsStr, process::Stdio};

use anyhow::{Context, Result, bail};
use harness::binaries::repository;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(repository()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The cargo that runs us.
pub fn cargo(arguments: &str) -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split_whitespace());
    command
}

/// Shows what it says; an error when it fails.
pub async fn pass(mut command: Command) -> Result<()> {
    let status = command.status().await.with_context(|| describe(&command))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(&command));
    }
    Ok(())
}

/// Its standard output.
pub async fn output(mut command: Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().await.with_context(|| describe(&command))?;
    if !output.status.success() {
        bail!("{} failed ({})", describe(&command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Shows its output line by line and hands each line to `look`; yields whether it succeeded.
pub async fn watch(mut command: Command, mut look: impl FnMut(&str)) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| describe(&command))?;
    if let Some(output) = child.stdout.take() {
        each_line(output, |line| {
            println!("{line}");
            look(line);
        })
        .await?;
    }
    Ok(child.wait().await?.success())
}

async fn each_line(output: impl AsyncRead + Unpin, mut look: impl FnMut(&str)) -> Result<()> {
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        look(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
    Ok(())
}

pub fn describe(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

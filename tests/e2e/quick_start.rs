//! A newcomer follows the README, word for word.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    binaries::repository,
    process::{Launch, Process, Signal, tail},
    wait,
    workdir::Workdir,
};
use tokio::process::Command;

/// What is typed in the README's section, prompt by prompt, without the first command (which keeps running).
fn commands() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(repository().join("README.md"))?;
    let section = readme.split("\n## ").find(|section| section.starts_with("Quick start")).context("no quick start")?;
    let blocks = section.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut commands: Vec<_> =
        blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect();
    ensure!(
        commands.first().is_some_and(|command| command == "cargo dev up"),
        "it begins with cargo dev up: {commands:?}"
    );
    Ok(commands.split_off(1))
}

struct Up {
    process: Process,
    log: std::path::PathBuf,
}

impl Up {
    /// `cargo dev up`, with a folder and a port of this test's own.
    async fn start(folder: &Workdir, run: &str) -> Result<Self> {
        let log = folder.join(run);
        let data = folder.join(".dev").into_os_string();
        let launch = Launch::new("cargo dev up", env!("CARGO_BIN_EXE_dev"), &log);
        let mut process = launch.args(["up", "--port", "0", "--data"]).args([data]).start().await?;
        let up = wait::within(Duration::from_mins(4), "Tenantry to be up", async || {
            process.check_alive()?;
            Ok(tail(&log, 200).contains("Ctrl-C stops everything").then_some(()))
        });
        up.await.with_context(|| tail(&log, 60))?;
        Ok(Self { process, log })
    }

    fn port(&self) -> Result<String> {
        let said = tail(&self.log, 200);
        let address = said.split("tenant     http://acme.localhost:").nth(1).context("no address")?;
        Ok(address.chars().take_while(char::is_ascii_digit).collect())
    }

    /// Ctrl-C.
    async fn interrupt(mut self) -> Result<()> {
        let status = self.process.stop(Signal::INT, Duration::from_mins(1)).await?;
        ensure!(status.success(), "Ctrl-C ends it well: {status}\n{}", tail(&self.log, 40));
        Ok(())
    }
}

/// One shell for all of it, as at a terminal; each command's output under the command.
async fn typed(commands: &[String], folder: &Path, port: &str) -> Result<String> {
    let shown = commands.iter().map(|command| {
        let command = command.replace(":8000", &format!(":{port}"));
        format!("cat <<'END_OF_COMMAND'\n$ {command}\nEND_OF_COMMAND\n{command}\n")
    });
    let script = format!("set -euo pipefail\n{}", shown.collect::<String>());
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(folder).stdin(Stdio::null()).env("HOME", folder).kill_on_drop(true);
    let output = shell.output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "a command of the README fails:\n{said}");
    Ok(said)
}

/// Whether any process was told of the folder.
fn anyone_left(folder: &Path) -> Result<Option<String>> {
    let name = folder.to_string_lossy().into_owned();
    let told = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let about = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let words = [about("cmdline"), about("environ")].concat();
        String::from_utf8_lossy(&words).contains(&name).then(|| String::from_utf8_lossy(&about("cmdline")).into_owned())
    });
    Ok(told.into_iter().next())
}

#[tokio::test]
async fn the_quick_start_of_the_readme_does_what_it_says() -> Result<()> {
    let folder = Workdir::temporary()?;
    let up = Up::start(&folder, "first.log").await?;
    let said = typed(&commands()?, folder.path(), &up.port()?).await?;
    for expected in [
        "tenant.tenantry.dev/acme condition met",
        "q=1000",
        "q=2000",
        r#""status":"completed""#,
        "refused, for the reason above",
    ] {
        ensure!(said.contains(expected), "no {expected:?} in\n{said}");
    }
    up.interrupt().await?;
    ensure!(anyone_left(folder.path())?.is_none(), "left behind: {:?}", anyone_left(folder.path())?);

    // The second start finds the changed limit, and Carol's account.
    let up = Up::start(&folder, "second.log").await?;
    let again = [
        "export KUBECONFIG=$PWD/.dev/control-plane/kubeconfig",
        "kubectl get ratelimitpolicy acme-limits --output=jsonpath={.spec.limits.per-user.rates[0].limit}",
        r#"curl --silent http://acme.localhost:8000/api/v1/auth/login --json '{"email":"carol@acme.example","password":"Correct-horse-7-carol"}'"#,
    ];
    let said = typed(&again.map(str::to_owned), folder.path(), &up.port()?).await?;
    ensure!(said.contains("2000") && said.contains("accessToken"), "{said}");
    up.interrupt().await
}

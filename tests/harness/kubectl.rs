//! The real kubectl, as a person uses it, with its own cache and configuration.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{binaries::target_folder, process::find_program};

#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

/// What a person would see.
#[derive(Debug, Clone)]
pub struct Output {
    pub success: bool,
    /// None where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Kubectl {
    pub fn new(kubeconfig: PathBuf, home: PathBuf) -> Result<Self> {
        let program = program()?;
        Ok(Self { program, kubeconfig, home })
    }

    /// The command, for those who need it running (`get -w`).
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command.env("KUBECACHEDIR", self.home.join("cache")).env("PATH", self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Plugins are found: those that were just built, and those in [`Self::programs`].
    fn path(&self) -> OsString {
        let built = target_folder().ok();
        let inherited = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.programs()).chain(built).chain(env::split_paths(&inherited));
        env::join_paths(folders).unwrap_or(inherited)
    }

    /// A folder of this person's own on their PATH.
    pub fn programs(&self) -> PathBuf {
        self.home.join("bin")
    }

    /// Whatever comes of it.
    pub async fn attempt(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().context("cannot run kubectl")?;
        if let Some(mut pipe) = child.stdin.take() {
            // kubectl may refuse its arguments and go before it has read a word.
            let _ = pipe.write_all(stdin.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        Ok(Output {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// `run("get tenants -o yaml")`: words are split at blanks. Yields what it printed.
    pub async fn run(&self, arguments: &str) -> Result<String> {
        let words: Vec<_> = arguments.split_whitespace().collect();
        let output = self.attempt(&words, "").await?;
        output.or_fail(arguments)
    }

    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.attempt(&["apply", "-f", "-"], yaml).await?.or_fail("apply -f -")
    }

    /// Applies what must not be taken; yields kubectl's sentence.
    pub async fn is_refused(&self, yaml: &str) -> Result<String> {
        let output = self.attempt(&["apply", "-f", "-"], yaml).await?;
        if output.success {
            bail!("kubectl took what it should have refused:\n{yaml}\n{}", output.stdout);
        }
        Ok(output.stderr)
    }

    /// A merge patch: `patch("tenant/acme", r#"{"spec":{"suspended":true}}"#)`.
    pub async fn patch(&self, object: &str, merge: &str) -> Result<String> {
        let arguments = ["patch", object, "--type=merge", "-p", merge];
        self.attempt(&arguments, "").await?.or_fail(&arguments.join(" "))
    }

    /// One field: `value("tenant/acme", "{.status.config.revision}")`.
    pub async fn value(&self, object: &str, jsonpath: &str) -> Result<String> {
        let path = format!("jsonpath={jsonpath}");
        self.attempt(&["get", object, "-o", &path], "").await?.or_fail(&format!("get {object} -o {path}"))
    }
}

impl Output {
    fn or_fail(self, arguments: &str) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        bail!("kubectl {arguments} failed: {}{}", self.stderr, self.stdout)
    }
}

pub fn program() -> Result<PathBuf> {
    find_program("kubectl", &[]).context(
        "no `kubectl` on this machine: apt-get install kubectl (from https://pkgs.k8s.io, see \
         https://kubernetes.io/docs/tasks/tools/install-kubectl-linux) or kubernetes-client (Debian 13 and newer)",
    )
}

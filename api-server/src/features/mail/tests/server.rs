//! A real mail server, as a process: `tests/harness/smtp.py`, which is aiosmtpd.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;

/// Killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    environment: BTreeMap<String, String>,
    pub folder: Arc<TempDir>,
}

impl Server {
    /// A server that encrypts nothing and lets everybody in.
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(environment: &[(&str, &str)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut all: BTreeMap<_, _> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for name in ["forgive", "took"] {
            all.insert(name.to_uppercase(), folder.path().join(name).display().to_string());
        }
        Self::run(all, folder)
    }

    fn run(environment: BTreeMap<String, String>, folder: Arc<TempDir>) -> Self {
        let python = std::env::var("TENANTRY_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/harness/smtp.py");
        let mut child = Command::new(&python)
            .arg(script)
            .envs(&environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_else(|| {
            panic!(
                "the tests of mail need aiosmtpd: run `cargo dev test`, or `pip install aiosmtpd` and name that \
                 Python in TENANTRY_TEST_PYTHON (now {python})"
            )
        });
        let port = serde_json::from_str::<Value>(&first).unwrap()["port"].as_u64().unwrap();
        Self { child, port: u16::try_from(port).unwrap(), environment, folder }
    }

    /// Mails that it took, those before a restart included.
    pub fn took(&self) -> Vec<Value> {
        let lines = std::fs::read_to_string(self.folder.path().join("took")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Takes from now on what it refused for the time being.
    pub fn forgive(&self) {
        std::fs::write(self.folder.path().join("forgive"), "").unwrap();
    }

    /// As by `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same one again, at the same port.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.kill();
        let mut environment = self.environment.clone();
        environment.insert("PORT".into(), self.port.to_string());
        Self::run(environment, Arc::clone(&self.folder))
    }

    /// The flags of an API that sends through it.
    pub fn flags(&self) -> Vec<String> {
        let port = self.port.to_string();
        ["--smtp-host", "127.0.0.1", "--smtp-port", &port, "--mail-from", "Platform <no-reply@platform.test>"]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

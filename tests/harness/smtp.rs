//! A mail server on loopback: aiosmtpd (`smtp.py`), which speaks STARTTLS, asks for a password, and remembers what it took.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use rcgen::CertifiedKey;
use serde_json::Value;

use crate::{
    binaries::repository,
    process::{Launch, Process, Signal, free_port},
    python, wait,
};

/// What it is made of, from PyPI.
pub const PACKAGE: &str = "aiosmtpd==1.4.6";
/// Names a Python that has it, for the API's rooms.
pub const PYTHON_VARIABLE: &str = "TENANTRY_TEST_PYTHON";
pub const USERNAME: &str = "mailer";
pub const PASSWORD: &str = "p@ss: wörd";

#[derive(Debug)]
pub struct Smtp {
    pub port: u16,
    /// What vouches for its certificate, which is for `localhost`.
    pub ca: String,
    folder: PathBuf,
    interpreter: PathBuf,
    process: Option<Process>,
}

impl Smtp {
    /// Keeps its files in `folder`.
    pub async fn start(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(folder.join("certificate.pem"), cert.pem())?;
        std::fs::write(folder.join("key.pem"), signing_key.serialize_pem())?;
        let interpreter = python::with(&[PACKAGE]).await?;
        let mut server = Self { port: free_port()?, ca: cert.pem(), folder, interpreter, process: None };
        server.run().await?;
        Ok(server)
    }

    /// Starts it, at the same port as ever.
    pub async fn run(&mut self) -> Result<()> {
        let file = |name: &str| self.folder.join(name);
        let mut process = Launch::new("mail server", &self.interpreter, file("server.log"))
            .args([repository().join("tests/harness/smtp.py")])
            .env("PORT", self.port.to_string())
            .env("TOOK", file("took"))
            .env("CERTIFICATE", file("certificate.pem"))
            .env("KEY", file("key.pem"))
            .env("USERNAME", USERNAME)
            .env("PASSWORD", PASSWORD)
            .start()
            .await?;
        let port = self.port;
        wait::until("the mail server to listen", async || {
            process.check_alive()?;
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop))
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::TERM, Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// The mails that it took, those before a restart included.
    pub fn took(&self) -> Result<Vec<Value>> {
        let lines = std::fs::read_to_string(self.folder.join("took")).unwrap_or_default();
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Waits for a mail to `to` whose subject begins so, and gives the newest.
    pub async fn mail(&self, to: &str, subject: &str) -> Result<Value> {
        wait::until(&format!("a mail to {to}: {subject} …"), async || {
            let about =
                |mail: &Value| mail["headers"]["Subject"].as_str().is_some_and(|text| text.starts_with(subject));
            Ok(self.took()?.into_iter().rev().find(|mail| mail["to"][0] == to && about(mail)))
        })
        .await
    }
}

/// The token of the link in a mail.
pub fn token(mail: &Value) -> Result<String> {
    let text = mail["text"].as_str().context("a mail without text")?;
    let Some((_, rest)) = text.split_once("?token=") else { bail!("no link in {text}") };
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

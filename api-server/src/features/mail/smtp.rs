//! The way to the mail server.
//!
//! Connections are lettre's, their pool is not: lettre's commands have no time limit, and its pool takes a connection back in
//! the middle of a command when a send is cut off. Here a connection that was cut off is closed.

use std::{fs, time::Duration};

use lettre::{
    Address, Message,
    message::Mailbox,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
        response::Severity,
    },
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::settings::{self, SmtpTls};

/// Names, TCP, TLS, and the password.
const CONNECT: Duration = Duration::from_secs(10);
/// One mail, to its "250". RFC 5321 would wait longer; a lease must not.
const SEND: Duration = Duration::from_secs(45);
/// A connection that was not used for this long is not trusted.
const IDLE: Duration = Duration::from_secs(20);

/// The server that takes mail.
pub struct Smtp {
    host: String,
    port: u16,
    tls: SmtpTls,
    parameters: Option<TlsParameters>,
    credentials: Option<Credentials>,
    hello: ClientId,
    /// Sender of tenants that name none.
    from: Mailbox,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

/// What became of a mail.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has it.
    Taken,
    /// The server will never take this mail (5xx).
    Refused(String),
    /// The server does not take this mail now (4xx).
    Later(String),
    /// The server does not answer, or lets nobody in: no word about this mail.
    Trouble(String),
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("TENANTRY_MAIL_FROM={0:?} is no sender: use `Acme <no-reply@acme.example>` or an address alone")]
    From(String),
    #[error("TENANTRY_SMTP_CA_FILE={file}: {reason}")]
    Ca { file: String, reason: String },
    #[error("TENANTRY_SMTP_TLS=none with TENANTRY_SMTP_USERNAME: a password is sent over TLS only")]
    PasswordInTheClear,
    #[error("TLS to the mail server cannot be set up: {0}")]
    Tls(#[from] Error),
}

impl Smtp {
    /// `None` where no host is named: nothing is sent then.
    pub fn new(settings: &settings::Mail) -> Result<Option<Self>, SettingsError> {
        let Some(host) = settings.smtp_host.clone().filter(|host| !host.is_empty()) else { return Ok(None) };
        let from: Mailbox = settings.mail_from.parse().map_err(|_| SettingsError::From(settings.mail_from.clone()))?;
        let by_port = if settings.smtp_port == 465 { SmtpTls::Implicit } else { SmtpTls::Starttls };
        let tls = settings.smtp_tls.unwrap_or(by_port);
        let credentials = (!settings.smtp_username.is_empty())
            .then(|| Credentials::new(settings.smtp_username.clone(), settings.smtp_password.clone()));
        if tls == SmtpTls::None && credentials.is_some() {
            return Err(SettingsError::PasswordInTheClear);
        }
        let parameters = if tls == SmtpTls::None { None } else { Some(parameters(&host, settings)?) };
        let hello = ClientId::Domain(from.email.domain().to_owned());
        let idle = Mutex::default();
        Ok(Some(Self { host, port: settings.smtp_port, tls, parameters, credentials, hello, from, idle }))
    }

    /// Sender of tenants that name none.
    pub fn from(&self) -> &Mailbox {
        &self.from
    }

    /// `host:port`, for the log.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Hands a mail over.
    pub async fn send(&self, mail: &Message) -> Outcome {
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            Err(reason) => return Outcome::Trouble(reason),
        };
        match timeout(SEND, connection.send(mail.envelope(), &mail.formatted())).await {
            Err(_) => Outcome::Trouble(format!("the server took longer than {} s over it", SEND.as_secs())),
            Ok(Err(error)) => judge(&error, mail),
            Ok(Ok(_)) => {
                self.idle.lock().push((Instant::now(), connection));
                Outcome::Taken
            }
        }
    }

    /// Whether the server lets us in now; an error says why not.
    pub async fn is_there(&self) -> Result<(), String> {
        let connection = self.connect().await?;
        self.idle.lock().push((Instant::now(), connection));
        Ok(())
    }

    /// Closes what is open and not used.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        for (_, mut connection) in idle {
            let _ = timeout(Duration::from_secs(1), connection.quit()).await;
        }
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, String> {
        loop {
            let Some((since, mut connection)) = self.idle.lock().pop() else { return self.connect().await };
            // A server closes what is idle whenever it likes.
            if since.elapsed() < IDLE && timeout(CONNECT, connection.test_connected()).await == Ok(true) {
                return Ok(connection);
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        match timeout(CONNECT, self.greet()).await {
            Err(_) => Err(format!("no answer within {} s", CONNECT.as_secs())),
            Ok(connection) => connection.map_err(|error| reason(&error)),
        }
    }

    async fn greet(&self) -> Result<AsyncSmtpConnection, Error> {
        let at_once = self.parameters.clone().filter(|_| self.tls == SmtpTls::Implicit);
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT), &self.hello, at_once, None).await?;
        if let Some(parameters) = self.parameters.clone().filter(|_| self.tls == SmtpTls::Starttls) {
            // An error where the server does not offer it: nothing goes out in the clear because somebody on the way cut
            // the offer out.
            connection.starttls(parameters, &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }
}

fn parameters(host: &str, settings: &settings::Mail) -> Result<TlsParameters, SettingsError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(file) = &settings.smtp_ca_file {
        let wrong = |reason: String| SettingsError::Ca { file: file.display().to_string(), reason };
        let pem = fs::read(file).map_err(|error| wrong(error.to_string()))?;
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?);
    }
    Ok(builder.build_rustls()?)
}

fn judge(error: &Error, mail: &Message) -> Outcome {
    let reason = reason(error);
    let Some(code) = error.status() else {
        // The one fault of a mail that lettre itself finds: an address that this server cannot write.
        let plain = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        let unwritable = error.is_client() && !mail.envelope().to().iter().all(plain);
        return if unwritable { Outcome::Refused(reason) } else { Outcome::Trouble(reason) };
    };
    match (code.to_string().as_str(), code.severity) {
        // About us and not about the mail: going away, wrong password, no password, too weak a password.
        ("421" | "454" | "530" | "534" | "535" | "538", _) => Outcome::Trouble(reason),
        (_, Severity::PermanentNegativeCompletion) => Outcome::Refused(reason),
        _ => Outcome::Later(reason),
    }
}

/// The error with everything below it, on one line that is not endless: a server may answer what it likes.
fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(below) = source {
        let below_text = below.to_string();
        if !text.contains(&below_text) {
            text = format!("{text}: {below_text}");
        }
        source = below.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> settings::Mail {
        crate::testing::mail_settings(flags)
    }

    #[test]
    fn encryption_follows_the_port_unless_it_is_named() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = |flags: &[&str]| {
            let base = ["--smtp-host", "mail.test", "--mail-from", "A <a@b.test>"];
            Smtp::new(&settings(&[&base, flags].concat())).unwrap().unwrap().tls
        };
        assert_eq!(tls(&["--smtp-port", "465"]), SmtpTls::Implicit);
        assert_eq!(tls(&["--smtp-port", "587"]), SmtpTls::Starttls);
        assert_eq!(tls(&["--smtp-port", "25"]), SmtpTls::Starttls);
        assert_eq!(tls(&["--smtp-port", "25", "--smtp-tls", "none"]), SmtpTls::None);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_the_cure() {
        let error = |flags: &[&str]| match Smtp::new(&settings(&[&["--smtp-host", "mail.test"], flags].concat())) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{flags:?}"),
        };
        for from in ["", "nobody", "A <a@b.test>\r\nBcc: all@b.test"] {
            assert!(error(&["--mail-from", from]).contains("TENANTRY_MAIL_FROM"), "{from:?}");
        }
        let open = ["--mail-from", "a@b.test", "--smtp-tls", "none", "--smtp-username", "u", "--smtp-password", "p"];
        assert!(error(&open).contains("over TLS only"));
        assert!(error(&["--mail-from", "a@b.test", "--smtp-ca-file", "/nowhere"]).contains("/nowhere"));
        assert!(Smtp::new(&settings(&[])).unwrap().is_none());
    }
}

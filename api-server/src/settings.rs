//! What the process is told at start. Every flag can be given as the environment variable that `--help` names.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use telemetry::LogFormat;
use url::Url;

use crate::jobs::settings::Job;

/// The stateless HTTP API of a Tenantry platform.
#[derive(Debug, Parser)]
#[command(name = "tenantry-api", version = contract::version::describe())]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer requests until SIGTERM.
    Serve(Box<Serve>),
    /// Bring the database schema up to this version, then exit.
    Migrate(Migrate),
    /// Do one piece of work, then exit.
    Job(Job),
    /// Print the OpenAPI document.
    Openapi,
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub database: Database,

    #[command(flatten)]
    pub redis: RedisServer,

    #[command(flatten)]
    pub tenants: TenantSource,

    #[command(flatten)]
    pub http: Http,

    #[command(flatten)]
    pub mail: Mail,

    #[command(flatten)]
    pub log: Log,
}

#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    pub database: Database,

    #[command(flatten)]
    pub log: Log,
}

/// The database; without a URL, PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and PGSSLMODE speak.
#[derive(Debug, Args)]
pub struct Database {
    /// PostgreSQL, as postgres://…; its role must be bound by row-level security.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Connections of this process at most.
    #[arg(long, env = "TENANTRY_DATABASE_CONNECTIONS", default_value_t = 16)]
    pub database_connections: u32,
}

/// Redis; without a URL, the parts speak, which may hold any character.
#[derive(Debug, Args)]
pub struct RedisServer {
    /// Redis, as redis://… or rediss://…
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,

    /// Host of Redis, where there is no REDIS_URL.
    #[arg(long, env = "REDIS_HOST", default_value = "127.0.0.1")]
    pub redis_host: String,

    /// Port of Redis, where there is no REDIS_URL.
    #[arg(long, env = "REDIS_PORT", default_value_t = 6379)]
    pub redis_port: u16,

    /// User of Redis, where there is no REDIS_URL.
    #[arg(long, env = "REDIS_USERNAME", default_value = "")]
    pub redis_username: String,

    /// Password of Redis, where there is no REDIS_URL.
    #[arg(long, env = "REDIS_PASSWORD", default_value = "", hide_env_values = true)]
    pub redis_password: String,
}

impl RedisServer {
    /// The address in one piece, with whatever a URL cannot hold escaped.
    pub fn url(&self) -> String {
        if let Some(url) = &self.redis_url {
            return url.clone();
        }
        let (host, port) = (&self.redis_host, self.redis_port);
        let Ok(mut url) = Url::parse(&format!("redis://{host}:{port}")) else {
            return format!("redis://{host}:{port}");
        };
        // Neither can fail where there is a host.
        let _ = url.set_username(&escaped(&self.redis_username));
        let password = escaped(&self.redis_password);
        let _ = url.set_password(Some(password.as_str()).filter(|password| !password.is_empty()));
        url.into()
    }
}

/// Every byte that could mean something else in a URL as `%XX`. `Url` itself leaves a `%` that is there.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

/// Where the tenants come from.
#[derive(Debug, Clone, Args)]
pub struct TenantSource {
    /// The Platform that this process belongs to.
    #[arg(long, env = "TENANTRY_PLATFORM", default_value = "")]
    pub platform: String,

    /// The namespace of the Platform.
    #[arg(long, env = "TENANTRY_NAMESPACE")]
    pub namespace: Option<String>,

    /// Read documents (*.json) from this folder in place of Kubernetes.
    #[arg(long, env = "TENANTRY_CONFIG_DIR")]
    pub config_dir: Option<PathBuf>,

    /// Where the last good documents are kept, so that a start needs no control plane.
    #[arg(long, env = "TENANTRY_CACHE_DIR", default_value = "/var/cache/tenantry")]
    pub cache_dir: PathBuf,

    /// The file with the 32 bytes that open sealed credentials.
    #[arg(long, env = "TENANTRY_SEALING_KEY_FILE", default_value = "/etc/tenantry/sealing-key/key")]
    pub sealing_key_file: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct Http {
    /// Address that both ports listen on.
    #[arg(long, env = "TENANTRY_BIND_ADDRESS", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,

    /// Requests of the tenants.
    #[arg(long, env = "TENANTRY_PORT", default_value_t = 8080)]
    pub port: u16,

    /// Probes, metrics and the loaded revisions; not for the outside.
    #[arg(long, env = "TENANTRY_MANAGEMENT_PORT", default_value_t = 9090)]
    pub management_port: u16,

    /// Whether the header X-Tenant may name the tenant; else the host does, alone.
    #[arg(long, env = "TENANTRY_TENANT_HEADER", value_enum, default_value_t = TenantHeader::Refused)]
    pub tenant_header: TenantHeader,

    /// Seconds between "not ready" and the end of accepting, for load balancers to notice.
    #[arg(long, env = "TENANTRY_DRAIN_SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,

    /// Networks (CIDR, comma-separated) whose X-Forwarded-For counts.
    #[arg(long, env = "TENANTRY_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<Cidr>,

    /// Password hashes worked on at once; each takes the tenant's argon2 memory. 0 means half of the cores.
    #[arg(long, env = "TENANTRY_HASH_THREADS", default_value_t = 0)]
    pub hash_threads: usize,

    /// Connections of Socket.IO that this process holds open at most; half of them for one tenant.
    #[arg(long, env = "TENANTRY_MAX_SOCKETS", default_value = "10000")]
    pub max_sockets: usize,
}

impl Http {
    pub fn address(&self) -> SocketAddr {
        (self.bind_address, self.port).into()
    }

    pub fn management_address(&self) -> SocketAddr {
        (self.bind_address, self.management_port).into()
    }

    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// The server that takes mail. Without a host none is sent, and what needs a mail says so.
#[derive(Debug, Clone, Args)]
pub struct Mail {
    /// Host of the SMTP server.
    #[arg(long, env = "TENANTRY_SMTP_HOST")]
    pub smtp_host: Option<String>,

    /// Port of the SMTP server.
    #[arg(long, env = "TENANTRY_SMTP_PORT", default_value_t = 587)]
    pub smtp_port: u16,

    /// How the connection is encrypted; by the port when left out: implicit on 465, starttls on any other.
    #[arg(long, env = "TENANTRY_SMTP_TLS", value_enum)]
    pub smtp_tls: Option<SmtpTls>,

    /// Certificates (PEM) that the server's may be signed by, beside those that everybody trusts.
    #[arg(long, env = "TENANTRY_SMTP_CA_FILE")]
    pub smtp_ca_file: Option<PathBuf>,

    /// Who signs in to the server; nobody when empty.
    #[arg(long, env = "TENANTRY_SMTP_USERNAME", default_value = "")]
    pub smtp_username: String,

    /// With what they sign in.
    #[arg(long, env = "TENANTRY_SMTP_PASSWORD", default_value = "", hide_env_values = true)]
    pub smtp_password: String,

    /// Sender of tenants that name none, such as `Acme <no-reply@acme.example>`.
    #[arg(long, env = "TENANTRY_MAIL_FROM", default_value = "")]
    pub mail_from: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, and no mail where the server does not offer it.
    Starttls,
    /// None at all, and then no password either.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TenantHeader {
    Refused,
    Allowed,
}

#[derive(Debug, Args)]
pub struct Log {
    /// A level, or a filter such as `info,sqlx=warn`.
    #[arg(long, env = "TENANTRY_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// One JSON object per line, or text for people.
    #[arg(long, env = "TENANTRY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// Where traces go (OTLP over HTTP); none are made without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// The name of this pod: tells replicas apart in the traces.
    #[arg(long, env = "TENANTRY_POD_NAME")]
    pub pod_name: Option<String>,
}

/// A network: all addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
    v4: bool,
}

impl Cidr {
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.v4 && bits(ip) & self.mask == self.network
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network: use CIDR notation such as 10.0.0.0/8 or fd00::/8");
        let (ip, length) = match text.split_once('/') {
            Some((ip, length)) => (ip, Some(length.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.trim().parse().map_err(|_| wrong())?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(width);
        let host_bits = width.checked_sub(length).ok_or_else(wrong)?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Ok(Self { network: bits(ip) & mask, mask, v4: ip.is_ipv4() })
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_what_a_url_may_not() {
        let parts = |username: &str, password: &str| RedisServer {
            redis_url: None,
            redis_host: "cache".into(),
            redis_port: 6380,
            redis_username: username.into(),
            redis_password: password.into(),
        };
        assert_eq!(parts("", "").url(), "redis://cache:6380");
        for password in ["p@ss/w:rd?#[%41]&= ü", "plain"] {
            let url = parts("user", password).url();
            let read = redis::IntoConnectionInfo::into_connection_info(url.as_str()).unwrap();
            assert_eq!(
                (read.redis_settings().username(), read.redis_settings().password()),
                (Some("user"), Some(password))
            );
        }
        let given = RedisServer { redis_url: Some("rediss://elsewhere".into()), ..parts("user", "x") };
        assert_eq!(given.url(), "rediss://elsewhere");
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |network: &str, ip: &str| network.parse::<Cidr>().unwrap().contains(ip.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.1.2.3") && holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && holds("fd00::/8", "fd12::1") && holds("192.0.2.1", "192.0.2.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0") && !holds("0.0.0.0/0", "::1") && !holds("192.0.2.1", "192.0.2.2"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "x/8", "::/129", "10.0.0.0/"] {
            assert!(bad.parse::<Cidr>().unwrap_err().contains("use CIDR notation"), "{bad}");
        }
    }
}

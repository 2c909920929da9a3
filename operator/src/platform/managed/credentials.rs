//! The keys of a Secret that says how to connect. For PostgreSQL they are those of CloudNativePG's `-app` Secret, so that
//! whatever reads the one can read the other.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::names::{DATABASE, LOGINS, OWNER, POSTGRES_PORT, REDIS_PORT, Store};

/// Bytes of a password before they are written as hexadecimal digits, which no URL, file or shell has to escape.
pub const PASSWORD_BYTES: usize = 24;

pub type Text = BTreeMap<String, String>;

/// A password from random bytes.
pub fn password(random: &[u8; PASSWORD_BYTES]) -> String {
    hex::encode(random)
}

/// What a login to PostgreSQL is made of.
#[derive(Clone, Copy)]
pub struct Postgres<'a> {
    /// Name of the Service.
    pub service: &'a str,
    pub namespace: &'a str,
    pub database: &'a str,
    pub user: &'a str,
    pub password: &'a str,
    /// The role that the session acts as from its first statement, where that is not the user.
    pub role: Option<&'a str>,
}

impl Postgres<'_> {
    pub fn keys(&self) -> Text {
        let Self { service, namespace, database, user, password, role } = self;
        let port = POSTGRES_PORT;
        let (near, far) = (format!("{service}.{namespace}"), format!("{service}.{namespace}.svc.cluster.local"));
        // The server reads it as `-c role=…` on its command line.
        let option = role.map(|role| format!("options=-c%20role%3D{role}"));
        let uri = |host: &str| {
            let query = option.as_ref().map(|option| format!("?{option}")).unwrap_or_default();
            format!("postgresql://{user}:{password}@{host}:{port}/{database}{query}")
        };
        let jdbc = |host: &str| {
            let more = option.as_ref().map(|option| format!("&{option}")).unwrap_or_default();
            format!("jdbc:postgresql://{host}:{port}/{database}?password={password}&user={user}{more}")
        };
        text([
            ("username", (*user).to_owned()),
            ("user", (*user).to_owned()),
            ("password", (*password).to_owned()),
            ("dbname", (*database).to_owned()),
            ("host", (*service).to_owned()),
            ("port", port.to_string()),
            ("pgpass", format!("{service}:{port}:{database}:{user}:{password}\n")),
            ("uri", uri(&near)),
            ("jdbc-uri", jdbc(&near)),
            ("fqdn-uri", uri(&far)),
            ("fqdn-jdbc-uri", jdbc(&far)),
        ])
    }
}

/// The platform's own login: one of two, which act as the owner of the database.
pub fn platform_postgres(platform: &str, namespace: &str, user: &str, password: &str) -> Text {
    let service = Store::Postgres.service(platform);
    Postgres { service: &service, namespace, database: DATABASE, user, password, role: Some(OWNER) }.keys()
}

pub fn superuser(platform: &str, namespace: &str, password: &str) -> Text {
    let service = Store::Postgres.service(platform);
    Postgres { service: &service, namespace, database: "postgres", user: "postgres", password, role: None }.keys()
}

/// The login that is not in use.
pub fn other_login(current: Option<&str>) -> &'static str {
    let [first, second] = LOGINS;
    if current == Some(first) { second } else { first }
}

pub fn redis(platform: &str, namespace: &str, password: &str) -> Text {
    let (service, port) = (Store::Redis.service(platform), REDIS_PORT);
    let uri = |host: &str| format!("redis://default:{password}@{host}:{port}");
    text([
        ("username", "default".to_owned()),
        ("user", "default".to_owned()),
        ("password", password.to_owned()),
        ("host", service.clone()),
        ("port", port.to_string()),
        ("uri", uri(&format!("{service}.{namespace}"))),
        ("fqdn-uri", uri(&format!("{service}.{namespace}.svc.cluster.local"))),
    ])
}

/// A password as Redis keeps it in an access list.
pub fn redis_hash(password: &str) -> String {
    hex::encode(Sha256::digest(password))
}

/// The access list: the default user may do everything with any of these passwords.
pub fn users_acl<'a>(hashes: impl IntoIterator<Item = &'a str>) -> String {
    let mut hashes: Vec<_> = hashes.into_iter().map(|hash| format!("#{hash} ")).collect();
    hashes.sort();
    hashes.dedup();
    format!("user default on {}~* &* +@all\n", hashes.concat())
}

fn text<const N: usize>(pairs: [(&str, String); N]) -> Text {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

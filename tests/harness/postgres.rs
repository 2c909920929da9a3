//! A PostgreSQL to make databases in: the one that `TENANTRY_TEST_DATABASE_URL` names, else a private one.
//!
//! A platform's database always belongs to a role without SUPERUSER and BYPASSRLS, as in production: a superuser would
//! make every row-level-security test pass.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use crate::{
    process::{Launch, Process, Signal, am_root, find_program, free_port},
    wait,
    workdir::Workdir,
};

pub const URL_VARIABLE: &str = "TENANTRY_TEST_DATABASE_URL";
/// Owns the databases. CREATEDB for tenants with a database of their own, CREATEROLE for what migrations create.
const OWNER: &str = "tenantry";

#[derive(Debug)]
pub struct Postgres {
    /// Connects as the owner to a database that is nobody's.
    url: Url,
    pub origin: String,
    process: Option<Process>,
    /// Of a shared one: goes away with it.
    folder: Option<Workdir>,
}

impl Postgres {
    /// One server for all worlds of this process: `initdb` costs more than most tests.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: OnceCell<Arc<Postgres>> = OnceCell::const_new();
        SHARED
            .get_or_try_init(async || {
                let folder = Workdir::temporary()?;
                let mut postgres = Self::borrow_or_start(&folder.join("postgres"), Durability::None).await?;
                postgres.folder = Some(folder);
                Ok(Arc::new(postgres))
            })
            .await
            .cloned()
    }

    pub async fn borrow_or_start(folder: &Path, durability: Durability) -> Result<Self> {
        match env::var(URL_VARIABLE) {
            Ok(url) => Self::borrow(&url).await,
            Err(_) => Self::start(folder, durability).await,
        }
    }

    async fn borrow(url: &str) -> Result<Self> {
        let mut url = Url::parse(url).with_context(|| format!("{URL_VARIABLE} is no URL"))?;
        let mut connection = connect(&url).await.with_context(|| format!("{URL_VARIABLE} names a server that"))?;
        let superuser: bool =
            sqlx::query_scalar("select rolsuper or rolbypassrls from pg_roles where rolname = current_user")
                .fetch_one(&mut connection)
                .await?;
        if superuser {
            create_owner(&mut connection, OWNER).await?;
            url.set_username(OWNER).and_then(|()| url.set_password(Some(OWNER))).map_err(|()| anyhow!("odd URL"))?;
        }
        Ok(Self { origin: format!("borrowed ({URL_VARIABLE})"), url, process: None, folder: None })
    }

    /// A private server with its data in `folder`, which is made where it isn't there yet.
    pub async fn start(folder: &Path, durability: Durability) -> Result<Self> {
        Self::start_at(folder, durability, free_port()?).await
    }

    /// At a port that others know already.
    pub async fn start_at(folder: &Path, durability: Durability, port: u16) -> Result<Self> {
        let user = am_root().then_some("postgres"); // PostgreSQL refuses to run as root
        let (data, password) = (folder.join("data"), folder.join("superuser.password"));
        if !data.join("PG_VERSION").exists() {
            prepare(folder, &password, user)?;
            let arguments =
                ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"];
            let mut initdb = launch("initdb", folder, user)?
                .args(arguments)
                .args([format!("--pwfile={}", password.display()), format!("--pgdata={}", data.display())])
                .start()
                .await?;
            if !initdb.wait().await?.success() {
                bail!("initdb failed:\n{}", initdb.log_tail(20));
            }
        }
        // A server that was killed leaves its lock behind; with our own data folder there is no other owner.
        let stale = data.join("postmaster.pid");
        if stale.exists() && !running(&stale) {
            fs::remove_file(&stale)?;
        }

        let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"];
        let settings = settings.iter().chain(durability.settings()).map(|setting| format!("-c{setting}"));
        let mut process = launch("postgres", folder, user)?
            .args(["-D".into(), data.into_os_string()])
            .args([format!("-cport={port}")])
            .args(settings)
            .start()
            .await?;
        let superuser = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username("postgres")
            .password(fs::read_to_string(password)?.trim())
            .database("postgres");
        let mut connection = wait::until("PostgreSQL to accept connections", async || {
            process.check_alive()?;
            Ok(PgConnection::connect_with(&superuser).await.ok())
        })
        .await?;
        create_owner(&mut connection, OWNER).await?;
        let url = Url::parse(&format!("postgres://{OWNER}:{OWNER}@127.0.0.1:{port}/postgres"))?;
        Ok(Self { url, origin: format!("private, port {port}"), process: Some(process), folder: None })
    }

    /// The address of a database, which is made where it isn't there yet.
    pub async fn database(&self, name: &str) -> Result<Url> {
        let mut connection = connect(&self.url).await?;
        let known: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !known {
            sqlx::raw_sql(AssertSqlSafe(format!(r#"create database "{name}""#))).execute(&mut connection).await?;
        }
        let mut url = self.url.clone();
        url.set_path(name);
        Ok(url)
    }

    pub async fn drop_database(&self, name: &str) -> Result<()> {
        let mut connection = connect(&self.url).await?;
        let statement = format!(r#"drop database if exists "{name}" with (force)"#);
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(())
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// "Fast shutdown": sessions are cut, data is written.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::INT, Duration::from_secs(20)).await?;
        }
        Ok(())
    }
}

/// Whether what is committed survives a power cut. Tests' data needn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Full,
    None,
}

impl Durability {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::None => &["fsync=off", "synchronous_commit=off", "full_page_writes=off"],
        }
    }
}

async fn connect(url: &Url) -> Result<PgConnection> {
    PgConnection::connect(url.as_str()).await.context("PostgreSQL does not answer")
}

async fn create_owner(superuser: &mut PgConnection, role: &str) -> Result<()> {
    // Two test processes may do this at once on a borrowed server; the second finds it done.
    let statement = format!(
        "do $$ begin
           create role {role} login password '{role}' nosuperuser nobypassrls createdb createrole;
         exception when duplicate_object or unique_violation then null; end $$"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(superuser).await?;
    Ok(())
}

fn launch(program: &str, folder: &Path, user: Option<&str>) -> Result<Launch> {
    let launch = Launch::new(program, binary(program)?, folder.join(format!("{program}.log"))).as_user(user);
    // A checkout below /root is closed to the server's own user.
    let closed = user.is_some() && folder.ancestors().skip(1).any(|parent| !traversable(parent));
    Ok(if closed { launch.with_capability("dac_override") } else { launch })
}

/// Makes the folder and the superuser's password, and gives both to the user who is going to own the data.
fn prepare(folder: &Path, password: &Path, user: Option<&str>) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(password, Uuid::new_v4().simple().to_string())?;
    fs::set_permissions(password, fs::Permissions::from_mode(0o600))?;
    let Some(user) = user else { return Ok(()) };
    let passwd = fs::read_to_string("/etc/passwd")?;
    let ids = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == user)
        .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    let (uid, gid) = ids.with_context(|| format!("there is no user {user}: PostgreSQL's package makes it"))?;
    for path in [folder, password] {
        chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn traversable(folder: &Path) -> bool {
    folder.as_os_str().is_empty()
        || fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

fn running(pidfile: &Path) -> bool {
    let pid = fs::read_to_string(pidfile).ok().and_then(|text| Some(text.lines().next()?.to_owned()));
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    name.is_some_and(|name| name.trim() == "postgres")
}

/// Debian keeps the server out of the PATH, by version; the newest comes first.
pub fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    folders.sort_by_key(|path| version(path));
    folders.reverse();
    folders
}

fn binary(name: &str) -> Result<PathBuf> {
    find_program(name, &folders())
        .with_context(|| format!("no `{name}` on this machine: apt-get install postgresql, or set {URL_VARIABLE}"))
}

/// Where `pg_dump` and its relatives are.
pub fn folder_of_programs() -> Option<PathBuf> {
    Some(binary("pg_dump").ok()?.parent()?.to_owned())
}

fn version(bin: &Path) -> u32 {
    bin.parent().and_then(|path| path.file_name()?.to_str()?.parse().ok()).unwrap_or_default()
}

/// Whether a private server could be started here.
pub fn available() -> bool {
    binary("postgres").is_ok() && binary("initdb").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_belongs_to_a_role_that_row_level_security_binds() {
        let postgres = Postgres::shared().await.unwrap();
        let name = format!("harness_{}", uuid::Uuid::new_v4().simple());
        let url = postgres.database(&name).await.unwrap();
        let mut connection = connect(&url).await.unwrap();
        let (superuser, bypasses, owner): (bool, bool, bool) = sqlx::query_as(
            "select rolsuper, rolbypassrls, pg_get_userbyid(datdba) = current_user
               from pg_roles, pg_database where rolname = current_user and datname = current_database()",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!((superuser, bypasses, owner), (false, false, true));
        postgres.drop_database(&name).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_start_finds_its_data() {
        let folder = Workdir::temporary().unwrap();
        for already in [false, true] {
            let mut postgres = Postgres::start(&folder.join("postgres"), Durability::None).await.unwrap();
            let url = postgres.database("kept").await.unwrap();
            let mut connection = connect(&url).await.unwrap();
            let found: bool =
                sqlx::query_scalar("select to_regclass('fact') is not null").fetch_one(&mut connection).await.unwrap();
            assert_eq!(found, already);
            sqlx::raw_sql("create table if not exists fact ()").execute(&mut connection).await.unwrap();
            drop(connection);
            postgres.stop().await.unwrap();
        }
    }
}

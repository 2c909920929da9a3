//! Roles and databases of managed PostgreSQL: who may sign in, and what they own. Run by Jobs of the operator, which
//! speaks no SQL. Every step says how things should be, so that a Job can be run again.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use contract::Secret;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions, query, query_scalar};
use url::Url;

use crate::infra::db;

/// As PostgreSQL makes them.
const ITERATIONS: u32 = 4096;
pub const SALT_BYTES: usize = 16;

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
    #[error("DATABASE_URL must name user, password and database: postgres://user:password@host:5432/database")]
    Incomplete,
    #[error(
        "role {0:?} is a superuser or has BYPASSRLS, so row-level security would not bind it: take that from it, or name another"
    )]
    AboveRowSecurity(String),
    #[error("a login cannot be kept as a hash")]
    Hash,
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// A role that signs in to one database.
#[derive(Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
    pub database: String,
}

impl Login {
    /// From the URL that it will connect with.
    pub fn parse(url: &str) -> Result<Self, LoginError> {
        let url = Url::parse(url).map_err(|_| LoginError::Incomplete)?;
        let plain = |text: &str| {
            let text = percent_decoded(text);
            Some(text).filter(|text| !text.is_empty()).ok_or(LoginError::Incomplete)
        };
        Ok(Self {
            user: plain(url.username())?,
            password: Secret::new(plain(url.password().unwrap_or_default())?),
            database: plain(url.path().trim_start_matches('/'))?,
        })
    }
}

fn percent_decoded(text: &str) -> String {
    // A form's decoder also reads `+`, which stands for itself here.
    let text = text.replace('+', "%2B");
    url::form_urlencoded::parse(text.as_bytes()).map(|(key, _)| key.into_owned()).next().unwrap_or_default()
}

/// Sees to it that the login works, and that its database is there and belongs to `owner` (or else to the login itself).
/// The one whose session this is needs CREATEROLE and CREATEDB, and need not be a superuser.
pub async fn provision(
    admin: &PgConnectOptions,
    login: &Login,
    owner: Option<&str>,
    salt: &[u8; SALT_BYTES],
) -> Result<(), LoginError> {
    let mut conn = PgConnection::connect_with(admin).await?;
    let Login { user, password, database } = login;
    // Two Jobs of one server may run at once; each finds the other's work done.
    query("SELECT pg_advisory_lock(hashtext('tenantry.dev/provision'))").execute(&mut conn).await?;
    let owning = owner.unwrap_or(user);
    for role in owner.into_iter().chain([user.as_str()]) {
        let known: bool = query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(role)
            .fetch_one(&mut conn)
            .await?;
        if !known {
            say(&mut conn, "SELECT format('CREATE ROLE %I NOLOGIN', $1)", &[role]).await?;
        }
        if db::is_above_row_security(&mut conn, role).await? {
            return Err(LoginError::AboveRowSecurity(role.to_owned()));
        }
    }
    // As a hash: the password itself would stand in the server's log where that has statements.
    let verifier = scram_sha_256(password, salt).ok_or(LoginError::Hash)?;
    say(&mut conn, "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1, $2)", &[user, &verifier]).await?;
    if let Some(owner) = owner {
        say(&mut conn, "SELECT format('GRANT %I TO %I', $1, $2)", &[owner, user]).await?;
    }
    // To give a database to a role, one has to be a member of it; a superuser is of all.
    let member: bool =
        query_scalar("SELECT pg_has_role(current_user, $1, 'USAGE')").bind(owning).fetch_one(&mut conn).await?;
    if !member {
        say(&mut conn, "SELECT format('GRANT %I TO %I', $1, current_user)", &[owning]).await?;
    }
    let there: bool = query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(database)
        .fetch_one(&mut conn)
        .await?;
    if !there {
        say(&mut conn, "SELECT format('CREATE DATABASE %I OWNER %I', $1, $2)", &[database, owning]).await?;
        // Other tenants' roles have no business in it.
        say(&mut conn, "SELECT format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', $1)", &[database]).await?;
    }
    tracing::info!(user, database, created = !there, "the login works");
    conn.close().await?;
    Ok(())
}

/// Refuses the login from now on, and ends the sessions that it still has.
pub async fn retire(admin: &PgConnectOptions, user: &str) -> Result<(), LoginError> {
    let mut conn = PgConnection::connect_with(admin).await?;
    say(&mut conn, "SELECT format('ALTER ROLE %I NOLOGIN PASSWORD NULL', $1)", &[user]).await?;
    let member: bool =
        query_scalar("SELECT pg_has_role(current_user, $1, 'USAGE')").bind(user).fetch_one(&mut conn).await?;
    if !member {
        say(&mut conn, "SELECT format('GRANT %I TO %I', $1, current_user)", &[user]).await?;
    }
    let ended: i64 = query_scalar("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1")
        .bind(user)
        .fetch_one(&mut conn)
        .await?;
    tracing::info!(user, sessions = ended, "the login is refused");
    conn.close().await?;
    Ok(())
}

/// Drops a database and the role that owns it; what is gone already is fine.
pub async fn drop(admin: &PgConnectOptions, user: &str, database: &str) -> Result<(), LoginError> {
    let mut conn = PgConnection::connect_with(admin).await?;
    say(&mut conn, "SELECT format('DROP DATABASE IF EXISTS %I WITH (FORCE)', $1)", &[database]).await?;
    say(&mut conn, "SELECT format('DROP ROLE IF EXISTS %I', $1)", &[user]).await?;
    tracing::info!(user, database, "the database and its role are gone");
    conn.close().await?;
    Ok(())
}

/// Runs a statement that takes no parameters, put together by the server, which knows how names and texts are quoted.
async fn say(conn: &mut PgConnection, format: &'static str, arguments: &[&str]) -> Result<(), sqlx::Error> {
    let mut text = query_scalar::<_, String>(format);
    for argument in arguments {
        text = text.bind((*argument).to_owned());
    }
    let statement = text.fetch_one(&mut *conn).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(std::mem::drop)
}

/// The verifier that PostgreSQL keeps of a password (RFC 5802, 7677). Passwords of ours are ASCII, which SASLprep leaves
/// as it is.
fn scram_sha_256(password: &Secret, salt: &[u8; SALT_BYTES]) -> Option<String> {
    let hmac = |key: &[u8], parts: &[&[u8]]| -> Option<[u8; 32]> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).ok()?;
        for part in parts {
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    };
    // PBKDF2 (RFC 8018), of which one block is as long as the hash.
    let key = password.expose().as_bytes();
    let mut round = hmac(key, &[salt, &1_u32.to_be_bytes()])?;
    let mut salted = round;
    for _ in 1..ITERATIONS {
        round = hmac(key, &[&round])?;
        salted.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    let stored = Sha256::digest(hmac(&salted, &[b"Client Key"])?);
    let server = hmac(&salted, &[b"Server Key"])?;
    let mut text = format!("SCRAM-SHA-256${ITERATIONS}:{}", BASE64_STANDARD.encode(salt));
    write!(text, "${}:{}", BASE64_STANDARD.encode(stored), BASE64_STANDARD.encode(server)).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database_url;

    const SALT: [u8; SALT_BYTES] = *b"0123456789abcdef";

    fn admin() -> PgConnectOptions {
        db::options(Some(&database_url())).unwrap()
    }

    /// Names that no other run uses, removed at the end.
    struct Names {
        owner: String,
        database: String,
    }

    impl Names {
        fn new() -> Self {
            let unique = uuid::Uuid::now_v7().simple().to_string();
            Self { owner: format!("owner_{unique}"), database: format!("db_{unique}") }
        }

        fn login(&self, which: &str, password: &str) -> (String, Login) {
            let mut url = Url::parse(&database_url()).unwrap();
            let user = format!("{}_{which}", self.owner);
            url.set_username(&user).unwrap();
            url.set_password(Some(password)).unwrap();
            url.set_path(&self.database);
            url.set_query(Some(&format!("options=-c%20role%3D{}", self.owner)));
            let login = Login::parse(url.as_str()).unwrap();
            (url.to_string(), login)
        }

        async fn remove(&self) {
            drop(&admin(), &format!("{}_a", self.owner), &self.database).await.unwrap();
            let mut conn = PgConnection::connect_with(&admin()).await.unwrap();
            for role in [format!("{}_b", self.owner), self.owner.clone()] {
                let statement = format!("DROP ROLE IF EXISTS \"{role}\"");
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
            }
        }
    }

    async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&db::options(Some(url)).unwrap()).await
    }

    #[tokio::test]
    async fn passwords_change_over_while_both_work_and_the_owner_stays_the_same() {
        let names = Names::new();
        let (first_url, first) = names.login("a", "first");
        let (second_url, second) = names.login("b", "second");
        let owner = Some(names.owner.as_str());
        // Twice, since a Job may be run again.
        for _ in 0..2 {
            provision(&admin(), &first, owner, &SALT).await.unwrap();
        }
        db::migrate(db::options(Some(&first_url)).unwrap()).await.unwrap();
        let mut old = connect(&first_url).await.unwrap();

        provision(&admin(), &second, owner, &SALT).await.unwrap();
        let mut new = connect(&second_url).await.unwrap();
        for conn in [&mut old, &mut new] {
            let acts_as: String = query_scalar("SELECT current_user::text").fetch_one(&mut *conn).await.unwrap();
            assert_eq!(acts_as, names.owner);
            query("SELECT count(*) FROM auth.users").execute(conn).await.unwrap();
        }
        // The next release migrates with the new login what the old one made.
        query("ALTER TABLE auth.users ADD COLUMN later text").execute(&mut new).await.unwrap();

        retire(&admin(), &first.user).await.unwrap();
        let refused = connect(&first_url).await.unwrap_err().to_string();
        assert!(
            refused.contains("not permitted to log in") || refused.contains("password authentication"),
            "{refused}"
        );
        query("SELECT 1").execute(&mut new).await.unwrap();
        // And back again.
        provision(&admin(), &Login { password: Secret::new("third"), ..first }, owner, &SALT).await.unwrap();
        // A server that trusts whoever comes from this machine asks for no password at all.
        let asks = connect(&first_url.replace(":first@", ":never-given@")).await.is_err();
        assert_eq!(connect(&first_url).await.is_err(), asks, "the former password stays refused");
        connect(&first_url.replace(":first@", ":third@")).await.unwrap();
        std::mem::drop((old, new));
        names.remove().await;
    }

    #[tokio::test]
    async fn a_role_above_row_security_is_never_made_the_apis() {
        let mut conn = PgConnection::connect_with(&admin()).await.unwrap();
        let superuser: String = query_scalar("SELECT rolname::text FROM pg_roles WHERE rolsuper LIMIT 1")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        let login = Login { user: superuser, password: Secret::new("x"), database: "nowhere".into() };
        let error = provision(&admin(), &login, None, &SALT).await.unwrap_err();
        assert!(matches!(error, LoginError::AboveRowSecurity(_)), "{error}");
    }

    #[test]
    fn a_login_is_read_from_its_url() {
        let login = Login::parse("postgres://us%40er:p%2Bw+x%3F@host:5432/da%20ta?sslmode=require").unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.expose(), login.database.as_str()),
            ("us@er", "p+w+x?", "da ta")
        );
        for incomplete in ["postgres://host/db", "postgres://user@host/db", "postgres://user:pw@host", "nonsense"] {
            assert!(matches!(Login::parse(incomplete), Err(LoginError::Incomplete)), "{incomplete}");
        }
    }
}

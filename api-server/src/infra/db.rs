//! PostgreSQL, one tenant at a time.
//!
//! Every table with tenant data has forced row-level security on `app.tenant_id`, and a connection leaves this file only
//! inside a [`TenantTx`], which has set it. So a query without its tenant does not compile, and one that forgets it in its
//! `WHERE` still sees no other tenant's rows. The setting is local to the transaction: it cannot leak through the pool.

use std::{future::Future, pin::pin, str::FromStr, sync::Arc, time::Duration};

use super::OwnDatabases;
use contract::TenantId;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::gate::Gate;

/// Waiting longer for a connection than this helps nobody: the caller gets a 503 and may come again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that does not answer a greeting within this leads nowhere.
const GREETING: Duration = Duration::from_millis(500);
/// A transaction that takes longer than this beside a provider's call hangs.
const WORK: Duration = Duration::from_secs(10);

/// The migrations that this binary was built with.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: PgPool,
    gate: Arc<Gate>,
    /// Tenants whose data is not in the shared database.
    own: OwnDatabases,
}

/// A transaction that belongs to one tenant. Dropped without [`TenantTx::commit`], it rolls back.
pub struct TenantTx {
    tenant: TenantId,
    tx: Transaction<'static, Postgres>,
    /// What is to follow once it is committed.
    then: Vec<Box<dyn FnOnce() + Send>>,
}

impl Db {
    /// A pool that connects when first asked, so that the process starts (and says on `/readyz` what it waits for) while
    /// the database is away.
    pub fn lazy(options: PgConnectOptions, max_connections: u32) -> Self {
        let (options_of_pool, gate) = pool(max_connections);
        Self { pool: options_of_pool.connect_lazy_with(options), gate, own: OwnDatabases::default() }
    }

    /// Databases of single tenants, for whoever reads the documents.
    pub fn own(&self) -> OwnDatabases {
        self.own.clone()
    }

    /// Begins a transaction for `tenant`, in the database that holds its data.
    pub async fn begin(&self, tenant: TenantId) -> Result<TenantTx, sqlx::Error> {
        // Both statements in one round trip. The text is safe to compose: a UUID prints as hex digits and dashes.
        let begin = format!("BEGIN; SELECT set_config('app.tenant_id', '{}', true)", tenant.as_uuid());
        let tx = match self.own.get(tenant) {
            None => begin_through(&self.gate, &self.pool, begin).await?,
            Some(own) => begin_through(&own.gate, own.migrated().await?, begin).await?,
        };
        Ok(TenantTx { tenant, tx, then: Vec::new() })
    }

    /// Bounds work beside a provider's call, for which the request's own deadline is far away.
    pub async fn within<T, E: From<sqlx::Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut work = pin!(work);
        if let Ok(done) = timeout(WORK, &mut work).await {
            return done;
        }
        self.distrust();
        Err(sqlx::Error::PoolTimedOut.into())
    }

    /// Something took too long: connections that come back are tested before they are used again.
    pub fn distrust(&self) {
        self.gate.trouble();
    }

    /// Whether the database answers and has all of this binary's migrations; the message says what is missing.
    pub async fn check(&self) -> Result<(), DbNotReady> {
        let mut conn = self.gate.pass(self.pool.acquire()).await?;
        let wanted = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        let newest = sqlx::query_scalar("SELECT max(version) FROM public._sqlx_migrations WHERE success");
        let applied: Option<i64> =
            bounded(ACQUIRE_TIMEOUT, newest.fetch_one(&mut *conn)).await.or_else(|error| match error {
                sqlx::Error::Database(e) if e.code().as_deref() == Some(UNDEFINED_TABLE) => Ok(None),
                other => Err(other),
            })?;
        match applied.unwrap_or_default() {
            applied if applied >= wanted => Ok(()),
            applied => Err(DbNotReady::Migrations { applied, wanted }),
        }
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.pool.size()
    }

    /// Whether the role may be served with, asked of the database itself. Once at the start this is worth a connection of
    /// its own: a pool would try again and again, and the reason would be lost.
    pub async fn verify_role(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
        let mut conn = PgConnection::connect_with(options).await?;
        refuse_role_above_row_security(&mut conn).await?;
        conn.close().await
    }

    pub async fn close(&self) {
        self.own.close_all().await;
        self.pool.close().await;
    }
}

impl TenantTx {
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The connection, for the queries of a `repo`.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Does something short once what was written can be seen, and not at all where it never can.
    pub fn after_commit(&mut self, then: impl FnOnce() + Send + 'static) {
        self.then.push(Box::new(then));
    }

    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.tx.commit().await?;
        self.then.into_iter().for_each(|then| then());
        Ok(())
    }
}

/// What every pool has in common, and the gate in front of it.
pub(super) fn pool(max_connections: u32) -> (PgPoolOptions, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let options = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|conn, _| Box::pin(refuse_role_above_row_security(conn)))
        // In place of the pool's own test, which would wait for a silent connection until the caller's time is up.
        .test_before_acquire(false)
        .before_acquire(|conn, _| Box::pin(greet(conn)))
        // The pool waits for ever for what it takes back; while nothing is wrong, one test less.
        .after_release({
            let gate = Arc::clone(&gate);
            move |conn, _| {
                let suspicious = gate.is_suspicious();
                Box::pin(async move { if suspicious { greet(conn).await } else { Ok(true) } })
            }
        });
    (options, gate)
}

async fn begin_through(
    gate: &Gate,
    pool: &PgPool,
    begin: String,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    // Boxed, or every caller's future would be as large as the whole beginning of a connection.
    Box::pin(gate.pass(bounded(ACQUIRE_TIMEOUT + GREETING, pool.begin_with(AssertSqlSafe(begin))))).await
}

const UNDEFINED_TABLE: &str = "42P01";

/// Why the database cannot be served from yet.
#[derive(Debug, thiserror::Error)]
pub enum DbNotReady {
    #[error("PostgreSQL: {0}")]
    Unavailable(#[from] sqlx::Error),
    #[error("PostgreSQL has migration {applied} of {wanted}: run `tenantry-api migrate`")]
    Migrations { applied: i64, wanted: i64 },
}

/// Whether somebody is at the other end. An error closes the connection without a word.
async fn greet(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    bounded(GREETING, conn.ping()).await.map(|()| true)
}

async fn bounded<T>(longest: Duration, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(longest, answer).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Row-level security does not bind a superuser or a role with BYPASSRLS: no connection of such a role may enter the pool.
async fn refuse_role_above_row_security(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let role: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut *conn).await?;
    refuse_if_above_row_security(conn, &role).await
}

pub(super) async fn refuse_if_above_row_security(conn: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    if is_above_row_security(conn, role).await? {
        let error = format!(
            "role {role:?} is a superuser or has BYPASSRLS, so row-level security would not separate tenants: \
             connect as a role with NOSUPERUSER NOBYPASSRLS"
        );
        return Err(sqlx::Error::Configuration(error.into()));
    }
    Ok(())
}

/// Whether row-level security does not bind this role.
pub async fn is_above_row_security(conn: &mut PgConnection, role: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $1")
        .bind(role)
        .fetch_one(conn)
        .await
}

/// Reads a connection URL; without one, the `PG*` variables speak.
pub fn options(url: Option<&str>) -> Result<PgConnectOptions, sqlx::Error> {
    let options = match url {
        Some(url) => PgConnectOptions::from_str(url)?,
        None => PgConnectOptions::new(),
    };
    Ok(options.application_name("tenantry-api"))
}

/// Brings the schema up to this binary. Replicas may call it at once: an advisory lock lets one work.
pub async fn migrate(options: PgConnectOptions) -> Result<(), MigrateError> {
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(30)).connect_with(options).await?;
    MIGRATIONS.run(&pool).await?;
    pool.close().await;
    Ok(())
}

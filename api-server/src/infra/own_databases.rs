//! Databases of single tenants (`isolation.database: Database`), beside the one that the others share.
//!
//! A tenant's pool is made with its document and connects when it is first asked; it is closed when the tenant goes. A
//! tenant that ever had a database of its own is never looked for in the shared one: a request that is still under way
//! when its document goes gets an error, not somebody else's tables.

use std::{collections::HashMap, sync::Arc, time::Duration};

use contract::{Secret, TenantId};
use parking_lot::RwLock;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use super::{db, gate::Gate};

/// Connections of this process to one tenant's database. Few, since there may be many such tenants.
const CONNECTIONS: u32 = 4;
/// A tenant that is not asked for needs no connection.
const IDLE: Duration = Duration::from_mins(5);

/// The pools by tenant. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct OwnDatabases(Arc<RwLock<HashMap<TenantId, Own>>>);

/// One tenant's pool.
#[derive(Clone)]
pub struct Own {
    uri: Secret,
    options: PgConnectOptions,
    pub(super) pool: PgPool,
    pub(super) gate: Arc<Gate>,
    /// The tenant is not served any more.
    gone: bool,
    /// Whether this process has seen to it that the database has the schema.
    migrated: Arc<OnceCell<()>>,
}

impl OwnDatabases {
    /// Where a tenant's data is from now on. A pool whose address did not change goes on.
    pub fn set(&self, tenant: TenantId, uri: &Secret) -> Result<(), sqlx::Error> {
        let mut all = self.0.write();
        if all.get(&tenant).is_some_and(|own| own.uri == *uri && !own.gone) {
            return Ok(());
        }
        let options = db::options(Some(uri.expose()))?;
        let (pool, gate) = db::pool(CONNECTIONS);
        let pool = pool.idle_timeout(IDLE).connect_lazy_with(options.clone());
        let own = Own { uri: uri.clone(), options, pool, gate, gone: false, migrated: Arc::default() };
        if let Some(before) = all.insert(tenant, own) {
            close(before.pool);
        }
        Ok(())
    }

    /// The tenant is gone. What is left of it remembers only that it never was in the shared database.
    pub fn close(&self, tenant: TenantId) {
        if let Some(own) = self.0.write().get_mut(&tenant) {
            own.gone = true;
            close(own.pool.clone());
        }
    }

    pub async fn close_all(&self) {
        let pools: Vec<_> = self.0.read().values().map(|own| own.pool.clone()).collect();
        for pool in pools {
            pool.close().await;
        }
    }

    pub(super) fn get(&self, tenant: TenantId) -> Option<Own> {
        self.0.read().get(&tenant).cloned()
    }
}

impl Own {
    /// The pool, once the database has this binary's schema. Replicas that come at once take turns by an advisory lock; a
    /// try that failed is repeated by the next request.
    pub(super) async fn migrated(&self) -> Result<&PgPool, sqlx::Error> {
        if self.gone {
            return Err(sqlx::Error::PoolClosed);
        }
        let migrate = async || {
            // Migrations may take their time; that nobody is there is told as soon as everywhere else.
            // Boxed, or every caller's future would be as large as the whole beginning of a connection.
            drop(Box::pin(self.gate.pass(self.pool.acquire())).await?);
            db::migrate(self.options.clone()).await.map_err(|error| sqlx::Error::Migrate(error.into()))
        };
        self.migrated.get_or_try_init(migrate).await?;
        Ok(&self.pool)
    }
}

/// Sessions in use end with their requests; nobody waits for them here.
fn close(pool: PgPool) {
    tokio::spawn(async move { pool.close().await });
}

#[cfg(test)]
pub(super) mod tests {
    use sqlx::query_scalar;

    use super::*;
    use crate::{
        infra::Db,
        jobs::login::{self, Login},
        testing::{TestApp, database_url},
    };

    /// A database of its own, as the operator's Job makes it.
    pub(crate) async fn provisioned() -> (Login, Secret) {
        let mut url = url::Url::parse(&database_url()).unwrap();
        let name = format!("own_{}", uuid::Uuid::now_v7().simple());
        url.set_username(&name).unwrap();
        url.set_password(Some("own")).unwrap();
        url.set_path(&name);
        let login = Login::parse(url.as_str()).unwrap();
        let admin = db::options(Some(&database_url())).unwrap();
        login::provision(&admin, &login, None, &rand::random()).await.unwrap();
        (login, Secret::new(url.as_str()))
    }

    /// A tenant whose data is at this address.
    pub(crate) fn apart(app: &TestApp, name: &str, uri: &Secret) -> contract::TenantConfig {
        let tenant = app.tenant(name);
        let sealed = app.key.seal(tenant.id, contract::tenant::OwnDatabase::SEAL_FIELD, uri).unwrap();
        contract::TenantConfig { database: Some(contract::tenant::OwnDatabase { uri: sealed }), ..tenant }
    }

    async fn users(db: &Db, tenant: TenantId) -> Result<i64, sqlx::Error> {
        let mut tx = db.begin(tenant).await?;
        query_scalar("SELECT count(*) FROM auth.users").fetch_one(tx.conn()).await
    }

    #[tokio::test]
    async fn a_tenant_is_served_from_its_own_database_and_from_nowhere_else() {
        let app = TestApp::new().await;
        let (login, uri) = provisioned().await;
        let acme = TenantId::derive("test", "acme");
        app.register("ada@acme.test").await;
        assert_eq!(users(&app.app.db, acme).await.unwrap(), 1);

        let own = apart(&app, "acme", &uri);
        app.serve(&own);
        // Migrated on the way, and empty: the user is in the shared one.
        assert_eq!(users(&app.app.db, acme).await.unwrap(), 0);
        app.register("ada@acme.test").await;
        assert_eq!(users(&app.app.db, acme).await.unwrap(), 1);
        let database: String = {
            let mut tx = app.app.db.begin(acme).await.unwrap();
            query_scalar("SELECT current_database()::text").fetch_one(tx.conn()).await.unwrap()
        };
        assert_eq!(database, login.database);

        app.app.tenants.remove("acme");
        let error = users(&app.app.db, acme).await.unwrap_err();
        assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
        // The same Tenant again finds its data.
        app.serve(&own);
        assert_eq!(users(&app.app.db, acme).await.unwrap(), 1);
        app.app.db.close().await;
        login::drop(&db::options(Some(&database_url())).unwrap(), &login.user, &login.database).await.unwrap();
    }

    #[tokio::test]
    async fn a_document_whose_database_has_no_address_is_refused() {
        let app = TestApp::new().await;
        let acme = TenantId::derive("test", "acme");
        let own = apart(&app, "acme", &Secret::new("nonsense"));
        let text = contract::codec::encode(&own).unwrap().text;
        assert!(!app.app.tenants.apply(&crate::tenancy::Found { tenant: "acme".into(), revision: None, text }));
        let report = app.app.tenants.report("acme").unwrap();
        assert!(report.rejected.unwrap().error.contains("the address of the tenant's database"), "refused");
        assert_eq!(users(&app.app.db, acme).await.unwrap(), 0, "the shared one goes on");
    }
}

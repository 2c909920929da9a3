use contract::TenantId;
use sqlx::{Connection, PgConnection, Row, query, query_scalar};

use super::{Db, db};
use crate::testing::{TestApp, database_url};

#[tokio::test]
async fn every_table_with_tenant_data_is_bound_to_its_tenant() {
    let app = TestApp::new().await;
    let mut tx = app.app.db.begin(TenantId::derive("test", "acme")).await.unwrap();
    let tables = query(
        "SELECT c.oid::regclass::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
                EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND a.attnotnull) AS has_tenant,
                (SELECT count(*) FROM pg_policies p WHERE p.schemaname = n.nspname AND p.tablename = c.relname
                    AND p.cmd = 'ALL' AND p.permissive = 'PERMISSIVE' AND p.qual LIKE '%current_tenant%' AND p.with_check LIKE '%current_tenant%') = 1
                AND (SELECT count(*) FROM pg_policies p WHERE p.schemaname = n.nspname AND p.tablename = c.relname) = 1 AS has_policy,
                NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = c.oid AND a.attname <> 'tenant_id') AS indexed_by_tenant
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
           AND c.relname <> '_sqlx_migrations'",
    )
    .fetch_all(tx.conn())
    .await
    .unwrap();
    assert!(tables.len() >= 4);
    for table in tables {
        for what in ["has_tenant", "forced", "has_policy", "indexed_by_tenant"] {
            assert!(table.get::<bool, _>(what), "{}: {what}", table.get::<String, _>("name"));
        }
    }
}

#[tokio::test]
async fn a_query_that_forgets_its_tenant_sees_no_others_and_writes_for_no_others() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    let mut acme = app.app.db.begin(TenantId::derive("test", "acme")).await.unwrap();
    let all = "SELECT count(*) FROM auth.users";
    assert_eq!(query_scalar::<_, i64>(all).fetch_one(acme.conn()).await.unwrap(), 1);
    acme.commit().await.unwrap();
    let mut other = app.app.db.begin(TenantId::derive("test", "beta")).await.unwrap();
    assert_eq!(query_scalar::<_, i64>(all).fetch_one(other.conn()).await.unwrap(), 0);
    let foreign = query(
        "INSERT INTO auth.users (tenant_id, id, email, name, created_at, updated_at) VALUES ($1, $1, 'a@b', 'a', now(), now())",
    );
    let refused = foreign.bind(TenantId::derive("test", "acme").as_uuid()).execute(other.conn()).await.unwrap_err();
    assert!(refused.to_string().contains("row-level security"), "{refused}");
    // The setting is local to its transaction: nothing of it is left on the connection.
    drop(other);
    let mut none = app.app.db.begin(TenantId::derive("test", "beta")).await.unwrap();
    query("SELECT set_config('app.tenant_id', '', true)").execute(none.conn()).await.unwrap();
    assert_eq!(query_scalar::<_, i64>(all).fetch_one(none.conn()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_role_above_row_security_is_not_served_with() {
    let options = db::options(Some(&database_url())).unwrap();
    Db::verify_role(&options).await.unwrap();
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    let superuser: String =
        query_scalar("SELECT rolname::text FROM pg_roles WHERE rolsuper LIMIT 1").fetch_one(&mut conn).await.unwrap();
    let error = db::refuse_if_above_row_security(&mut conn, &superuser).await.unwrap_err().to_string();
    assert!(error.contains("superuser or has BYPASSRLS") && error.contains("NOBYPASSRLS"), "{error}");
}

#[tokio::test]
async fn a_database_without_the_newest_migration_is_not_ready() {
    let db = Db::lazy(db::options(Some(&database_url())).unwrap(), 1);
    let error = db.check().await.unwrap_err().to_string();
    assert!(error.contains("run `tenantry-api migrate`"), "{error}");
}

//! Deletes all of a tenant's data, as `deletionPolicy: Delete` asks. Which tables hold it is read from the catalog, so that
//! a table that is added later is not forgotten: whatever has a `tenant_id` is under row-level security, and a
//! `DELETE` without a condition reaches this tenant's rows alone.

use std::collections::{BTreeMap, BTreeSet};

use contract::TenantId;
use sqlx::{AssertSqlSafe, PgConnection, query, query_as};

use crate::infra::Db;

/// Why the data is still there.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the table {0} has tenant data and no forced row-level security: run `tenantry-api migrate`")]
    Unbound(String),
    #[error("the tables {0} refer to each other in a circle: none can be emptied first")]
    Circle(String),
}

/// Deletes every row of the tenant, all or none; says how many there were. A second run finds none.
pub async fn purge(db: &Db, tenant: TenantId) -> Result<u64, PurgeError> {
    let mut tx = db.begin(tenant).await?;
    let mut rows = 0;
    for table in tables(tx.conn()).await? {
        // The name is the catalog's own spelling, quoted where it must be.
        let done = query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(tx.conn()).await?;
        rows += done.rows_affected();
        tracing::info!(table, rows = done.rows_affected(), "deleted");
    }
    tx.commit().await?;
    Ok(rows)
}

/// The tables with tenant data, each before those that it refers to.
async fn tables(conn: &mut PgConnection) -> Result<Vec<String>, PurgeError> {
    let found: Vec<(String, bool)> = query_as(
        "SELECT c.oid::regclass::text, c.relrowsecurity AND c.relforcerowsecurity
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)",
    )
    .fetch_all(&mut *conn)
    .await?;
    if let Some((unbound, _)) = found.iter().find(|(_, forced)| !forced) {
        return Err(PurgeError::Unbound(unbound.clone()));
    }
    let references: Vec<(String, String)> = query_as(
        "SELECT DISTINCT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
         WHERE contype = 'f' AND conrelid <> confrelid",
    )
    .fetch_all(conn)
    .await?;
    order(found.into_iter().map(|(table, _)| table).collect(), &references)
}

/// Orders tables so that each comes before those that it refers to.
fn order(mut left: BTreeSet<String>, references: &[(String, String)]) -> Result<Vec<String>, PurgeError> {
    let mut referrers = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, to) in references {
        referrers.entry(to).or_default().insert(from);
    }
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let referred =
            |table: &str| referrers.get(table).is_some_and(|from| from.iter().any(|from| left.contains(*from)));
        let free: Vec<_> = left.iter().filter(|table| !referred(table)).cloned().collect();
        if free.is_empty() {
            return Err(PurgeError::Circle(left.into_iter().collect::<Vec<_>>().join(", ")));
        }
        left.retain(|table| !free.contains(table));
        ordered.extend(free);
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use sqlx::query_scalar;

    use super::*;
    use crate::testing::TestApp;

    #[test]
    fn a_table_is_emptied_before_those_that_it_refers_to() {
        let table = |name: &str| name.to_owned();
        let references = [(table("tokens"), table("sessions")), (table("sessions"), table("users"))];
        let all = ["users", "sessions", "tokens", "audit"].map(table);
        assert_eq!(order(all.clone().into(), &references).unwrap(), ["audit", "tokens", "sessions", "users"]);
        let circle = [(table("users"), table("tokens")), (table("tokens"), table("users"))];
        assert!(order(all.into(), &circle).unwrap_err().to_string().contains("tokens, users"));
    }

    #[tokio::test]
    async fn all_of_a_tenants_rows_go_and_nobody_elses() {
        let app = TestApp::new().await;
        app.register("ada@acme.test").await;
        let (acme, other) = (TenantId::derive("test", "acme"), TenantId::derive("test", "beta"));
        let mut tx = app.app.db.begin(other).await.unwrap();
        let user = "INSERT INTO auth.users (tenant_id, id, email, name, created_at, updated_at) VALUES ($1, $1, 'b@b', 'b', now(), now())";
        query(user).bind(other.as_uuid()).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();

        // The user, and at least the session and the audit entry of the registration.
        assert!(purge(&app.app.db, acme).await.unwrap() >= 2);
        assert_eq!(purge(&app.app.db, acme).await.unwrap(), 0);
        let mut tx = app.app.db.begin(other).await.unwrap();
        let left: i64 = query_scalar("SELECT count(*) FROM auth.users").fetch_one(tx.conn()).await.unwrap();
        assert_eq!(left, 1);
    }
}

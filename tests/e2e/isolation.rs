//! Two tenants on the same replicas, in the same tables, who never see each other.

use anyhow::{Result, ensure};
use harness::Platform;
use http::StatusCode;
use serde_json::json;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn two_tenants_cannot_see_each_other() -> Result<()> {
    Platform::run(async |platform| {
        let (acme, globex) = (platform.tenant("acme").await?, platform.tenant("globex").await?);
        let alice = acme.user("alice");
        alice.registers().await?;
        let payment = alice.pays(10, "EUR").await?;
        let id = payment["id"].as_str().unwrap_or_default();

        // The same address is another person there, and the other's password does not open it.
        let other_alice = globex.user("other").with_email(&alice.email);
        other_alice.registers().await?;
        other_alice.tries_to_log_in(&alice.password).await?.expect(StatusCode::UNAUTHORIZED)?;

        // Tokens count at home only.
        let stranger = alice.at(&globex).me().await?.expect(StatusCode::UNAUTHORIZED)?;
        ensure!(stranger.header("www-authenticate").contains("invalid_token"), "{:?}", stranger.headers);
        let refresh = json!({"refreshToken": alice.tokens().refresh});
        globex.post("/auth/refresh", &refresh).await?.expect(StatusCode::UNAUTHORIZED)?;

        // Ids: not yours and not there are one answer.
        let foreign = other_alice.get(&format!("/payments/{id}")).await?.expect(StatusCode::NOT_FOUND)?;
        let absent =
            other_alice.get("/payments/0190aaaa-0000-7000-8000-000000000000").await?.expect(StatusCode::NOT_FOUND)?;
        ensure!(foreign.body["error"] == absent.body["error"], "{foreign} {absent}");
        other_alice.delete(&format!("/payments/{id}")).await?.expect(StatusCode::NOT_FOUND)?;
        let list = other_alice.get("/payments").await?.expect(StatusCode::OK)?;
        ensure!(list.data() == &json!([]), "{list}");
        alice.payment(id).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn one_tenants_limit_is_not_anothers() -> Result<()> {
    Platform::run(async |platform| {
        let (acme, globex) = (platform.tenant("acme").await?, platform.tenant("globex").await?);
        let kubectl = platform.kubectl()?;
        kubectl
            .apply(
                "apiVersion: tenantry.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: everyone}
spec:
  targetRef: {kind: Platform, name: main}
  limits:
    all: {counters: [Tenant], rates: [{limit: 3, window: 1h}], algorithm: FixedWindow}
",
            )
            .await?;
        platform.objects.until("ratelimitpolicy/everyone", "Ready", "True").await?;
        for expected in [StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED] {
            acme.get("/auth/me").await?.expect(expected)?;
        }
        acme.get("/auth/me").await?.expect(StatusCode::TOO_MANY_REQUESTS)?;
        globex.get("/auth/me").await?.expect(StatusCode::UNAUTHORIZED)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_connection_without_a_tenant_sees_no_rows() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        acme.user("alice").registers().await?;
        let mut connection = PgConnection::connect(platform.database.as_str()).await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%I.%I', table_schema, table_name) from information_schema.columns
              where column_name = 'tenant_id' and table_schema not in ('pg_catalog', 'information_schema')",
        )
        .fetch_all(&mut connection)
        .await?;
        ensure!(tables.len() >= 3, "{tables:?}");
        for table in tables {
            let count = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
            let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
            ensure!(rows == 0, "{table} shows {rows} rows to nobody in particular");
        }
        Ok(())
    })
    .await
}

//! What a Platform stands on: a tenant's own database, and backups that were restored.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    Platform, Tenant,
    binaries::repository,
    objects::secret,
    platform::Options,
    postgres::{self, Durability, Postgres},
    wait,
    workdir::Workdir,
};
use http::StatusCode;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::{process::Command, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

/// The pods of our own StatefulSets, run by the local node.
#[tokio::test]
async fn passwords_of_managed_stores_change_and_no_request_is_lost() -> Result<()> {
    let world = Platform::bare(Options::default()).await?;
    let done = rotated_under_load(&world).await;
    let done = match done {
        Ok(()) => Ok(()),
        Err(error) => Err(world.explain(error).await),
    };
    world.stop().await?;
    done
}

async fn rotated_under_load(world: &Platform) -> Result<()> {
    let mut platform = world.manifest(2);
    let backup = json!({"schedule": "0 3 * * *"});
    platform["spec"]["postgres"] = json!({"managed": {"storage": {"size": "1Gi"}, "backup": backup}});
    platform["spec"]["redis"] = json!({"managed": {}});
    world.objects.apply(&platform).await?;
    let ready = world.objects.until("platform/main", "Ready", "True").await?;
    ensure!(ready.to_string().contains("one instance in StatefulSet main-postgres, without failover"), "{ready}");
    let acme = world.tenant("acme").await?;
    let alice = acme.user("alice");
    alice.registers().await?;
    let before = login(world).await?;

    let stop = CancellationToken::new();
    let load = tokio::spawn({
        let (stop, alice) = (stop.clone(), alice.clone());
        async move {
            let (mut asked, mut failed) = (0_u32, Vec::new());
            while !stop.is_cancelled() {
                asked += 1;
                match alice.me().await {
                    Ok(answer) if answer.status == StatusCode::OK => {}
                    Ok(answer) => failed.push(answer.to_string()),
                    Err(error) => failed.push(format!("{error:#}")),
                }
            }
            (asked, failed)
        }
    });
    let kubectl = world.kubectl()?;
    let said = kubectl.run("tenantry rotate credentials --timeout 3m").await?;
    ensure!(said.contains("platform/main") && said.contains("the former ones are refused"), "{said}");
    let status = world.objects.get("platform/main").await?["status"]["credentials"].take();
    ensure!(status["rotated"].is_string() && status["rotating"].is_null(), "{status}");
    world.objects.until("platform/main", "Ready", "True").await?;
    stop.cancel();
    let (asked, failed) = load.await?;
    eprintln!("passwords replaced: {} of {asked} requests failed", failed.len());
    ensure!(asked > 0 && failed.is_empty(), "{} of {asked} requests failed, first {:?}", failed.len(), failed.first());
    let after = login(world).await?;
    ensure!(before.0 == "tenantry_a" && after.0 == "tenantry_b" && before.1 != after.1, "another login is used");
    alice.logs_in().await?;

    // A backup out of turn, by the CronJob's own template.
    kubectl.run("create job --from=cronjob/main-postgres-backup backup-now").await?;
    kubectl.run("wait --for=condition=Complete job/backup-now --timeout=60s").await?;
    own_database(world).await?;
    less_and_more(world).await
}

/// A tenant with a database of its own on the PostgreSQL that we run.
async fn own_database(world: &Platform) -> Result<()> {
    let hostname = format!("own.{}.localhost", world.namespace);
    let own = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "own"},
        "spec": {"hostnames": [hostname], "isolation": {"database": "Database"}, "deletionPolicy": "Delete"},
    });
    world.objects.apply(&own).await?;
    let ready = world.objects.until("tenant/own", "Ready", "True").await?;
    ensure!(ready["status"]["database"]["mode"] == "Database", "{}", ready["status"]);
    let tenant = Tenant::at(world.ingress.address, "own", &hostname)?;
    tenant.is_routed().await?;
    let bob = tenant.user("bob");
    bob.registers().await?;
    bob.me().await?.expect(StatusCode::OK)?;
    world.kubectl()?.run("delete tenant own --wait=true").await?;
    Ok(())
}

/// What is taken back goes, but no data; what cannot be changed in place is made anew.
async fn less_and_more(world: &Platform) -> Result<()> {
    let kubectl = world.kubectl()?;
    let before = kubectl.value("statefulset/main-redis", "{.metadata.uid}").await?;
    let spec = json!({"postgres": {"managed": {"backup": null}}, "redis": {"managed": {"storage": {"size": "1Gi"}}}});
    world.objects.merge("platform/main", &json!({"spec": spec})).await?;
    wait::until("the CronJob to go", async || {
        let found = kubectl.attempt(&["get", "cronjob/main-postgres-backup", "-o", "name"], "").await?;
        Ok((!found.success && found.stderr.contains("NotFound")).then_some(()))
    })
    .await?;
    wait::until("another StatefulSet, with a volume", async || {
        let path = "jsonpath={.metadata.uid} {.spec.volumeClaimTemplates[0].spec.resources.requests.storage} {.status.readyReplicas}";
        let found = kubectl.attempt(&["get", "statefulset/main-redis", "-o", path], "").await?;
        Ok((found.success && found.stdout.ends_with(" 1Gi 1") && !found.stdout.starts_with(&before)).then_some(()))
    })
    .await?;
    let volumes = kubectl.run("get persistentvolumeclaims -o name").await?;
    for volume in ["data-main-postgres-0", "main-postgres-backup", "data-main-redis-0"] {
        ensure!(volumes.contains(&format!("/{volume}\n")), "no {volume} in {volumes}");
    }
    world.objects.until("platform/main", "Ready", "True").await?;
    Ok(())
}

async fn login(world: &Platform) -> Result<(String, String)> {
    let kubectl = world.kubectl()?;
    let username = kubectl.value("secret/main-postgres-app", "{.data.username}").await?;
    let password = kubectl.value("secret/main-postgres-app", "{.data.password}").await?;
    Ok((decoded(&username)?, decoded(&password)?))
}

#[tokio::test]
async fn a_tenant_gets_a_database_of_its_own_and_loses_it_when_asked() -> Result<()> {
    Platform::run(async |platform| {
        let admin = platform.database.to_string();
        let uris = secret("main-postgres", &[("uri", platform.database.as_str()), ("adminUri", &admin)]);
        platform.objects.apply(&uris).await?;
        let hostname = format!("own.{}.localhost", platform.namespace);
        let own = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "own"},
            "spec": {"hostnames": [hostname], "isolation": {"database": "Database"}, "deletionPolicy": "Delete"},
        });
        platform.objects.apply(&own).await?;
        let shared = platform.tenant("shared").await?;
        let ready = platform.objects.until("tenant/own", "Ready", "True").await?;
        let name = ready["status"]["database"]["name"].as_str().context("the status names the database")?.to_owned();
        ensure!(ready["status"]["database"]["mode"] == "Database", "{}", ready["status"]);

        let tenant = Tenant::at(platform.ingress.address, "own", &hostname)?;
        tenant.is_routed().await?;
        for user in [tenant.user("alice"), shared.user("bob")] {
            user.registers().await?;
            user.me().await?.expect(StatusCode::OK)?;
        }
        let kubectl = platform.kubectl()?;
        let uri = decoded(&kubectl.value("secret/own-db", "{.data.uri}").await?)?;
        ensure!(emails(&uri, "own", &platform.namespace).await? == ["alice@own.example"], "in its own database");
        ensure!(emails(platform.database.as_str(), "own", &platform.namespace).await?.is_empty(), "and in no other");
        let document = kubectl.value("configmap/own-tenant-config", "{.data}").await?;
        ensure!(document.contains("database") && !document.contains(&password(&uri)?), "sealed: {document}");

        kubectl.run("delete tenant own --wait=true").await?;
        let mut server = PgConnection::connect(platform.database.as_str()).await?;
        let left: bool = sqlx::query_scalar(
            "select exists (select from pg_database where datname = $1) or exists (select from pg_roles where rolname = $1)",
        )
        .bind(&name)
        .fetch_one(&mut server)
        .await?;
        ensure!(!left, "database and role {name} are gone");
        Ok(())
    })
    .await
}

fn decoded(value: &str) -> Result<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    Ok(String::from_utf8(BASE64_STANDARD.decode(value)?)?)
}

fn password(uri: &str) -> Result<String> {
    Ok(Url::parse(uri)?.password().context("a password")?.to_owned())
}

async fn emails(uri: &str, tenant: &str, namespace: &str) -> Result<Vec<String>> {
    let mut conn = PgConnection::connect(uri).await?;
    let id = contract::TenantId::derive(namespace, tenant).to_string();
    sqlx::query("select set_config('app.tenant_id', $1, false)").bind(id).execute(&mut conn).await?;
    Ok(sqlx::query_scalar("select email from auth.users").fetch_all(&mut conn).await?)
}

/// The CronJob's very script, and the very commands of the documentation, on a server of the test's own.
#[tokio::test]
async fn a_backup_brings_everything_back() -> Result<()> {
    let folder = Workdir::temporary()?;
    let mut server = Postgres::start(&folder.join("postgres"), Durability::None).await?;
    let url = server.database("tenantry").await?;
    let rows = "create table rows (tenant int, text text); alter table rows enable row level security;
        alter table rows force row level security; create policy own on rows using (tenant = current_setting('app.tenant', true)::int);
        set app.tenant = 1; insert into rows values (1, 'kept')";
    let mut conn = PgConnection::connect(url.as_str()).await?;
    sqlx::raw_sql(rows).execute(&mut conn).await?;
    conn.close().await?;

    let managed = repository().join("operator");
    let script = fs::read_to_string(managed.join("src/platform/managed/build/backup.sh"))?;
    let backups = folder.join("backups");
    fs::create_dir(&backups)?;
    let superuser = fs::read_to_string(folder.join("postgres/superuser.password"))?;
    let run = async |script: &str| shell(script, &url, superuser.trim(), &backups).await;
    run(&script).await?;
    server.drop_database("tenantry").await?;

    let manual = fs::read_to_string(managed.join("MANAGED.md"))?;
    let (_, rest) = manual.split_once("<!-- restore, run by a test -->").context("the manual has the commands")?;
    let (commands, _) = rest.split_once("<!-- /restore -->").context("and their end")?;
    run(&commands.replace("```bash", "").replace("```", "")).await?;

    let mut conn = PgConnection::connect(url.as_str()).await?;
    sqlx::query("set app.tenant = 1").execute(&mut conn).await?;
    let kept: Vec<String> = sqlx::query_scalar("select text from rows").fetch_all(&mut conn).await?;
    ensure!(kept == ["kept"], "{kept:?}");
    sqlx::query("set app.tenant = 2").execute(&mut conn).await?;
    let others: Vec<String> = sqlx::query_scalar("select text from rows").fetch_all(&mut conn).await?;
    ensure!(others.is_empty(), "row-level security came back as well: {others:?}");
    conn.close().await?;
    server.stop().await
}

async fn shell(script: &str, url: &Url, superuser: &str, backups: &Path) -> Result<()> {
    let tools = postgres::folder_of_programs().context("PostgreSQL's programs")?;
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let run = Command::new("sh")
        .args(["-c", script])
        .env("PATH", path)
        .env("PGHOST", url.host_str().unwrap_or_default())
        .env("PGPORT", url.port().unwrap_or(5432).to_string())
        .envs([("PGUSER", "postgres"), ("PGPASSWORD", superuser), ("PGDATABASE", "postgres"), ("RETENTION_DAYS", "30")])
        .env("BACKUP_DIR", backups)
        .output();
    let output = timeout(Duration::from_mins(1), run).await.context("the script hangs")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(())
}

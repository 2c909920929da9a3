//! Parts die, in the middle of things; what was promised still holds.

use anyhow::{Context, Result, ensure};
use harness::{
    Platform,
    objects::secret,
    platform::Options,
    postgres::{Durability, Postgres},
    wait,
    workdir::Workdir,
};
use http::StatusCode;
use serde_json::json;

fn tenant(name: &str, display: &str) -> serde_json::Value {
    json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
        "spec": {"displayName": display, "hostnames": [format!("{name}.outage.localhost")]}})
}

#[tokio::test]
async fn a_killed_operator_is_followed_by_one_that_finishes_the_work() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        for name in ["one", "two", "three", "four", "five", "six"] {
            platform.objects.apply(&tenant(name, "before the crash")).await?;
        }
        platform.kill_operators().await?;
        platform.objects.apply(&tenant("one", "after the crash")).await?;
        alice.me().await?.expect(StatusCode::OK)?;

        platform.add_operator().await?;
        for name in ["one", "two", "three", "four", "five", "six"] {
            platform.objects.until(&format!("tenant/{name}"), "Programmed", "True").await?;
        }
        let document = platform.kubectl()?.value("configmap/one-tenant-config", "{.data.tenant\\.json}").await?;
        ensure!(document.contains("after the crash"), "{document}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_two_operators_one_leads_and_the_other_takes_over() -> Result<()> {
    Platform::run(async |platform| {
        platform.add_operator().await?;
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        let holder = async || kubectl.run("get leases -o jsonpath={.items[*].spec.holderIdentity}").await;
        let first = holder().await?;
        ensure!(first.split_whitespace().count() == 1, "one leader: {first}");

        // The first one started leads.
        platform.operators.remove(0).kill().await?;
        wait::until_value("another holder of the Lease", holder, |now| *now != first && !now.is_empty()).await?;
        kubectl.patch("tenant/acme", r#"{"spec":{"displayName":"by the second"}}"#).await?;
        platform.objects.until("tenant/acme", "Programmed", "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_api_serves_and_restarts_with_the_control_plane_down() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        platform.control_plane.halt().await?;
        alice.me().await?.expect(StatusCode::OK)?;

        // The containers start again in their pods, and have the folder of last good documents to start from.
        ensure!(platform.kill_pods()? == 2);
        wait::until("a restarted replica to answer", async || {
            let answer = alice.me().await?;
            Ok((answer.status == StatusCode::OK).then_some(()))
        })
        .await?;
        alice.logs_in().await?;

        platform.control_plane.restart().await?;
        platform.kubectl()?.patch("tenant/acme", r#"{"spec":{"displayName":"after the outage"}}"#).await?;
        platform.objects.until("tenant/acme", "Programmed", "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_redis_people_sign_in_and_pay_and_are_still_counted() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let policy = json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": "RateLimitPolicy", "metadata": {"name": "few"},
            "spec": {"targetRef": {"kind": "Tenant", "name": "acme"}, "limits": {"lists": {
                "match": {"methods": ["GET"], "paths": [{"type": "Exact", "value": "/payments"}]},
                "counters": ["Tenant"], "rates": [{"limit": 2, "window": "1h"}], "failureMode": "Local"}}}});
        platform.objects.apply(&policy).await?;
        platform.objects.until("ratelimitpolicy/few", "Ready", "True").await?;

        platform.redis.stop().await?;
        alice.me().await?.expect(StatusCode::OK)?;
        alice.logs_in().await?;
        alice.pays(10, "EUR").await?;
        // Each of the two replicas counts alone, so at most twice the limit passes.
        let mut passed = 0;
        while alice.get("/payments").await?.status == StatusCode::OK {
            passed += 1;
            ensure!(passed <= 4, "a limit that counts locally still limits");
        }
        ensure!(passed >= 2, "and lets through what it allows: {passed}");
        alice.get("/payments").await?.expect(StatusCode::TOO_MANY_REQUESTS)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn postgresql_goes_and_comes_back_and_nothing_is_restarted() -> Result<()> {
    // Its own: a shared one is not ours to stop.
    let folder = Workdir::temporary()?;
    let mut postgres = Postgres::start(&folder.join("postgres"), Durability::None).await?;
    let database = postgres.database("lost").await?;
    let platform = Platform::bare(Options::default()).await?;
    platform.objects.apply(&secret("main-postgres", &[("uri", database.as_str())])).await?;
    platform.objects.apply(&platform.manifest(2)).await?;
    let told = async {
        platform.objects.until("platform/main", "Ready", "True").await?;
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        alice.pays(10, "EUR").await?;

        postgres.stop().await?;
        for _ in 0..10 {
            let answer = alice.get("/payments").await?.expect(StatusCode::SERVICE_UNAVAILABLE)?;
            ensure!(answer.code() == "SERVICE_UNAVAILABLE" && !answer.header("retry-after").is_empty());
        }
        alice.tries_to_log_in("whatever").await?.expect(StatusCode::SERVICE_UNAVAILABLE)?;
        // Nobody would be helped by pods that leave their Service all at once.
        let ready =
            "get pods -l app.kubernetes.io/name=tenantry-api -o jsonpath={.items[*].status.containerStatuses[*].ready}";
        ensure!(platform.kubectl()?.run(ready).await? == "true true");

        let port = database.port().context("a private server has a port")?;
        postgres = Postgres::start_at(&folder.join("postgres"), Durability::None, port).await?;
        wait::until("payments to be listed again", async || {
            let answer = alice.get("/payments").await?;
            Ok((answer.status == StatusCode::OK).then_some(()))
        })
        .await?;
        alice.logs_in().await?;
        alice.pays(10, "EUR").await?;
        let restarts = "get pods -l app.kubernetes.io/name=tenantry-api -o jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        ensure!(platform.kubectl()?.run(restarts).await? == "0 0");
        anyhow::Ok(())
    };
    if let Err(error) = told.await {
        return Err(platform.explain(error).await);
    }
    platform.stop().await?;
    postgres.stop().await
}

#[tokio::test]
async fn what_somebody_edits_by_hand_is_put_right() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        let good = kubectl.value("configmap/acme-tenant-config", "{.data.tenant\\.json}").await?;
        let same = async || {
            kubectl
                .value("configmap/acme-tenant-config", "{.data.tenant\\.json}")
                .await
                .map_or(Ok(None), |now| Ok((now == good).then_some(())))
        };

        kubectl.patch("configmap/acme-tenant-config", r#"{"data":{"tenant.json":"{}"}}"#).await?;
        wait::until("the edit to be undone", same).await?;
        kubectl.run("delete configmap acme-tenant-config").await?;
        wait::until("the document to be written again", same).await?;
        kubectl.run("delete service main-api").await?;
        wait::until("the Service to be made again", async || Ok(kubectl.run("get service main-api").await.ok()))
            .await?;
        wait::until("the ingress to reach it", async || Ok(acme.user("alice").registers().await.ok())).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_tenant_is_unknown_and_finds_its_data_when_it_returns() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let kubectl = platform.kubectl()?;
        kubectl.run("delete tenant acme --timeout=60s").await?;
        wait::until("the tenant to be unknown", async || {
            let answer = alice.me().await?;
            Ok((answer.status == StatusCode::NOT_FOUND).then_some(answer))
        })
        .await?;
        ensure!(!kubectl.attempt(&["get", "configmap", "acme-tenant-config"], "").await?.success);

        let acme = platform.tenant("acme").await?;
        acme.user("alice").logs_in().await?;
        Ok(())
    })
    .await
}

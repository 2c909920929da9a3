//! Pods go, in every way in which pods go, and nobody notices: no request fails, neither reads, which a proxy may try again
//! elsewhere, nor writes, which it may not.

use std::env;

use anyhow::{Context, Result, ensure};
use harness::{Load, Platform, wait};
use serde_json::json;

/// Rolling restarts in a row; `TENANTRY_TEST_RESTARTS=100` takes some minutes.
const RESTARTS: &str = "TENANTRY_TEST_RESTARTS";
const REQUESTS_A_SECOND: u32 = 40;

fn restarts() -> Result<u32> {
    env::var(RESTARTS).map_or(Ok(3), |number| number.parse().with_context(|| format!("{RESTARTS} is no number")))
}

/// The Deployment whose pods serve.
async fn deployment(platform: &Platform) -> Result<String> {
    let names = platform.kubectl()?.run("get deployments -l tenantry.dev/platform=main -o name").await?;
    names.lines().next().map(str::to_owned).context("there is no Deployment")
}

#[tokio::test]
async fn rolling_restarts_lose_no_request() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let (kubectl, deployment) = (platform.kubectl()?, deployment(platform).await?);
        let load = Load::of(alice, REQUESTS_A_SECOND);
        for round in 1..=restarts()? {
            kubectl.run(&format!("rollout restart {deployment}")).await?;
            kubectl.run(&format!("rollout status {deployment} --timeout=120s")).await?;
            let report = load.report();
            ensure!(report.failures() == 0, "in restart {round}: {report}");
        }
        let report = load.stop().await;
        eprintln!("{} rolling restarts: {report}", restarts()?);
        report.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn pods_that_are_deleted_or_scaled_away_lose_no_request() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let kubectl = platform.kubectl()?;
        let ready = async |wanted: usize| {
            wait::until("the pods to be ready", async || {
                let ready = kubectl
                    .run("get pods -l app.kubernetes.io/name=tenantry-api -o jsonpath={.items[*].status.containerStatuses[*].ready}")
                    .await?;
                Ok((ready.split_whitespace().filter(|word| *word == "true").count() == wanted).then_some(()))
            })
            .await
        };
        let load = Load::of(alice, REQUESTS_A_SECOND);
        let pods = kubectl.run("get pods -l app.kubernetes.io/name=tenantry-api -o name").await?;
        for pod in pods.lines() {
            kubectl.run(&format!("delete {pod} --wait=true")).await?;
            ready(2).await?;
        }
        // Through the scale of the Platform, as an autoscaler does.
        for replicas in [4, 1, 2] {
            kubectl.run(&format!("scale platform/main --replicas={replicas}")).await?;
            ready(replicas).await?;
        }
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn a_long_drain_is_waited_for() -> Result<()> {
    Platform::run(async |platform| {
        platform.objects.merge("platform/main", &json!({"spec": {"api": {"drainSeconds": 7}}})).await?;
        let deployment = deployment(platform).await?;
        let kubectl = platform.kubectl()?;
        wait::until_value(
            "the pods' time to stop",
            async || kubectl.value(&deployment, "{.spec.template.spec.terminationGracePeriodSeconds}").await,
            |seconds| seconds == "82",
        )
        .await?;
        Ok(())
    })
    .await
}

//! A delivery pipeline: `kubectl apply`, `kubectl wait`, and then it is so. No sleep, and no verdict about what was before.

use anyhow::{Result, ensure};
use harness::{Kubectl, Platform, Tenant, kubectl::Output};
use http::StatusCode;
use serde_json::json;

const TENANT: &str = "tenants.tenantry.dev/acme";

async fn waited(kubectl: &Kubectl, words: &str, seconds: u32) -> Result<Output> {
    let line = format!("wait {words} --timeout={seconds}s");
    let words: Vec<_> = line.split(' ').collect();
    kubectl.attempt(&words, "").await
}

async fn waits(kubectl: &Kubectl, words: &str) -> Result<()> {
    let output = waited(kubectl, words, 60).await?;
    ensure!(output.success && output.stdout.contains("condition met"), "wait {words}: {output:?}");
    Ok(())
}

#[tokio::test]
async fn what_was_waited_for_is_served_at_once_by_every_replica() -> Result<()> {
    Platform::run(async |platform| {
        let kubectl = platform.kubectl()?;
        let hostname = format!("acme.{}.localhost", platform.namespace);
        let manifest = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"},
            "spec": {"hostnames": [hostname]},
        });
        kubectl.apply(&manifest.to_string()).await?;
        waits(&kubectl, &format!("--for=condition=Programmed {TENANT}")).await?;
        waits(&kubectl, "--for=condition=Ready platforms.tenantry.dev/main").await?;
        let acme = Tenant::at(platform.ingress.address, "acme", &hostname)?;
        acme.is_routed().await?;
        let alice = acme.user("alice");
        alice.registers().await?;

        for round in 0..5 {
            for (suspended, wanted) in [(true, StatusCode::FORBIDDEN), (false, StatusCode::OK)] {
                kubectl.patch(TENANT, &json!({"spec": {"suspended": suspended}}).to_string()).await?;
                waits(&kubectl, &format!("--for=condition=Programmed {TENANT}")).await?;
                // Two replicas answer in turn.
                for _ in 0..4 {
                    let answer = alice.me().await?;
                    ensure!(answer.status == wanted, "round {round}, suspended {suspended}: {answer}");
                }
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_verdict_on_the_generation_before_ends_no_wait() -> Result<()> {
    Platform::run(async |platform| {
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        waits(&kubectl, &format!("--for=condition=Programmed {TENANT}")).await?;

        // Nobody is there who could say anything about the next generation.
        platform.kill_operators().await?;
        let kubectl = platform.kubectl()?;
        kubectl.patch(TENANT, r#"{"spec":{"displayName":"Acme"}}"#).await?;
        kubectl.patch("platform/main", r#"{"spec":{"replicas":1}}"#).await?;
        let status = kubectl.value(TENANT, "{.status.conditions[?(@.type=='Programmed')].status}").await?;
        ensure!(status == "True", "what was said of the one before still stands: {status}");
        for words in
            [&format!("--for=condition=Programmed {TENANT}"), "--for=condition=Ready platforms.tenantry.dev/main"]
        {
            let stale = waited(&kubectl, words, 2).await?;
            ensure!(!stale.success && stale.stderr.contains("timed out"), "wait {words}: {stale:?}");
        }
        platform.add_operator().await?;
        waits(&kubectl, &format!("--for=condition=Programmed {TENANT}")).await?;
        waits(&kubectl, "--for=condition=Ready platforms.tenantry.dev/main").await
    })
    .await
}

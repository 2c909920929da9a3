//! A platform engineer changes a limit, and the API follows without a restart.

use anyhow::{Result, ensure};
use harness::{Kubectl, Platform, Tenant, wait};
use http::StatusCode;

fn policy(limit: u32) -> String {
    format!(
        "apiVersion: tenantry.dev/v1alpha1
kind: RateLimitPolicy
metadata: {{name: acme-limits}}
spec:
  targetRef: {{kind: Tenant, name: acme}}
  limits:
    sign-in:
      match: {{methods: [POST], paths: [{{type: Exact, value: /auth/login}}]}}
      counters: [Tenant]
      rates: [{{limit: {limit}, window: 1h}}]
      algorithm: FixedWindow
"
    )
}

async fn applied(platform: &Platform, kubectl: &Kubectl, limit: u32) -> Result<()> {
    kubectl.apply(&policy(limit)).await?;
    // What a pipeline would do, in its own words.
    let wait = ["wait", "--for=condition=Ready", "--timeout=60s", "ratelimitpolicy/acme-limits"];
    platform.objects.until("ratelimitpolicy/acme-limits", "Ready", "True").await?;
    ensure!(kubectl.attempt(&wait, "").await?.success);
    Ok(())
}

/// Tries to log in as somebody unknown, which the limit counts like any other.
async fn attempt(acme: &Tenant) -> Result<harness::actors::Answer> {
    acme.user("nobody").tries_to_log_in("Wrong-password-1").await
}

#[tokio::test]
async fn a_raised_limit_takes_effect_without_a_restart() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        let pods = kubectl.run("get pods -o name").await?;

        applied(platform, &kubectl, 2).await?;
        for remaining in ["1", "0"] {
            let answer = attempt(&acme).await?.expect(StatusCode::UNAUTHORIZED)?;
            ensure!(answer.header("x-ratelimit-remaining") == remaining, "{:?}", answer.headers);
        }
        let refused = attempt(&acme).await?.expect(StatusCode::TOO_MANY_REQUESTS)?;
        ensure!(refused.code() == "RATE_LIMITED", "{refused}");
        ensure!(refused.text.contains("acme-limits/sign-in"), "the refusal names the limit: {refused}");
        ensure!(!refused.header("retry-after").is_empty() && refused.header("ratelimit-policy").contains("q=2;w=3600"));

        applied(platform, &kubectl, 3).await?;
        let answer = attempt(&acme).await?.expect(StatusCode::UNAUTHORIZED)?;
        ensure!(answer.header("ratelimit-policy").contains("q=3;w=3600"), "{:?}", answer.headers);
        ensure!(answer.header("x-ratelimit-remaining") == "0", "what was spent stays spent: {:?}", answer.headers);
        attempt(&acme).await?.expect(StatusCode::TOO_MANY_REQUESTS)?;

        ensure!(kubectl.run("get pods -o name").await? == pods, "no pod was replaced");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_status_says_that_every_replica_serves_what_was_applied() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        let before = kubectl.value("tenant/acme", "{.status.config.revision}").await?;
        kubectl.patch("tenant/acme", r#"{"spec":{"displayName":"Acme, renamed"}}"#).await?;
        let tenant = platform.objects.until("tenant/acme", "Programmed", "True").await?;
        let config = &tenant["status"]["config"];
        ensure!(config["revision"] != before, "a new revision: {config}");
        ensure!(config["loadedReplicas"] == 2 && config["readyReplicas"] == 2, "{config}");

        let document = kubectl.value("configmap/acme-tenant-config", "{.data.tenant\\.json}").await?;
        ensure!(document.contains("Acme, renamed"), "anyone may read the policy in force");
        ensure!(!document.contains("sk_test_acme"), "and nobody a credential");
        let table = kubectl.run("get tenant acme").await?;
        ensure!(table.contains("True"), "{table}");

        kubectl.run("scale platform/main --replicas=3").await?;
        wait::until("the third replica to be asked too", async || {
            let seen = platform.objects.get("tenant/acme").await?;
            Ok((seen["status"]["config"]["loadedReplicas"] == 3).then_some(()))
        })
        .await?;
        acme.user("alice").registers().await
    })
    .await
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_and_comes_back() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let kubectl = platform.kubectl()?;
        for (suspended, expected) in [(true, StatusCode::FORBIDDEN), (false, StatusCode::OK)] {
            kubectl.patch("tenant/acme", &format!(r#"{{"spec":{{"suspended":{suspended}}}}}"#)).await?;
            let said = if suspended { "True" } else { "False" };
            platform.objects.until("tenant/acme", "Programmed", "True").await?;
            platform.objects.until("tenant/acme", "Suspended", said).await?;
            alice.me().await?.expect(expected)?;
        }
        Ok(())
    })
    .await
}

//! What the plugin shows: logs, all namespaces, what changes while one looks, and a plan for who may not read Secrets.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use harness::{Platform, wait};
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{ACME, exits, given, has, tenantry};

#[tokio::test]
async fn the_logs_of_all_pods_are_read_by_tenant_and_by_request() -> Result<()> {
    Platform::run(async |platform| {
        let (acme, beta) = (platform.tenant("acme").await?, platform.tenant("beta").await?);
        let (alice, bob) = (acme.user("alice"), beta.user("bob"));
        alice.registers().await?;
        bob.registers().await?;
        let kubectl = platform.kubectl()?;
        let asked = alice.me().await?.expect(StatusCode::OK)?;
        let id = asked.header("x-request-id").to_owned();
        ensure!(!id.is_empty(), "{asked:?}");

        // A pod writes its line after it has answered.
        let line = wait::until("the request to be in the logs", async || {
            let found = exits(&kubectl, 0, &format!("logs --request {id}")).await?;
            Ok((!found.is_empty()).then_some(found))
        })
        .await?;
        ensure!(line.lines().count() == 1, "one request, one line: {line}");
        has(&line, &["blue/", "INFO", "method=GET", "status=200", "tenant=acme", &format!("request_id={id}")])?;
        let raw = exits(&kubectl, 0, &format!("logs --request {id} --raw")).await?;
        let raw: Value = serde_json::from_str(raw.split_once(' ').context("pod and line")?.1)?;
        ensure!(raw["request_id"] == id.as_str() && raw["tenant"] == "acme", "{raw}");

        let of_beta = exits(&kubectl, 0, "logs --tenant beta --since 10m").await?;
        ensure!(of_beta.contains("tenant=beta") && !of_beta.contains("tenant=acme"), "{of_beta}");
        let all = exits(&kubectl, 0, "logs --color all --tail 500").await?;
        let pods: std::collections::BTreeSet<_> = all.lines().filter_map(|line| line.split(' ').next()).collect();
        ensure!(pods.len() == 2, "both pods speak: {pods:?}");
        let none = tenantry(&kubectl, "logs --color preview").await?;
        ensure!(none.code == Some(1), "{none:?}");
        has(&none.stderr, &["has no green pods"])
    })
    .await
}

#[tokio::test]
async fn a_change_is_told_to_who_looks_on_and_all_namespaces_are_looked_at() -> Result<()> {
    Platform::run(async |platform| {
        let kubectl = platform.kubectl()?;
        let mut looking = kubectl.command(["tenantry", "status", "--watch"]).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(looking.stdout.take().context("its output")?).lines();
        let mut until = async |words: &str| {
            let limit = wait::limit();
            let found = tokio::time::timeout(limit, async {
                while let Some(line) = lines.next_line().await? {
                    if line.contains(words) {
                        return anyhow::Ok(());
                    }
                }
                anyhow::bail!("it ended before it said {words:?}")
            });
            found.await.with_context(|| format!("nobody said {words:?}"))?
        };
        until("0 of 0 well").await?;
        platform.tenant("acme").await?;
        until("1 of 1 well").await?;
        kubectl.run("delete secret acme-stripe").await?;
        until("SecretNotFound").await?;
        looking.kill().await?;

        let everywhere = exits(&kubectl, 3, "status -A").await?;
        has(&everywhere, &["Platform main", &format!("namespace {}", platform.namespace), "acme: SecretNotFound"])?;
        let tenants: Value = serde_json::from_str(&exits(&kubectl, 3, "status tenant -A -o json").await?)?;
        ensure!(tenants["tenants"][0]["namespace"] == platform.namespace.as_str(), "{tenants}");
        Ok(())
    })
    .await
}

/// Everything of ours and nothing else.
const CAROL: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenants}
rules:
- {apiGroups: [tenantry.dev], resources: ['*'], verbs: [get, list, watch, create, update, patch]}
- {apiGroups: [''], resources: [configmaps], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenants}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenants}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: carol}]
";

#[tokio::test]
async fn who_may_not_read_secrets_still_sees_what_an_apply_would_change() -> Result<()> {
    Platform::run(async |platform| {
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        kubectl.apply(CAROL).await?;
        kubectl.apply(ACME).await?;
        platform.objects.until("ratelimitpolicy/acme-limits", "Ready", "True").await?;
        platform.objects.until("tenant/acme", "Programmed", "True").await?;
        let may = kubectl.attempt(&["auth", "can-i", "get", "secrets", "--as", "carol"], "").await?;
        ensure!(may.stdout.trim() == "no", "{may:?}");

        let same = given(&kubectl, "plan -f - --as carol", ACME).await?;
        ensure!(same.code == Some(0), "{same:?}");
        let changed = ACME.replace("limit: 600", "limit: 700");
        let planned = given(&kubectl, "plan -f - --as carol", &changed).await?;
        ensure!(planned.code == Some(2), "{planned:?}");
        has(
            &planned.stdout,
            &[
                "~ acme-limits/per-user",
                "limit: 600",
                "limit: 700",
                "you may not read Secrets here",
                "not known beforehand",
            ],
        )?;
        let data = given(&kubectl, "plan -f - --as carol -o json", &changed).await?;
        let plan: Value = serde_json::from_str(&data.stdout)?;
        ensure!(plan["tenants"][0]["tenant"] == "acme" && plan["tenants"][0]["revisionAfter"].is_null(), "{plan}");

        // The Platform, too; and who may not even look is told whom to ask.
        let bigger = given(&kubectl, "plan -f - --as carol", &platform.manifest(3).to_string()).await?;
        has(&bigger.stdout, &["- replicas: 2", "+ replicas: 3"])?;
        let nobody = tenantry(&kubectl, "status --as mallory").await?;
        ensure!(nobody.code == Some(1), "{nobody:?}");
        has(&nobody.stderr, &["mallory", "ask for the ClusterRole view"])
    })
    .await
}

//! A platform engineer at a terminal, with `kubectl tenantry`.

mod levers;
mod looks;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};

use anyhow::{Context, Result, ensure};
use harness::{Kubectl, Platform, binaries::target_folder, kubectl::Output, workdir::Workdir};
use http::StatusCode;
use serde_json::{Value, json};

const HOUSE: &str = "apiVersion: tenantry.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: house}
spec:
  targetRef: {kind: Platform, name: main}
  defaults:
    strategy: merge
    limits:
      per-user: {counters: [User], rates: [{limit: 1000, window: 1m}]}
      everything: {counters: [Tenant], rates: [{limit: 100000, window: 1m}]}
";

const ACME: &str = "apiVersion: tenantry.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: acme-limits}
spec:
  targetRef: {kind: Tenant, name: acme}
  limits:
    per-user: {counters: [User], rates: [{limit: 600, window: 1m}]}
---
apiVersion: tenantry.dev/v1alpha1
kind: RoleBinding
metadata: {name: acme-support}
spec:
  tenantRef: {name: acme}
  roleRef: {name: support}
  subjects: [{kind: User, name: alice@acme.example}]
";

/// `kubectl tenantry <words>`, whatever comes of it.
async fn tenantry(kubectl: &Kubectl, words: &str) -> Result<Output> {
    given(kubectl, words, "").await
}

async fn given(kubectl: &Kubectl, words: &str, stdin: &str) -> Result<Output> {
    let words: Vec<_> = std::iter::once("tenantry").chain(words.split_whitespace()).collect();
    kubectl.attempt(&words, stdin).await
}

/// As [`tenantry`], with the exit code that is expected.
async fn exits(kubectl: &Kubectl, code: i32, words: &str) -> Result<String> {
    let Output { code: actual, stdout, stderr, .. } = tenantry(kubectl, words).await?;
    ensure!(actual == Some(code), "kubectl tenantry {words} exits with {actual:?}:\n{stdout}{stderr}");
    Ok(stdout)
}

/// Whether each is there, wherever a line ends.
fn has(text: &str, words: &[&str]) -> Result<()> {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        ensure!(text.contains(word) || flat.contains(word), "no {word:?} in:\n{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_platform_engineer_asks_whether_it_is_well_and_who_may_do_what() -> Result<()> {
    Platform::run(async |platform| {
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        kubectl.apply(HOUSE).await?;
        kubectl.apply(ACME).await?;
        for object in ["ratelimitpolicy/house", "ratelimitpolicy/acme-limits", "rolebinding/acme-support"] {
            platform.objects.until(object, "Ready", "True").await?;
        }
        platform.objects.until("tenant/acme", "Ready", "True").await?;

        let status = exits(&kubectl, 0, "status").await?;
        has(&status, &["Platform main", ": well", "2 of 2 replicas", "1 of 1 well"])?;
        ensure!(status.lines().all(|line| line.chars().count() <= 80), "it fits a small terminal:\n{status}");
        let status: Value = serde_json::from_str(&exits(&kubectl, 0, "status -o json").await?)?;
        ensure!(status["platforms"][0]["well"] == true && status["platforms"][0]["tenants"] == 1, "{status}");

        let explained =
            exits(&kubectl, 0, "explain --tenant acme --user alice@acme.example --method POST --path /api/v1/payments")
                .await?;
        has(
            &explained,
            &[
                "RoleBinding acme-support (User alice@acme.example)",
                "acme-limits/per-user: 600 per 1m",
                "spec.limits, limit per-user (for Tenant acme)",
                "house/everything: 100000 per 1m",
                "spec.defaults, limit everything (for Platform main)",
                "in place of house/per-user",
                "each user (alice@acme.example)",
            ],
        )?;

        has(
            &exits(&kubectl, 0, "can-i read users --tenant acme --as-user alice@acme.example").await?,
            &["yes - RoleBinding acme-support"],
        )?;
        has(
            &exits(&kubectl, 1, "can-i read users --tenant acme --as-user bob@acme.example").await?,
            &["no - no RoleBinding counts"],
        )?;
        has(
            &exits(&kubectl, 0, "can-i --list --tenant acme --as-user alice@acme.example").await?,
            &["tickets:*", "payments:pay", "own role USER"],
        )?;

        // Something breaks, and it says what.
        kubectl.run("delete secret acme-stripe").await?;
        platform.objects.until("tenant/acme", "ResolvedRefs", "False").await?;
        let status = exits(&kubectl, 3, "status").await?;
        has(&status, &["0 of 1 well", "acme: SecretNotFound", "Recent warnings"])?;
        let tenant = exits(&kubectl, 3, "status tenant acme").await?;
        has(&tenant, &["Tenant acme", "not well", "ok RateLimitPolicy house", "-- PaymentProvider acme-stripe"])?;

        let nobody = tenantry(&kubectl, "explain --tenant nobody").await?;
        ensure!(nobody.code == Some(1), "{nobody:?}");
        has(&nobody.stderr, &["error: there is no Tenant \"nobody\" in namespace", "see kubectl get tenants -A"])
    })
    .await
}

#[tokio::test]
async fn a_plan_says_what_an_apply_then_does() -> Result<()> {
    Platform::run(async |platform| {
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        kubectl.apply(ACME).await?;
        platform.objects.until("tenant/acme", "Programmed", "True").await?;
        platform.objects.until("ratelimitpolicy/acme-limits", "Ready", "True").await?;
        let revision = kubectl.value("tenant/acme", "{.status.config.revision}").await?;

        let same = given(&kubectl, "plan -f -", ACME).await?;
        ensure!(same.code == Some(0), "{same:?}");
        has(
            &same.stdout,
            &["ratelimitpolicy/acme-limits would stay unchanged", "No tenant's configuration would change."],
        )?;

        let changed = ACME.replace("limit: 600", "limit: 700").replace("alice@acme.example", "carol@acme.example");
        let planned = given(&kubectl, "plan -f -", &changed).await?;
        ensure!(planned.code == Some(2), "{planned:?}");
        has(
            &planned.stdout,
            &[
                "~ acme-limits/per-user",
                "limit: 600",
                "limit: 700",
                "~ acme-support",
                "- name: alice@acme.example",
                "+ name: carol@acme.example",
            ],
        )?;
        let data = given(&kubectl, "plan -f - -o json", &changed).await?;
        let plan: Value = serde_json::from_str(&data.stdout)?;
        let change = &plan["tenants"][0];
        ensure!(change["revisionBefore"] == revision.as_str() && change["tenant"] == "acme", "{change}");
        ensure!(kubectl.value("tenant/acme", "{.status.config.revision}").await? == revision, "a plan changes nothing");

        // What is refused is refused beforehand, in the cluster's words; what would not work is told.
        let refused = given(&kubectl, "plan -f -", &ACME.replace("600", "0")).await?;
        ensure!(refused.code == Some(1) && refused.stderr.contains("would be refused"), "{refused:?}");
        let useless = given(
            &kubectl,
            "plan -f -",
            &ACME
                .replace("acme-support", "acme-wizard")
                .replace("roleRef: {name: support}", "roleRef: {name: support}\n  when: nobody.knows == 'this'"),
        )
        .await?;
        has(
            &useless.stdout,
            &["rolebinding/acme-wizard would be created", "RoleBinding acme-wizard: Accepted=False Invalid"],
        )?;
        let deleted = exits(&kubectl, 2, "plan --delete rolebinding/acme-support").await?;
        has(&deleted, &["rolebinding/acme-support would be deleted", "- acme-support"])?;

        kubectl.apply(&changed).await?;
        harness::wait::until("the planned revision", async || {
            let tenant = platform.objects.get("tenant/acme").await?;
            Ok((tenant["status"]["config"]["revision"] == change["revisionAfter"]).then_some(()))
        })
        .await?;

        // A new tenant, from a folder.
        let folder = Workdir::temporary()?;
        let tenant = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "beta"},
            "spec": {"hostnames": [format!("acme.{}.localhost", platform.namespace), "beta.localhost"]},
        });
        fs::write(folder.join("beta.json"), tenant.to_string())?;
        let planned = exits(&kubectl, 2, &format!("plan -f {}", folder.path().display())).await?;
        has(
            &planned,
            &["tenant/beta would be created", "known after the apply", "+ ", "Conflicted", "beta.localhost"],
        )?;
        let all = [planned, data.stdout].concat();
        ensure!(!all.contains("sk_test_acme") && !all.contains("BEGIN PRIVATE"), "{all}");

        // The Platform: what would differ in its spec.
        let bigger = platform.manifest(3).to_string();
        let planned = given(&kubectl, "plan -f -", &bigger).await?;
        ensure!(planned.code == Some(2), "{planned:?}");
        has(&planned.stdout, &["- replicas: 2", "+ replicas: 3"])
    })
    .await
}

#[tokio::test]
async fn a_signing_key_is_rotated_and_no_token_is_refused() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let (alice, bob) = (acme.user("alice"), acme.user("bob"));
        alice.registers().await?;
        bob.registers().await?;
        let kubectl = platform.kubectl()?;

        // Alice keeps her token; bob gets a new one all the time, which the next replica must know.
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let busy = {
            let (stop, requests, alice, bob) = (stop.clone(), requests.clone(), alice.clone(), bob.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    alice.me().await?.expect(StatusCode::OK)?;
                    bob.refreshes().await?;
                    for _ in 0..4 {
                        bob.me().await?.expect(StatusCode::OK)?;
                    }
                    requests.fetch_add(6, SeqCst);
                }
                anyhow::Ok(())
            })
        };
        harness::wait::until("requests", async || Ok((requests.load(SeqCst) > 20).then_some(()))).await?;
        let before = kubectl.value("tenant/acme", "{.status.signingKey.secretName}").await?;
        let said = exits(&kubectl, 0, "rotate signing-key --tenant acme").await?;
        has(&said, &["signs on every replica"])?;
        let enough = requests.load(SeqCst) + 20;
        harness::wait::until("requests after it", async || {
            ensure!(!busy.is_finished(), "a request was refused");
            Ok((requests.load(SeqCst) > enough).then_some(()))
        })
        .await?;
        stop.store(true, SeqCst);
        busy.await??;

        let after = kubectl.value("tenant/acme", "{.status.signingKey.secretName}").await?;
        ensure!(before == "acme-signing-key" && after != before, "{before} and {after}");
        let id = |token: &str| token.split('.').next().map(str::to_owned);
        ensure!(id(&alice.tokens().access) != id(&bob.tokens().access), "another key signs");
        // Nobody waits for an event to be published.
        harness::wait::until("the event", async || {
            let events = kubectl.run("get events.events.k8s.io -o jsonpath={.items[*].reason}").await?;
            Ok(events.contains("SigningKeyRotated").then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_report_has_what_helps_and_no_credential() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        acme.user("alice").registers().await?;
        let kubectl = platform.kubectl()?;
        // As people do: the whole Secret ends up in an annotation.
        kubectl.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: careless}\nstringData: {password: CANARY-in-a-secret}\n").await?;
        kubectl
            .patch("platform/main", r#"{"spec":{"extraEnv":[{"name":"SMTP_PASSWORD","value":"CANARY-in-a-variable"}]}}"#)
            .await?;
        let folder = Workdir::temporary()?;
        let to = folder.join("bundle");
        let said = exits(&kubectl, 0, &format!("report --to {}", to.display())).await?;
        has(&said, &["files in"])?;

        let namespace = &platform.namespace;
        for file in ["status.txt", "version.yaml"] {
            ensure!(to.join(file).is_file(), "no {file}");
        }
        for file in ["tenants.yaml", "platforms.yaml", "deployments.yaml", "pods.yaml", "events.yaml", "secrets-metadata.yaml"] {
            ensure!(to.join(namespace).join(file).is_file(), "no {file}");
        }
        ensure!(to.join(namespace).join("documents/acme-tenant-config/tenant.json").is_file(), "no document");

        let mut canaries = vec!["CANARY".to_owned(), "sk_test_acme".into(), "whsec_acme".into()];
        canaries.extend(platform.database.password().map(|password| format!(":{password}@")));
        for name in ["acme-signing-key", "main-sealing-key"] {
            let secret: Value = serde_json::from_str(&kubectl.run(&format!("get secret {name} -o json")).await?)?;
            let values = secret["data"].as_object().context("a Secret has data")?.values();
            canaries.extend(values.filter_map(Value::as_str).map(str::to_owned));
        }
        for file in files_below(&to)? {
            let text = fs::read_to_string(&file)?;
            for canary in &canaries {
                ensure!(!text.contains(canary.as_str()), "{} holds {canary:?}", file.display());
            }
            ensure!(!text.contains("PRIVATE KEY-----\n"), "{} holds a key", file.display());
        }
        let archive = folder.join("report.tar.gz");
        exits(&kubectl, 0, &format!("report --to {}", archive.display())).await?;
        ensure!(fs::metadata(&archive)?.len() > 1_000);
        Ok(())
    })
    .await
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

#[tokio::test]
async fn a_rollout_is_held_and_let_go_and_commands_complete() -> Result<()> {
    Platform::run(async |platform| {
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        has(&exits(&kubectl, 0, "rollout pause").await?, &["platform/main: rollouts are held"])?;
        platform.objects.until("platform/main", "Paused", "True").await?;
        has(&exits(&kubectl, 0, "rollout resume").await?, &["platform/main: rollouts are going on"])?;
        platform.objects.until("platform/main", "Paused", "False").await?;
        platform.objects.until("platform/main", "Ready", "True").await?;
        has(&exits(&kubectl, 0, "rollout status").await?, &["platform/main"])?;
        has(
            &exits(&kubectl, 0, "version").await?,
            &[concat!("kubectl-tenantry ", env!("CARGO_PKG_VERSION")), "Kubernetes v"],
        )?;

        // kubectl asks a program of this name how the words go on.
        fs::create_dir_all(kubectl.programs())?;
        symlink(target_folder()?.join("kubectl-tenantry"), kubectl.programs().join("kubectl_complete-tenantry"))?;
        has(&kubectl.run("__complete tenantry sta").await?, &["status\tIs it well"])?;
        has(&kubectl.run("__complete tenantry explain --tenant a").await?, &["acme\n"])?;
        for shell in ["bash", "zsh", "fish", "powershell", "kubectl"] {
            has(&exits(&kubectl, 0, &format!("completion {shell}")).await?, &["kubectl-tenantry"])?;
        }
        Ok(())
    })
    .await
}

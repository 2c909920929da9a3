//! An SRE rolls out releases, good and bad, while people go on using the platform.

use anyhow::{Result, ensure};
use harness::{
    Load, Platform, Tenant, User,
    ingress::Ingress,
    platform::PLATFORM,
    rollout::{Rollouts, aborts, error_share, rolls_out, slowness},
    wait,
};
use serde_json::{Value, json};

/// Enough to meet any pod at any moment, and little enough for a small machine.
const PER_SECOND: u32 = 20;
/// Rollouts and aborts in a row; `cargo dev bench rollout` makes more.
const ROUNDS: usize = 2;

/// A tenant with somebody who is signed in.
async fn alice(platform: &Platform) -> Result<User> {
    let alice = platform.tenant("acme").await?.user("alice");
    alice.registers().await?;
    Ok(alice)
}

/// The same person at the door of the preview Service, where releases are tried.
async fn at_the_preview(platform: &Platform, user: &User) -> Result<(User, Ingress)> {
    let service = format!("{PLATFORM}-api-preview");
    let door = Ingress::to_service(&platform.control_plane.client, &platform.namespace, &service).await?;
    let user = user.at(&Tenant::at(door.address, &user.tenant.name, &user.tenant.hostname)?);
    Ok((user, door))
}

/// `spec.rollout` with the shortest waits and what Prometheus is asked.
fn analysed(address: &str, metrics: &[Value]) -> Value {
    json!({
        "scaleDownDelaySeconds": 30, "progressDeadlineSeconds": 60,
        "analysis": {
            "prometheus": {"address": address.trim_end_matches('/')}, "intervalSeconds": 5, "count": 2, "metrics": metrics,
        },
    })
}

#[tokio::test]
async fn a_good_release_takes_over_by_itself_and_an_undo_brings_the_old_one_back_with_its_settings() -> Result<()> {
    Platform::run(async |platform| {
        let alice = alice(platform).await?;
        let prometheus = platform.start_prometheus().await?;
        let (before_proxy, _door) = at_the_preview(platform, &alice).await?;
        let metrics = [error_share("BeforePromotion"), slowness("BeforePromotion")];
        let rollouts = Rollouts::blue_green(platform, analysed(prometheus.as_str(), &metrics)).await?;
        let before = rollouts.status().await?;
        let (load, preview) = (Load::of(alice, PER_SECOND), Load::of(before_proxy, PER_SECOND));

        rollouts.patch(json!({"image": {"tag": "next"}, "observability": {"logLevel": "debug"}})).await?;
        let after = rollouts.until_replaced(before.active()).await?;
        ensure!(after.color() != before.color(), "the other colour: {after:?}");
        let measured = &after.0["status"]["rollout"]["analysis"]["metrics"];
        ensure!(
            measured.as_array().is_some_and(|metrics| metrics.iter().all(|metric| metric["verdict"] == "Pass")),
            "{measured}"
        );

        // Within the window the old colour is still there: at once, and without a new pod.
        rollouts.command("undo").await?;
        let undone = rollouts.until("the old release to be back", |status| status.active() == before.active()).await?;
        ensure!(undone.color() == before.color(), "{undone:?}");
        let release = format!("configmap/{PLATFORM}-release-{}", undone.active());
        let settings = rollouts.kubectl().value(&release, "{.data}").await?;
        ensure!(!settings.contains("debug"), "the settings of the old release: {settings}");

        preview.stop().await;
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn a_person_promotes_pauses_aborts_and_tries_again() -> Result<()> {
    Platform::run(async |platform| {
        let load = Load::of(alice(platform).await?, PER_SECOND);
        let manual = json!({"autoPromotionEnabled": false, "scaleDownDelaySeconds": 5});
        let rollouts = Rollouts::blue_green(platform, manual).await?;
        let first = rollouts.status().await?;

        rollouts.deploy("second").await?;
        let waiting = rollouts.until_phase("AwaitingPromotion").await?;
        ensure!(waiting.active() == first.active() && waiting.preview() != first.active(), "{waiting:?}");
        rollouts.command("abort").await?;
        let aborted = rollouts.until_phase("Aborted").await?;
        ensure!(aborted.active() == first.active(), "{aborted:?}");

        rollouts.command("retry").await?;
        rollouts.until_phase("AwaitingPromotion").await?;
        rollouts.patch(json!({"paused": true})).await?;
        platform.objects.until(&format!("platform/{PLATFORM}"), "Paused", "True").await?;
        rollouts.patch(json!({"paused": false})).await?;
        rollouts.command("promote").await?;
        let second = rollouts.until_replaced(first.active()).await?;
        ensure!(second.active() == waiting.preview(), "{second:?}");

        // The window is over: the old release is started again, and takes over when it is ready.
        rollouts.until_phase("Idle").await?;
        rollouts.command("undo").await?;
        let back = rollouts.until("the first release to be back", |status| {
            if status.phase() == "AwaitingPromotion" || status.active() == first.active() {
                return true;
            }
            false
        });
        if back.await?.active() != first.active() {
            rollouts.command("promote").await?;
        }
        rollouts.until("the first release to be back", |status| status.active() == first.active()).await?;
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn a_release_with_errors_or_slow_answers_is_taken_back_and_the_number_is_quoted() -> Result<()> {
    Platform::run(async |platform| {
        let alice = alice(platform).await?;
        let prometheus = platform.start_prometheus().await?;
        let (tester, _door) = at_the_preview(platform, &alice).await?;
        let metrics = [error_share("BeforePromotion"), slowness("BeforePromotion")];
        let rollouts = Rollouts::blue_green(platform, analysed(prometheus.as_str(), &metrics)).await?;
        let before = rollouts.status().await?;
        let (load, preview) = (Load::of(alice, PER_SECOND), Load::of(tester, PER_SECOND));
        for (fault, metric) in [("errors", "error-share"), ("slow", "p90-seconds")] {
            rollouts.deploy(fault).await?;
            let message = rollouts.until_rolled_back(before.active()).await?;
            ensure!(message.contains(metric), "{fault}: {message}");
            rollouts.until_event("RolledBack", &[metric]).await?;
        }
        preview.stop().await;
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn a_release_that_does_not_get_well_is_taken_back_and_says_why() -> Result<()> {
    Platform::run(async |platform| {
        let load = Load::of(alice(platform).await?, PER_SECOND);
        let short = json!({"progressDeadlineSeconds": 30, "scaleDownDelaySeconds": 5});
        let rollouts = Rollouts::blue_green(platform, short).await?;
        let before = rollouts.status().await?;
        for fault in ["never-ready", "crashing", "stale-config"] {
            rollouts.deploy(fault).await?;
            let message = rollouts.until_rolled_back(before.active()).await?;
            ensure!(!message.is_empty(), "{fault} is taken back without a word");
            rollouts.until_event("RolledBack", &[]).await?;
        }
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn a_failed_migration_leaves_what_runs_untouched() -> Result<()> {
    Platform::run(async |platform| {
        let load = Load::of(alice(platform).await?, PER_SECOND);
        let rollouts = Rollouts::blue_green(platform, json!({"scaleDownDelaySeconds": 5})).await?;
        let before = rollouts.status().await?;
        let pods = "get pods -l app.kubernetes.io/name=tenantry-api -o name";
        let running = rollouts.kubectl().run(pods).await?;
        rollouts.deploy("failed-migration").await?;
        let failed = |status: &harness::rollout::Status| status.condition("Progressing")["reason"] == "MigrationFailed";
        let status = rollouts.until("the migration to have failed", failed).await?;
        ensure!(status.active() == before.active(), "{status:?}");
        ensure!(rollouts.kubectl().run(pods).await? == running, "no pod came or went");

        rollouts.deploy("corrected").await?;
        rollouts.until_replaced(before.active()).await?;
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn without_an_answer_from_prometheus_nothing_takes_over() -> Result<()> {
    Platform::run(async |platform| {
        let alice = alice(platform).await?;
        let address = platform.start_prometheus().await?;
        let (tester, _door) = at_the_preview(platform, &alice).await?;
        let rollouts =
            Rollouts::blue_green(platform, analysed(address.as_str(), &[error_share("BeforePromotion")])).await?;
        let before = rollouts.status().await?;
        let verdict =
            |status: &harness::rollout::Status| status.0["status"]["rollout"]["analysis"]["metrics"][0].clone();

        // Nobody asks the preview anything: the query has no answer.
        rollouts.deploy("next").await?;
        let unsure = |status: &harness::rollout::Status| verdict(status)["verdict"] == "Inconclusive";
        let status = rollouts.until("an inconclusive analysis", unsure).await?;
        ensure!((status.phase(), status.active()) == ("Analyzing", before.active()), "{status:?}");

        // Somebody does, and Prometheus is lost; then it is back.
        let preview = Load::of(tester, PER_SECOND);
        if let Some(prometheus) = &platform.prometheus {
            prometheus.freeze();
            let lost = |status: &harness::rollout::Status| {
                unsure(status) && verdict(status)["message"].as_str().is_some_and(|words| words.contains("Prometheus"))
            };
            let status = rollouts.until("an analysis that says so", lost).await?;
            ensure!(status.active() == before.active(), "{status:?}");
            prometheus.thaw();
        }
        rollouts.until_replaced(before.active()).await?;
        preview.stop().await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_failure_after_the_switch_switches_back() -> Result<()> {
    Platform::run(async |platform| {
        let alice = alice(platform).await?;
        let address = platform.start_prometheus().await?;
        let rollouts =
            Rollouts::blue_green(platform, analysed(address.as_str(), &[error_share("AfterPromotion")])).await?;
        let before = rollouts.status().await?;
        let load = Load::of(alice.clone(), PER_SECOND);
        rollouts.deploy("errors").await?;
        let switched = |status: &harness::rollout::Status| status.active() != before.active();
        rollouts.until("the switch", switched).await?;
        let message = rollouts.until_rolled_back(before.active()).await?;
        ensure!(message.contains("error-share"), "{message}");
        // What failed was the bad release's doing; now all is well again.
        load.stop().await;
        let calm = Load::of(alice, PER_SECOND);
        wait::until("fifty answers", async || Ok((calm.report().answered >= 50).then_some(()))).await?;
        calm.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn a_rollout_goes_on_with_the_next_operator() -> Result<()> {
    Platform::run(async |platform| {
        let load = Load::of(alice(platform).await?, PER_SECOND);
        let manual = json!({"autoPromotionSeconds": 3, "scaleDownDelaySeconds": 5});
        let before = {
            let rollouts = Rollouts::blue_green(platform, manual).await?;
            let before = rollouts.status().await?.active().to_owned();
            rollouts.deploy("next").await?;
            rollouts
                .until("the new release to be tried", |status| status.preview() != "" && status.preview() != before)
                .await?;
            before
        };
        platform.kill_operators().await?;
        platform.add_operator().await?;
        let rollouts = Rollouts::of(platform)?;
        rollouts.until_replaced(&before).await?;
        rollouts.until_phase("Idle").await?;
        load.stop().await.nothing_lost()
    })
    .await
}

#[tokio::test]
async fn rollouts_and_aborts_under_load_lose_no_request() -> Result<()> {
    Platform::run(async |platform| {
        let load = Load::of(alice(platform).await?, PER_SECOND);
        let rollouts = Rollouts::blue_green(platform, json!({"scaleDownDelaySeconds": 1})).await?;
        rolls_out(&rollouts, ROUNDS).await?;
        rollouts.configure(json!({"scaleDownDelaySeconds": 1, "autoPromotionEnabled": false})).await?;
        aborts(&rollouts, ROUNDS).await?;
        load.stop().await.nothing_lost()
    })
    .await
}

/// The world as version 0.1.0 left it: one Deployment, which knows no colours, behind a Service that knows none either.
async fn without_colours(platform: &mut Platform) -> Result<()> {
    platform.kill_operators().await?;
    let kubectl = platform.kubectl()?;
    let blue: Value = serde_json::from_str(&kubectl.run("get deployment main-api-blue -o json").await?)?;
    let mut old = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "main-api", "labels": blue["metadata"]["labels"], "ownerReferences": blue["metadata"]["ownerReferences"]},
        "spec": {"replicas": 2, "selector": blue["spec"]["selector"], "template": blue["spec"]["template"]},
    });
    for labels in ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        if let Some(labels) = old.pointer_mut(labels).and_then(Value::as_object_mut) {
            labels.retain(|label, _| !matches!(label.as_str(), "tenantry.dev/color" | "tenantry.dev/release"));
        }
    }
    platform.objects.apply(&old).await?;
    kubectl.run("rollout status deployment/main-api --timeout=60s").await?;
    let no_colour = r#"{"spec":{"selector":{"tenantry.dev/color":null}}}"#;
    kubectl.patch("service/main-api", no_colour).await?;
    kubectl.run("delete deployment main-api-blue --wait=true").await?;
    let patch = ["patch", "platform/main", "--subresource=status", "--type=json"];
    kubectl.attempt(&[&patch[..], &["-p", r#"[{"op":"remove","path":"/status"}]"#]].concat(), "").await?;
    let known = kubectl.value("platform/main", "{.status.activeColor}").await?;
    ensure!(known.is_empty(), "{known}");
    Ok(())
}

#[tokio::test]
async fn pods_of_version_0_1_0_serve_until_the_first_colour_takes_over_and_then_go() -> Result<()> {
    Platform::run(async |platform| {
        let alice = alice(platform).await?;
        Rollouts::of(platform)?.patch(json!({"rollout": {"scaleDownDelaySeconds": 2}})).await?;
        without_colours(platform).await?;
        let load = Load::of(alice, PER_SECOND);
        platform.add_operator().await?;
        let rollouts = Rollouts::of(platform)?;
        rollouts
            .until("the first colour to serve", |status| status.color() == "blue" && status.phase() == "Idle")
            .await?;
        wait::until("the pods without a colour to go", async || {
            let left = rollouts.kubectl().run("get deployments -l tenantry.dev/platform=main -o name").await?;
            Ok((left.trim() == "deployment.apps/main-api-blue").then_some(()))
        })
        .await?;
        load.stop().await.nothing_lost()
    })
    .await
}

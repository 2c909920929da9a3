//! An SRE rolls out releases, good and bad, while people go on using the platform.

use anyhow::{Result, ensure};
use harness::{
    Load, Platform, User,
    platform::PLATFORM,
    rollout::{Rollouts, aborts, error_share, rolls_out},
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

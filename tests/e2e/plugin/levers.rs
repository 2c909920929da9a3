//! The levers of a rollout, by the plugin.

use anyhow::{Result, ensure};
use harness::{Platform, rollout::Rollouts};
use serde_json::{Value, json};

use super::{exits, has, tenantry};

#[tokio::test]
async fn a_release_is_aborted_retried_promoted_and_undone() -> Result<()> {
    Platform::run(async |platform| {
        let kubectl = platform.kubectl()?;
        let manual = json!({"autoPromotionEnabled": false, "scaleDownDelaySeconds": 60});
        let rollouts = Rollouts::blue_green(platform, manual).await?;
        let first = rollouts.status().await?;

        // What cannot be done is refused with the reason.
        has(&exits(&kubectl, 1, "rollout abort").await?, &["nothing is under way"])?;

        rollouts.deploy("second").await?;
        rollouts.until_phase("AwaitingPromotion").await?;
        let status = exits(&kubectl, 3, "rollout status").await?;
        has(&status, &["AwaitingPromotion", &format!("active {} (blue)", first.active()), "preview"])?;
        let said = exits(&kubectl, 0, "rollout abort").await?;
        has(&said, &["is aborted", first.active()])?;
        rollouts.until_phase("Aborted").await?;
        has(&exits(&kubectl, 1, "rollout status --watch --timeout 1m").await?, &["Aborted", "taken back"])?;

        has(&exits(&kubectl, 0, "rollout retry").await?, &["is tried again"])?;
        let waiting = rollouts.until_phase("AwaitingPromotion").await?;
        // A pipeline follows it while a person promotes.
        let watching = async { tenantry(&kubectl, "rollout status --watch --timeout 2m").await };
        let promoting = async { exits(&kubectl, 0, "rollout promote").await };
        let (followed, promoted) = tokio::try_join!(watching, promoting)?;
        has(&promoted, &["is approved"])?;
        ensure!(followed.code == Some(0), "{followed:?}");
        has(&followed.stdout, &["AwaitingPromotion", "Promoted", &format!("active {} (green)", waiting.preview())])?;

        let undone = exits(&kubectl, 0, "rollout undo -o json").await?;
        let undone: Value = serde_json::from_str(&undone)?;
        ensure!(undone["message"].as_str().is_some_and(|said| said.contains("undone")), "{undone}");
        let back = rollouts.until_phase("Undone").await?;
        ensure!((back.active(), back.color()) == (first.active(), "blue"), "{back:?}");

        // By name, and one that never was.
        let there = exits(&kubectl, 1, &format!("rollout undo --to {}", first.active())).await?;
        has(&there, &["is what runs"])?;
        has(&exits(&kubectl, 1, "rollout undo --to 0123456789").await?, &["is not kept; these are:", first.active()])
    })
    .await
}

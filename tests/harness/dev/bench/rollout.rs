//! Rollouts and aborts under load: how many requests fail, and how long a release takes beyond the waits that are configured.

use anyhow::Result;
use harness::{
    Load, Platform,
    rollout::{Rollouts, aborts, rolls_out},
};
use serde_json::json;

use super::{Amounts, figures::Sample};

/// The only wait of these rollouts, in seconds, and it comes after the switch.
const SCALE_DOWN_DELAY: u32 = 1;

pub async fn run(amounts: &Amounts) -> Result<()> {
    let platform = Platform::with_replicas(amounts.replicas).await?;
    let result = measure(&platform, amounts).await;
    if let Err(error) = result {
        return Err(platform.explain(error).await);
    }
    platform.stop().await
}

async fn measure(platform: &Platform, amounts: &Amounts) -> Result<()> {
    let alice = platform.tenant("acme").await?.user("alice");
    alice.registers().await?;
    let rollouts = Rollouts::blue_green(platform, json!({"scaleDownDelaySeconds": SCALE_DOWN_DELAY})).await?;

    let load = Load::of(alice.clone(), amounts.rate);
    let took = rolls_out(&rollouts, amounts.rollouts).await?;
    let promoted = load.stop().await;
    // An access token lives for a quarter of an hour.
    alice.logs_in().await?;
    rollouts.configure(json!({"scaleDownDelaySeconds": SCALE_DOWN_DELAY, "autoPromotionEnabled": false})).await?;
    let load = Load::of(alice, amounts.rate);
    aborts(&rollouts, amounts.rollouts).await?;
    let aborted = load.stop().await;

    println!(
        "\nBlue/green under load: {} replicas, {} requests a second, half of them writes",
        amounts.replicas, amounts.rate
    );
    println!("  {} rollouts: {promoted}", amounts.rollouts);
    println!("  {} aborts:   {aborted}", amounts.rollouts);
    let seconds: Sample = took.iter().map(std::time::Duration::as_secs_f64).collect();
    println!("  seconds from the new spec to promoted, with no wait configured before the switch: {seconds:.1}");
    println!("  Kubernetes API: {}.", platform.control_plane);
    Ok(())
}

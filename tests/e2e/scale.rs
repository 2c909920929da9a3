//! What `cargo dev bench scale` measures, with a few tenants and without a clock: the figures are of the right things.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Platform, scale::Crowd};

#[tokio::test]
async fn a_crowd_of_tenants_is_served_counted_and_taken_over() -> Result<()> {
    Platform::run(async |platform| {
        let mut crowd = Crowd::of(platform);
        crowd.grow(3).await?;
        crowd.rests().await?;
        let rest = crowd.at_rest(Duration::from_secs(1)).await?;
        ensure!(rest.writes() == 0, "written at rest: {rest}");

        let one_by_one = crowd.change_one_by_one(3).await?;
        let at_rate = crowd.change_at_rate(3, 50).await?;
        for changed in [one_by_one, at_rate] {
            ensure!(changed.served.len() == 3);
            // A document and a status each.
            ensure!(changed.calls.writes() >= 6, "asked: {}", changed.calls);
        }
        let restarted = crowd.restart().await?;
        ensure!(restarted.calls.reads() >= 6, "a new operator looks at every tenant: {}", restarted.calls);
        ensure!(restarted.looked >= restarted.knows);
        for killed in [false, true] {
            crowd.new_leader(killed).await?;
        }
        Ok(())
    })
    .await
}

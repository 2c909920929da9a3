//! Waiting on conditions. One time-out for everything, in one place: `TENANTRY_TEST_TIMEOUT_SECONDS`.

use std::{env, fmt::Debug, time::Duration};

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Generous: a wait that succeeds never takes it, and a machine may be busy.
pub fn limit() -> Duration {
    let seconds = env::var("TENANTRY_TEST_TIMEOUT_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Looks until `condition` yields something. An error ends the wait at once, so what may pass is `Ok(None)`.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    within(limit(), what, condition).await
}

pub async fn within<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(anyhow!("waited {} s in vain for {what}", limit.as_secs()));
        }
        sleep(INTERVAL).await;
    }
}

/// Like [`until`], for a value that is wanted to be `good`; the error shows the last one seen.
pub async fn until_value<T: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T>,
    good: impl Fn(&T) -> bool,
) -> Result<T> {
    let mut last = None;
    let found = until(what, async || {
        let value = look().await?;
        if good(&value) {
            return Ok(Some(value));
        }
        last = Some(value);
        Ok(None)
    })
    .await;
    found.map_err(|error| error.context(format!("last seen: {last:?}")))
}

//! What the chart has done by Jobs and test pods of this same image, so that a release needs no other and works where no
//! other can be pulled: [`platform`] applies the Platform of a first install, [`check`] is `helm test`.

pub mod check;
pub mod platform;

use std::time::Duration;

use clap::Args;

/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Args)]
pub struct Patience {
    /// Seconds to wait for what is not there yet.
    #[arg(long, default_value_t = 60)]
    pub timeout_seconds: u64,
}

impl Patience {
    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_secs(self.timeout_seconds)
    }
}

//! Makes the calls: a deadline for all attempts together, and the pauses between them.

use std::time::Duration;

use super::{AccountView, Answer, Call, Provider, ProviderError};
use crate::infra::outbound::{Outbound, without_url};

/// Sends calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    outbound: Outbound,
    /// The pause before the first repetition; it doubles with each, up to ten times this.
    pause: Duration,
}

impl Transport {
    pub const PAUSE: Duration = Duration::from_millis(500);
    const ATTEMPTS: u32 = 3;

    pub fn new(outbound: Outbound, pause: Duration) -> Self {
        Self { outbound, pause }
    }

    /// Sends `call`, again where the provider or the network asks for it, within the account's time-out altogether: the
    /// caller waits, and its own patience does not grow with our attempts.
    pub async fn send(
        &self,
        provider: &dyn Provider,
        account: &AccountView<'_>,
        call: Call,
    ) -> Result<Answer, ProviderError> {
        let attempts = async {
            let mut pause = self.pause;
            for _ in 1..Self::ATTEMPTS {
                match self.once(&call).await {
                    Ok(answer) if !provider.may_retry(&answer) => return Ok(answer),
                    Ok(_) | Err(_) => tokio::time::sleep(pause.mul_f32(rand::random_range(0.5..1.0))).await,
                }
                pause = (pause * 2).min(self.pause * 10);
            }
            self.once(&call).await.map_err(|error| ProviderError::Unavailable(without_url(error)))
        };
        let seconds = account.timeout.as_secs();
        let timed_out = |_| ProviderError::Unavailable(format!("nothing came within {seconds} s"));
        tokio::time::timeout(account.timeout, attempts).await.map_err(timed_out)?
    }

    async fn once(&self, call: &Call) -> Result<Answer, reqwest::Error> {
        self.outbound.send(reqwest::Request::try_from(call.clone())?).await
    }
}

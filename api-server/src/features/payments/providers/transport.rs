//! Makes the calls: one client, a deadline for all attempts together, and the pauses between them.

use std::time::Duration;

use bytes::BytesMut;

use super::{AccountView, Answer, Call, Provider, ProviderError};

/// The longest answer that is read; a checkout session has some 10 KB.
const MAX_ANSWER: usize = 1 << 20;

/// Sends calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    client: reqwest::Client,
    /// The pause before the first repetition; it doubles with each, up to ten times this.
    pause: Duration,
}

impl Transport {
    pub const PAUSE: Duration = Duration::from_millis(500);
    const ATTEMPTS: u32 = 3;

    pub fn new(pause: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, pause })
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
        let request = reqwest::Request::try_from(call.clone())?;
        let mut response = self.client.execute(request).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await?
            && body.len() < MAX_ANSWER
        {
            body.extend_from_slice(&chunk);
        }
        let mut answer = Answer::new(body.freeze());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

/// The address may carry what is nobody's business; the rest says what happened.
fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

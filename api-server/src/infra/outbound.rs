//! The way out to services of others: one client, no redirects, and answers of bounded length.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;

/// The longest answer that is read; a checkout session or a set of keys has some 10 KB.
const MAX_ANSWER: usize = 1 << 20;

/// Sends requests to other services. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound(reqwest::Client);

impl Outbound {
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            // What was declared is what is asked: a redirect could lead into our own network.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self(client))
    }

    /// Sends one request and reads its answer, up to a bound.
    pub async fn send(&self, request: reqwest::Request) -> Result<Response<Bytes>, reqwest::Error> {
        let mut response = self.0.execute(request).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await?
            && body.len() < MAX_ANSWER
        {
            body.extend_from_slice(&chunk);
        }
        let mut answer = Response::new(body.freeze());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

/// The address may carry what is nobody's business; the rest says what happened.
pub fn without_url(error: reqwest::Error) -> String {
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

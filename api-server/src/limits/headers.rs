//! What is left, told to the caller in both families of header names: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-11 name every limit; the older `RateLimit-*` (seconds from now) and
//! `X-RateLimit-*` (Unix seconds) have room for one, and tell the tightest.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use jiff::Timestamp;

use super::{Decision, Outcome, policy::Applied, rate::Verdict};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const CURRENT: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Writes the headers of `decision` into an answer given at `now`.
pub fn write(decision: &Decision<'_>, now: Timestamp, headers: &mut HeaderMap) {
    let Some((applied, verdict)) = decision.entries.iter().min_by_key(|(_, verdict)| tightness(verdict)) else {
        return;
    };
    let (mut policy, mut current) = (String::new(), String::new());
    for (Applied { rate, .. }, verdict) in &decision.entries {
        let comma = if policy.is_empty() { "" } else { ", " };
        let (name, quota, window) = (rate.name.as_str(), rate.rate.quota(), rate.rate.window_ms / 1_000);
        let _ = write!(policy, "{comma}\"{name}\";q={quota};w={window}");
        let _ = write!(current, "{comma}\"{name}\";r={};t={}", verdict.remaining, seconds(verdict.reset_ms));
    }
    for (name, text) in [(POLICY, policy), (CURRENT, current)] {
        // A name is `<policy>/<limit>`, of Kubernetes' letters; anything else is left out rather than quoted wrongly.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    let (quota, reset) = (applied.rate.rate.quota(), seconds(verdict.reset_ms));
    let unix = now.as_second().saturating_add_unsigned(reset);
    headers.insert(LIMIT, quota.into());
    headers.insert(REMAINING, verdict.remaining.into());
    headers.insert(RESET, reset.into());
    headers.insert(X_LIMIT, quota.into());
    headers.insert(X_REMAINING, verdict.remaining.into());
    headers.insert(X_RESET, unix.into());
    if let Outcome::Limited { retry_ms, .. } = decision.outcome {
        headers.insert(RETRY_AFTER, seconds(retry_ms).max(1).into());
    }
}

/// A refusal comes before everything, the longest first; then whoever has the least left.
fn tightness(verdict: &Verdict) -> (bool, u64, u64) {
    let left = if verdict.allowed { verdict.remaining } else { 0 };
    (verdict.allowed, left, u64::MAX - verdict.reset_ms)
}

/// Rounded up: who comes back after that many seconds does not come too early.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

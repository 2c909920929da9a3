//! The providers that move the money. Each is a stateless translator: it writes our intent as a call of its API, and reads
//! its answers and webhooks as our words. It opens no connection and keeps nothing; [`transport`] makes the calls.

pub mod stripe;
pub mod transport;

use std::time::Duration;

use contract::{
    Secret,
    payments::{Account, Mode, Provider as Config},
};
use http::{HeaderMap, Request, Response};
use uuid::Uuid;

use super::{model::Status, money::Money};
use crate::tenancy::TenantSnapshot;

/// One tenant's account at a provider, with its credentials opened.
pub struct AccountView<'a> {
    pub name: &'a str,
    pub mode: Mode,
    pub timeout: Duration,
    pub base_url: Option<&'a str>,
    pub api_version: Option<&'a str>,
    pub secret_key: &'a Secret,
    /// Newest first: while a secret is rolled, both count.
    pub webhook_secrets: Vec<&'a Secret>,
    pub webhook_tolerance_seconds: u32,
}

/// What is to be paid. The same intent always makes the same call, so that a provider recognizes a repetition.
#[derive(Clone, Debug)]
pub struct Intent<'a> {
    /// Ours; also the idempotency key at the provider.
    pub payment: Uuid,
    pub money: &'a Money,
    pub description: &'a str,
    /// Where the payer is sent afterwards.
    pub return_url: &'a str,
}

/// A page on which to pay, as the provider says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The provider's id of it.
    pub reference: String,
    /// Our payment's id, as the provider was given it.
    pub payment: Option<Uuid>,
    pub url: Option<String>,
    pub status: Status,
    /// In the provider's own minor unit.
    pub amount: Option<i64>,
    /// In upper case.
    pub currency: Option<String>,
}

/// A webhook that was signed by the provider.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub kind: String,
    /// What it says about a checkout; of other events nothing.
    pub checkout: Option<Checkout>,
}

/// What a provider is asked to do, ready to send. Repeating it does nothing twice.
pub type Call = Request<String>;
pub type Answer = Response<bytes::Bytes>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Nothing is known of what became of the call: it may be repeated.
    #[error("the payment provider does not answer: {0}")]
    Unavailable(String),
    /// The provider does not take our credentials or our call; for the operator of the tenant to mend.
    #[error("the payment provider refuses the tenant's account: {0}")]
    Account(String),
    /// The provider refuses this payment, and will again.
    #[error("the payment provider refuses the payment: {message}")]
    Refused { code: String, message: String },
}

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error(transparent)]
    Signature(#[from] stripe::signature::SignatureError),
    #[error("the body is not an event: {0}")]
    Body(#[from] serde_json::Error),
    #[error(
        "the body is an object of type {0:?}, which this endpoint does not take: send it snapshot events of API v1"
    )]
    Kind(String),
    #[error("the event is of the other mode than the provider, which is {0:?}")]
    Mode(Mode),
}

pub trait Provider: Send + Sync {
    fn open_checkout(&self, account: &AccountView<'_>, intent: &Intent<'_>) -> Result<Call, ProviderError>;
    fn find_checkout(&self, account: &AccountView<'_>, reference: &str) -> Result<Call, ProviderError>;
    /// Lets nobody pay there any more.
    fn close_checkout(&self, account: &AccountView<'_>, reference: &str) -> Result<Call, ProviderError>;
    /// Reads the answer to any of the three.
    fn read_checkout(&self, answer: &Answer) -> Result<Checkout, ProviderError>;
    /// Whether the same call may do better a moment later.
    fn may_retry(&self, answer: &Answer) -> bool;
    /// In the unit that this provider counts `money` in, as in [`Checkout::amount`].
    fn units(&self, money: &Money) -> Option<i64>;
    /// Believes `body` only if one of the account's secrets signed it.
    fn read_webhook(
        &self,
        account: &AccountView<'_>,
        headers: &HeaderMap,
        body: &[u8],
        now: jiff::Timestamp,
    ) -> Result<Event, WebhookError>;
}

/// The translator of a configured provider and the account to use it with; `None` for one that takes no checkouts here.
pub fn of<'a>(tenant: &'a TenantSnapshot, config: &'a Config) -> Option<(&'static dyn Provider, AccountView<'a>)> {
    let secret = |credential: &str| tenant.secret(&Config::seal_field(&config.name, credential));
    match &config.account {
        Account::Stripe { webhook_signing_secrets, api_version, webhook_tolerance_seconds, .. } => {
            let webhook_secrets = (0..webhook_signing_secrets.len())
                .filter_map(|at| secret(&format!("webhookSigningSecrets/{at}")))
                .collect();
            let account = AccountView {
                name: &config.name,
                mode: config.mode,
                timeout: Duration::from_secs(config.request_timeout_seconds.into()),
                base_url: config.api_base_url.as_deref(),
                api_version: api_version.as_deref(),
                secret_key: secret("secretKey")?,
                webhook_secrets,
                webhook_tolerance_seconds: *webhook_tolerance_seconds,
            };
            Some((&stripe::Stripe, account))
        }
        Account::Cryptomus { .. } => None,
    }
}

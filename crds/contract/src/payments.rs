//! How a tenant takes money.

use serde::{Deserialize, Serialize};

use crate::{Currency, seal::Sealed};

/// One PaymentProvider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// `metadata.name` of the PaymentProvider.
    pub name: String,
    pub mode: Mode,
    /// Whether new payments may be made. What providers say of earlier ones counts in any case.
    #[serde(default = "enabled", skip_serializing_if = "is_enabled")]
    pub enabled: bool,
    /// Takes the payments that name no provider. At most one a tenant.
    pub default: bool,
    /// Currencies it takes; empty means all that the provider takes.
    pub currencies: Vec<Currency>,
    pub request_timeout_seconds: u16,
    /// In place of the provider's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_base_url: Option<String>,
    #[serde(flatten)]
    pub account: Account,
}

fn enabled() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_enabled(enabled: &bool) -> bool {
    *enabled
}

impl Provider {
    /// The field name under which one of this provider's credentials is sealed, such as `providers/acme-stripe/secretKey`.
    #[must_use]
    pub fn seal_field(name: &str, credential: &str) -> String {
        format!("providers/{name}/{credential}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Mode {
    Test,
    Live,
}

/// The account at the provider, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Account {
    Stripe {
        /// Sealed under `secretKey`.
        secret_key: Sealed,
        /// Newest first; sealed under `webhookSigningSecrets/0`, `webhookSigningSecrets/1`.
        webhook_signing_secrets: Vec<Sealed>,
        /// `Stripe-Version` to pin; `None` leaves it to the API's own pin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_version: Option<String>,
        /// How far a webhook's time stamp may be from ours, in seconds.
        webhook_tolerance_seconds: u32,
    },
    Cryptomus {
        merchant_uuid: String,
        /// Sealed under `paymentKey`.
        payment_key: Sealed,
        /// Sealed under `payoutKey`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payout_key: Option<Sealed>,
        /// CIDR ranges that a webhook may come from; empty means any.
        #[serde(default)]
        allowed_source_cidrs: Vec<String>,
    },
}

//! PaymentProvider: how a tenant takes money.

use contract::payments::Mode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::{SecretKeyRef, TenantRef, URL};

/// Which account at which provider, with keys from Secrets.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "PaymentProvider",
    namespaced,
    status = "PaymentProviderStatus",
    doc = "A PaymentProvider is an account through which a tenant takes money. Its keys stay in Secrets.",
    derive = "PartialEq",
    shortname = "payp",
    category = "tenantry",
    selectable = ".spec.tenantRef.name",
    selectable = ".spec.type",
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantRef.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Mode", type_ = "string", priority = 1, json_path = ".spec.mode"),
    printcolumn(name = "Webhook", type_ = "string", priority = 1, json_path = ".status.webhookUrl"),
    printcolumn(name = "Message", type_ = "string", priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message"),
    validation = Rule::new("self.metadata.name.size() <= 50")
        .message("metadata.name must be at most 50 characters long, because other names are made from it"),
    cel
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Stripe') == has(self.stripe)").message("stripe is required with type Stripe and cannot be given with another type").field_path(".stripe"))]
#[x_kube(validation = Rule::new("(self.type == 'Cryptomus') == has(self.cryptomus)").message("cryptomus is required with type Cryptomus and cannot be given with another type").field_path(".cryptomus"))]
#[x_kube(validation = Rule::new("!has(self.apiBaseUrl) || self.mode == 'Test' || self.apiBaseUrl.startsWith('https://')").message("apiBaseUrl must begin with https:// unless mode is Test").field_path(".apiBaseUrl"))]
pub struct PaymentProviderSpec {
    /// The tenant that takes the money.
    #[x_kube(validation = Rule::new("self == oldSelf").message("tenantRef is immutable: delete the PaymentProvider and create it for the other tenant"))]
    pub tenant_ref: TenantRef,

    /// Provider: `Stripe` or `Cryptomus`. The field of that name in lower case holds its settings.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("type is immutable: payments that are under way belong to the provider that began them; create another PaymentProvider"))]
    pub kind: ProviderType,

    /// `Test` takes no money and accepts only test keys; `Live` accepts only live keys.
    pub mode: Mode,

    /// Whether new payments may be made. Webhooks of earlier payments are processed in any case.
    #[serde(default = "default_true")]
    pub enabled: bool,

    /// Takes the payments that name no provider. At most one of a tenant; the oldest wins.
    #[serde(default)]
    pub default: bool,

    /// Currencies that it takes, such as `EUR` or `USDT`; all that the provider takes when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 3, max = 16), regex(pattern = r"^[A-Z0-9]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub currencies: Vec<String>,

    /// How long one request to the provider may take, in seconds.
    #[serde(default = "default_request_timeout_seconds")]
    #[schemars(range(min = 1, max = 60))]
    pub request_timeout_seconds: u16,

    /// In place of the provider's own address: a sandbox or a mock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = URL))]
    pub api_base_url: Option<String>,

    /// Settings of a Stripe account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe: Option<Stripe>,

    /// Settings of a Cryptomus merchant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cryptomus: Option<Cryptomus>,
}

fn default_true() -> bool {
    true
}

fn default_request_timeout_seconds() -> u16 {
    10
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProviderType {
    Stripe,
    Cryptomus,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stripe {
    /// Secret API key (`sk_test_…`, `sk_live_…`) or restricted key (`rk_test_…`, `rk_live_…`).
    pub secret_key_secret_ref: SecretKeyRef,

    /// Signing secrets (`whsec_…`) of the webhook endpoint, newest first. Two while one is being rotated.
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub webhook_signing_secret_refs: Vec<SecretKeyRef>,

    /// `Stripe-Version` to send; the version that the API was built for when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(\.[a-z]+)?$"))]
    pub api_version: Option<String>,

    /// How far a webhook's time stamp may be from ours, in seconds.
    #[serde(default = "default_webhook_tolerance_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub webhook_tolerance_seconds: u32,
}

fn default_webhook_tolerance_seconds() -> u32 {
    300
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cryptomus {
    /// Merchant's id, a UUID.
    #[schemars(length(max = 36), regex(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    pub merchant_uuid: String,

    /// Key that signs payments and their webhooks.
    pub payment_key_secret_ref: SecretKeyRef,

    /// Key that signs payouts; without it there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payout_key_secret_ref: Option<SecretKeyRef>,

    /// Address ranges that webhooks may come from; an empty list means any. The default is the address that Cryptomus
    /// sends from. Not looked at in mode `Test`.
    #[serde(default = "default_allowed_source_cidrs")]
    #[schemars(length(max = 64), inner(length(max = 43)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(range, isCIDR(range))").message("allowedSourceCidrs must be address ranges such as 91.227.144.54/32"))]
    pub allowed_source_cidrs: Vec<String>,
}

fn default_allowed_source_cidrs() -> Vec<String> {
    vec!["91.227.144.54/32".to_owned()]
}

/// What the operator knows about the provider. Never a credential.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentProviderStatus {
    /// `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Address to enter as webhook endpoint at the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,

    /// Which credentials are in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,

    /// `Ready`, `Accepted`, `ResolvedRefs`, `CredentialsVerified` and `Programmed`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Secret that holds the provider's key.
    pub secret_name: String,

    /// Version of the Secret that was read.
    pub resource_version: String,

    /// When the operator last saw another version of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rotated_time: Option<Time>,
}

impl PaymentProviderSpec {
    /// Every Secret key that this provider needs.
    pub fn secret_keys(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let stripe = self.stripe.iter().flat_map(|stripe| {
            std::iter::once(&stripe.secret_key_secret_ref).chain(&stripe.webhook_signing_secret_refs)
        });
        let cryptomus = self.cryptomus.iter().flat_map(|cryptomus| {
            std::iter::once(&cryptomus.payment_key_secret_ref).chain(&cryptomus.payout_key_secret_ref)
        });
        stripe.chain(cryptomus)
    }
}

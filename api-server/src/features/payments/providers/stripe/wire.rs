//! Stripe's words, as far as we listen. An unknown word is no error: Stripe adds some without a new version.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Checkout, Status};

#[derive(Deserialize)]
pub struct EventBody<'a> {
    pub id: String,
    /// `event`; the thin events of API v2 are `v2.core.event` and carry no object.
    pub object: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    pub livemode: Option<bool>,
    #[serde(borrow, default)]
    pub data: EventData<'a>,
}

#[derive(Deserialize)]
pub struct EventData<'a> {
    #[serde(borrow)]
    pub object: &'a RawValue,
}

impl Default for EventData<'_> {
    fn default() -> Self {
        Self { object: RawValue::NULL }
    }
}

/// <https://docs.stripe.com/api/checkout/sessions/object>
#[derive(Deserialize)]
pub struct Session {
    id: String,
    url: Option<String>,
    status: Option<SessionStatus>,
    payment_status: Option<PaymentStatus>,
    amount_total: Option<i64>,
    currency: Option<String>,
    client_reference_id: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    payment_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionStatus {
    Open,
    Complete,
    Expired,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PaymentStatus {
    Paid,
    NoPaymentRequired,
    Unpaid,
    #[serde(other)]
    Unknown,
}

impl Session {
    /// What the session says of itself. What we do not know leaves the payment where it is.
    pub fn status(&self) -> Status {
        match self.status {
            Some(SessionStatus::Open) => Status::Initiated,
            Some(SessionStatus::Complete) => self.completed(),
            Some(SessionStatus::Expired) => Status::Cancelled,
            Some(SessionStatus::Unknown) | None => Status::Pending,
        }
    }

    /// The payer is done; the money may still be on its way.
    pub fn completed(&self) -> Status {
        match self.payment_status {
            Some(PaymentStatus::Paid | PaymentStatus::NoPaymentRequired) => Status::Completed,
            Some(PaymentStatus::Unpaid) => Status::Processing,
            Some(PaymentStatus::Unknown) | None => Status::Pending,
        }
    }

    pub fn into_checkout(self, status: Status) -> Checkout {
        let named = self.client_reference_id.or(self.metadata.and_then(|metadata| metadata.payment_id));
        Checkout {
            reference: self.id,
            payment: named.and_then(|id| Uuid::try_parse(&id).ok()),
            url: self.url,
            status,
            amount: self.amount_total,
            currency: self.currency.map(|code| code.to_uppercase()),
        }
    }
}

#[derive(Default, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorObject,
}

#[derive(Default, Deserialize)]
pub struct ErrorObject {
    #[serde(rename = "type", default)]
    pub kind: String,
    pub code: Option<String>,
    pub message: Option<String>,
}

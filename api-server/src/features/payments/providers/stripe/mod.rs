//! Stripe Checkout, by plain calls of its REST API: the payer pays on Stripe's page, and Stripe tells us by webhook.
//!
//! <https://docs.stripe.com/api/checkout/sessions>

pub mod signature;
mod wire;

use contract::payments::Mode;
use http::{HeaderMap, Method, Request, StatusCode, header};
use jiff::Timestamp;
use url::form_urlencoded;

use self::wire::{ErrorBody, EventBody, Session};
use super::{AccountView, Answer, Call, Checkout, Event, Intent, Provider, ProviderError, WebhookError};
use crate::features::payments::{model::Status, money::Money};

pub struct Stripe;

const BASE_URL: &str = "https://api.stripe.com";
/// The version whose words `wire.rs` knows.
const API_VERSION: &str = "2026-06-24.dahlia";

impl Provider for Stripe {
    fn open_checkout(&self, account: &AccountView<'_>, intent: &Intent<'_>) -> Result<Call, ProviderError> {
        let id = intent.payment.to_string();
        let units = self.units(intent.money).ok_or_else(|| ProviderError::Refused {
            code: "amount_not_representable".to_owned(),
            message: format!("Stripe has no unit for {}: use a whole amount", intent.money),
        })?;
        let return_url = |outcome: &str| {
            let separator = if intent.return_url.contains('?') { '&' } else { '?' };
            format!("{}{separator}payment={id}&outcome={outcome}", intent.return_url)
        };
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("mode", "payment")
            .append_pair("client_reference_id", &id)
            .append_pair("metadata[payment_id]", &id)
            .append_pair("payment_intent_data[metadata][payment_id]", &id)
            .append_pair("line_items[0][quantity]", "1")
            .append_pair("line_items[0][price_data][currency]", &intent.money.currency().as_str().to_lowercase())
            .append_pair("line_items[0][price_data][unit_amount]", &units.to_string())
            .append_pair("line_items[0][price_data][product_data][name]", intent.description)
            .append_pair("success_url", &return_url("success"))
            .append_pair("cancel_url", &return_url("cancelled"))
            .finish();
        call(account, Method::POST, "/v1/checkout/sessions", Some(&id), body)
    }

    fn find_checkout(&self, account: &AccountView<'_>, reference: &str) -> Result<Call, ProviderError> {
        call(account, Method::GET, &format!("/v1/checkout/sessions/{reference}"), None, String::new())
    }

    fn close_checkout(&self, account: &AccountView<'_>, reference: &str) -> Result<Call, ProviderError> {
        let key = format!("expire-{reference}");
        call(account, Method::POST, &format!("/v1/checkout/sessions/{reference}/expire"), Some(&key), String::new())
    }

    fn read_checkout(&self, answer: &Answer) -> Result<Checkout, ProviderError> {
        if answer.status().is_success() {
            let session: Session = serde_json::from_slice(answer.body()).map_err(|error| {
                ProviderError::Unavailable(format!("its answer is not a checkout session: {error}"))
            })?;
            let status = session.status();
            return Ok(session.into_checkout(status));
        }
        let ErrorBody { error } = serde_json::from_slice(answer.body()).unwrap_or_default();
        let said = format!("{} {}", answer.status().as_u16(), error.code.as_deref().unwrap_or(&error.kind));
        Err(match answer.status() {
            // It says that we were here with other parameters, which is nothing the payer could change.
            _ if error.kind == "idempotency_error" => ProviderError::Account(said),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProviderError::Account(said),
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => ProviderError::Unavailable(said),
            status if status.is_client_error() => ProviderError::Refused {
                code: error.code.unwrap_or(error.kind),
                message: error.message.unwrap_or(said),
            },
            _ => ProviderError::Unavailable(said),
        })
    }

    fn may_retry(&self, answer: &Answer) -> bool {
        match answer.headers().get("stripe-should-retry").map(header::HeaderValue::as_bytes) {
            Some(b"true") => true,
            Some(b"false") => false,
            _ => answer.status() == StatusCode::CONFLICT || answer.status().is_server_error(),
        }
    }

    /// Stripe counts in the currency's smallest unit, but in three currencies in another than ISO 4217 does.
    /// <https://docs.stripe.com/currencies#special-cases>
    fn units(&self, money: &Money) -> Option<i64> {
        let minor = money.minor();
        let units = match money.currency().as_str() {
            "ISK" | "UGX" => minor.checked_mul(100)?,
            "MGA" if minor % 100 == 0 => minor / 100,
            "MGA" => return None,
            _ => minor,
        };
        i64::try_from(units).ok()
    }

    fn read_webhook(
        &self,
        account: &AccountView<'_>,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Event, WebhookError> {
        let header = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
        signature::verify(header, body, &account.webhook_secrets, account.webhook_tolerance_seconds, now)?;
        let event: EventBody<'_> = serde_json::from_slice(body)?;
        if event.object != "event" {
            return Err(WebhookError::Kind(event.object));
        }
        let status = match event.kind.as_str() {
            "checkout.session.completed" => None,
            "checkout.session.async_payment_succeeded" => Some(Status::Completed),
            "checkout.session.async_payment_failed" => Some(Status::Failed),
            "checkout.session.expired" => Some(Status::Cancelled),
            _ => {
                return Ok(Event { id: event.id, kind: event.kind, checkout: None });
            }
        };
        // A test account's key can sign nothing that is worth real money, nor the other way round.
        if event.livemode.is_some_and(|live| live != (account.mode == Mode::Live)) {
            return Err(WebhookError::Mode(account.mode));
        }
        let session: Session = serde_json::from_str(event.data.object.get())?;
        let status = status.unwrap_or_else(|| session.completed());
        Ok(Event { id: event.id, kind: event.kind, checkout: Some(session.into_checkout(status)) })
    }
}

fn call(
    account: &AccountView<'_>,
    method: Method,
    path: &str,
    idempotency_key: Option<&str>,
    body: String,
) -> Result<Call, ProviderError> {
    let base = account.base_url.unwrap_or(BASE_URL).trim_end_matches('/');
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", account.secret_key.expose()))
        .header("stripe-version", account.api_version.unwrap_or(API_VERSION));
    if let Some(key) = idempotency_key {
        request =
            request.header("idempotency-key", key).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    // What can be wrong here is the configured address or key; the error names neither.
    request
        .body(body)
        .map_err(|error| ProviderError::Account(format!("apiBaseUrl or secretKey cannot be used: {error}")))
}

#[cfg(test)]
mod tests;

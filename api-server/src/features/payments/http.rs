//! What is said over HTTP, and what that is called.

use axum::extract::State;
use contract::Currency;
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{
    idempotency::{ClaimError, Claimant, IdempotencyKey},
    model::{Kind, Payment, Status},
    money::{Literal, Money},
    providers::ProviderError,
    repo::{self, Filter},
    service::{PaymentsError, Wish},
};
use crate::{
    app::App,
    error::{ApiError, Detail},
    extract::{
        Can, Json, Page, PageQuery, Path, Permission, Principal, Query, Tenant, UserId, Violations,
        permissions::{CancelPayments, InitiatePayments, PayPayments},
    },
    infra::TenantTx,
    openapi::routes,
    reply::{Answer, Envelope, ErrorBody, Reply},
    tenancy::TenantSnapshot,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_payments, create_payment)).routes(routes!(get_payment, cancel_payment))
}

const CREATE: &str = "POST /payments";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const MAX_DESCRIPTION: usize = 500;

#[derive(Debug, Deserialize, ToSchema)]
struct NewPayment {
    /// A number or a string; its digits are taken as they are. No more decimals than the currency has.
    #[schema(value_type = f64, example = 100.00)]
    amount: Literal,
    /// ISO 4217.
    #[schema(example = "USD")]
    currency: String,
    /// What it is for; the payer sees it. At most 500 characters.
    #[schema(example = "Payment for invoice #123", max_length = 500)]
    description: Option<String>,
    /// `initiate` takes the permission `payments:initiate`, `payment` takes `payments:pay`.
    #[serde(rename = "type", default = "payment")]
    kind: Kind,
}

fn payment() -> Kind {
    Kind::Payment
}

/// A payment as callers see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PaymentOut<'a> {
    id: Uuid,
    user_id: UserId,
    /// With the currency's decimals.
    #[schema(value_type = f64, example = 100.00)]
    amount: Literal,
    /// In the currency's smallest unit.
    #[schema(example = "10000")]
    amount_minor: String,
    #[schema(value_type = String, example = "USD")]
    currency: &'a Currency,
    #[serde(rename = "type")]
    kind: Kind,
    status: Status,
    description: Option<&'a str>,
    /// The PaymentProvider that it goes through.
    provider: &'a str,
    /// Where to pay, as long as that is possible.
    checkout_url: Option<&'a str>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureOut<'a>>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// The same as `createdAt`.
    #[serde(rename = "created_at")]
    created_at_alias: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct FailureOut<'a> {
    /// In the provider's words.
    #[schema(example = "amount_too_small")]
    code: &'a str,
    message: &'a str,
}

impl<'a> From<&'a Payment> for PaymentOut<'a> {
    fn from(payment: &'a Payment) -> Self {
        Self {
            id: payment.id,
            user_id: payment.user,
            amount: Literal(payment.money.amount()),
            amount_minor: payment.money.minor().to_string(),
            currency: payment.money.currency(),
            kind: payment.kind,
            status: payment.status,
            description: payment.description.as_deref(),
            provider: &payment.provider,
            checkout_url: payment.checkout_url.as_deref(),
            failure: payment.failure.as_ref().map(|f| FailureOut { code: &f.code, message: &f.message }),
            created_at: payment.created_at,
            updated_at: payment.updated_at,
            created_at_alias: payment.created_at,
        }
    }
}

fn show(payment: &Payment) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::value::to_raw_value(&PaymentOut::from(payment))
}

/// A page of a user's payments, newest first, as their owner sees them.
pub async fn shown_of(tx: &mut TenantTx, user: UserId, page: &Page) -> Result<Vec<Box<RawValue>>, PaymentsError> {
    let payments = repo::list(tx, Filter { user: Some(user), status: None, kind: None }, page).await?;
    Ok(payments.iter().map(show).collect::<Result<_, _>>()?)
}

/// Make a payment
///
/// The answer has `checkoutUrl`, where the payer pays. With an `Idempotency-Key` the request may be repeated: it makes one
/// payment, and a repetition after a lost or failed answer goes on with it.
#[utoipa::path(
    post,
    path = "/payments",
    tag = "payments",
    security(("bearer" = ["payments:pay"]), ("bearer" = ["payments:initiate"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Your name for this request, such as a UUID; kept for 24 hours")),
    request_body = NewPayment,
    responses(
        (status = 201, body = Envelope<PaymentOut>, description = "Made, and open to be paid", headers(
            ("Location" = String, description = "The payment"),
            ("Idempotent-Replayed" = bool, description = "`true` when this is the first request's answer"),
        )),
        (status = 400, body = ErrorBody, description = "A field breaks its rule"),
        (status = 403, body = ErrorBody, description = "The permission of the payment's type is missing"),
        (status = 409, body = ErrorBody, description = "A request with this key is being worked on"),
        (status = 422, body = ErrorBody, description = "The key was used for another request, or no provider takes this payment"),
        (status = 503, body = ErrorBody, description = "The provider does not answer: repeat with the same key"),
    ),
)]
async fn create_payment(
    State(app): State<App>,
    Principal(user): Principal,
    Tenant(tenant): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<NewPayment>,
) -> Answer<Box<RawValue>> {
    let verb = match body.kind {
        Kind::Initiate => InitiatePayments::VERB,
        Kind::Payment => PayPayments::VERB,
    };
    if !user.may(PayPayments::RESOURCE, verb) {
        return Err(ApiError::forbidden("Insufficient permissions"));
    }
    let wish = body.into_wish(&tenant)?;
    let claimant = key.map(|key| {
        let asked_for = (wish.money.to_string(), wish.kind, &wish.description);
        Claimant::new(user.id, CREATE, key, &asked_for)
    });
    let created = app.payments.create(tenant, user.id, wish, claimant, show).await?;
    let mut reply = Reply::created(created.body);
    if let Some(Ok(location)) = created.id.map(|id| HeaderValue::try_from(format!("/api/v1/payments/{id}"))) {
        reply = reply.with_header(header::LOCATION, location);
    }
    if created.replayed {
        reply = reply.with_header(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(reply)
}

impl NewPayment {
    fn into_wish(self, tenant: &TenantSnapshot) -> Result<Wish, ApiError> {
        let mut violations = Violations::default();
        let description = self.description.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(text) = &description {
            violations.require(
                text.chars().count() <= MAX_DESCRIPTION,
                "description",
                "TOO_LONG",
                "use at most 500 characters",
            );
            violations.require(
                !text.chars().any(char::is_control),
                "description",
                "INVALID",
                "use no control characters",
            );
        }
        let currency = Currency::new(self.currency.trim().to_ascii_uppercase())
            .map_err(|error| Detail::new("currency", "INVALID", error.to_string()));
        let money = currency.and_then(|currency| {
            Money::new(self.amount.0, currency).map_err(|error| {
                let field =
                    if matches!(error, super::money::MoneyError::UnknownCurrency(_)) { "currency" } else { "amount" };
                Detail::new(field, "INVALID", error.to_string())
            })
        });
        let return_url = tenant.branding.frontend_url.clone();
        let return_url = return_url.or_else(|| tenant.hostnames.first().map(|host| format!("https://{host}/")));
        match (money, return_url) {
            (Ok(money), Some(return_url)) => {
                violations.into_result()?;
                Ok(Wish { money, kind: self.kind, description, return_url })
            }
            (Err(detail), _) => {
                violations.add(detail);
                Err(violations.into_result().err().unwrap_or_else(|| ApiError::internal("a violation was lost")))
            }
            (Ok(_), None) => Err(ApiError::unprocessable(
                "The tenant has neither a frontend nor a hostname to send the payer back to: set spec.branding.frontendUrl",
            )),
        }
    }
}

/// Which payments.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PaymentFilter {
    /// In this state; upper or lower case.
    #[param(example = "completed")]
    status: Option<String>,
    /// Of this type.
    #[param(example = "payment")]
    r#type: Option<String>,
}

impl TryFrom<PaymentFilter> for Filter {
    type Error = ApiError;

    fn try_from(filter: PaymentFilter) -> Result<Self, ApiError> {
        fn word<T: std::str::FromStr<Err: ToString>>(
            field: &'static str,
            text: Option<String>,
        ) -> Result<Option<T>, ApiError> {
            let parsed = text.map(|text| text.parse::<T>()).transpose();
            parsed.map_err(|error| ApiError::validation(vec![Detail::new(field, "INVALID", error.to_string())]))
        }
        Ok(Self { user: None, status: word("status", filter.status)?, kind: word("type", filter.r#type)? })
    }
}

/// List payments, newest first
///
/// One's own; with the permission `payments:read` everybody's.
#[utoipa::path(
    get,
    path = "/payments",
    tag = "payments",
    security(("bearer" = []), ("apiKey" = [])),
    params(PageQuery, PaymentFilter),
    responses(
        (status = 200, body = Envelope<Vec<PaymentOut>>),
        (status = 400, body = ErrorBody, description = "A parameter breaks its rule"),
        (status = 401, body = ErrorBody, description = "Nobody is signed in"),
    ),
)]
async fn list_payments(
    State(app): State<App>,
    Principal(user): Principal,
    Tenant(tenant): Tenant,
    page: Page,
    Query(filter): Query<PaymentFilter>,
) -> Answer<Vec<Box<RawValue>>> {
    user.own(PayPayments::RESOURCE)?;
    let (payments, pagination) = app.payments.list(&tenant, &user, filter.try_into()?, &page).await?;
    let shown = payments.iter().map(show).collect::<Result<_, _>>().map_err(PaymentsError::from)?;
    Ok(Reply::ok(shown).with_pagination(pagination))
}

/// See a payment
#[utoipa::path(
    get,
    path = "/payments/{id}",
    tag = "payments",
    security(("bearer" = []), ("apiKey" = [])),
    params(("id" = Uuid, Path, description = "The payment")),
    responses(
        (status = 200, body = Envelope<PaymentOut>),
        (status = 401, body = ErrorBody, description = "Nobody is signed in"),
        (status = 404, body = ErrorBody, description = "There is none, or it is not yours"),
    ),
)]
async fn get_payment(
    State(app): State<App>,
    Principal(user): Principal,
    Tenant(tenant): Tenant,
    Path(id): Path<Uuid>,
) -> Answer<Box<RawValue>> {
    user.own(PayPayments::RESOURCE)?;
    let payment = app.payments.get(&tenant, &user, id).await?;
    Ok(Reply::ok(show(&payment).map_err(PaymentsError::from)?))
}

/// Cancel a payment
///
/// Only before it was paid. Another's takes the permission `payments:update` besides.
#[utoipa::path(
    delete,
    path = "/payments/{id}",
    tag = "payments",
    security(("bearer" = ["payments:cancel"])),
    params(("id" = Uuid, Path, description = "The payment")),
    responses(
        (status = 200, body = Envelope<PaymentOut>, description = "Cancelled; nobody can pay it any more"),
        (status = 403, body = ErrorBody, description = "The permission is missing"),
        (status = 404, body = ErrorBody, description = "There is none, or it is not yours"),
        (status = 409, body = ErrorBody, description = "It is past that; the details name the states that can follow"),
        (status = 503, body = ErrorBody, description = "The provider does not answer: try again"),
    ),
)]
async fn cancel_payment(
    State(app): State<App>,
    may: Can<CancelPayments>,
    Tenant(tenant): Tenant,
    Path(id): Path<Uuid>,
) -> Answer<Box<RawValue>> {
    let payment = app.payments.cancel(&tenant, &may, id).await?;
    Ok(Reply::ok(show(&payment).map_err(PaymentsError::from)?).with_message("Payment cancelled"))
}

impl From<PaymentsError> for ApiError {
    fn from(error: PaymentsError) -> Self {
        match error {
            PaymentsError::NotFound => Self::not_found("There is no such payment"),
            PaymentsError::NoProvider(currency) => {
                let message = format!("no payment provider of this tenant takes {currency}");
                Self::unprocessable("This payment cannot be taken")
                    .with_code("NO_PROVIDER")
                    .with_details(vec![Detail::new("currency", "NO_PROVIDER", message)])
            }
            PaymentsError::ProviderGone(_) => {
                Self::unavailable("The payment's provider is not configured at the moment", 60)
                    .with_code("PROVIDER_UNAVAILABLE")
                    .with_cause(error)
            }
            PaymentsError::IllegalMove { from, to } => {
                let next: Vec<_> = from.next().iter().map(|status| status.as_str()).collect();
                let message = match next.as_slice() {
                    [] => format!("{from} is final"),
                    next => format!("from {from} it can become: {}", next.join(", ")),
                };
                Self::conflict(format!("A payment that is {from} cannot become {to}"))
                    .with_code("ILLEGAL_TRANSITION")
                    .with_details(vec![Detail::new("status", "ILLEGAL_TRANSITION", message)])
            }
            PaymentsError::Provider { payment, error } => provider_error(payment, error),
            PaymentsError::Claim(ClaimError::InProgress) => {
                Self::conflict("A request with this Idempotency-Key is being worked on: try again in a moment")
                    .with_code("IDEMPOTENCY_IN_PROGRESS")
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            PaymentsError::Claim(ClaimError::Reused) => {
                Self::unprocessable("This Idempotency-Key was used for a different request: use a new one")
                    .with_code("IDEMPOTENCY_KEY_REUSED")
            }
            PaymentsError::Claim(ClaimError::Db(error)) | PaymentsError::Db(error) => error.into(),
            PaymentsError::Mismatch(_) | PaymentsError::Json(_) | PaymentsError::BrokenOff => Self::internal(error),
        }
    }
}

fn provider_error(payment: Uuid, error: ProviderError) -> ApiError {
    let of = |code: &'static str| Detail::new("payment", code, payment.to_string());
    match error {
        ProviderError::Unavailable(_) => {
            let message =
                "The payment provider does not answer: repeat the request, with the same Idempotency-Key if it had one";
            let error = ApiError::unavailable(message, 5).with_code("PROVIDER_UNAVAILABLE").with_cause(&error);
            error.with_details(vec![of("PENDING")])
        }
        ProviderError::Account(_) => {
            let message =
                "The payment provider does not accept the tenant's account: its operator has to look after that";
            let error = ApiError::new(StatusCode::BAD_GATEWAY, "PROVIDER_ACCOUNT", message).with_cause(&error);
            error.with_details(vec![of("PENDING")])
        }
        ProviderError::Refused { code, message } => {
            let refused = Detail::new("payment", code, message);
            ApiError::unprocessable("The payment provider refuses this payment")
                .with_code("PAYMENT_REFUSED")
                .with_details(vec![refused, of("FAILED")])
        }
    }
}

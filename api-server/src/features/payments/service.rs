//! The verbs. Transactions begin and end here; none is open while a provider is asked.

use std::sync::Arc;

use contract::{Currency, payments::Provider as ProviderConfig};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use super::{
    idempotency::{self, Claim, ClaimError, Claimant, Stored},
    metrics::PaymentMetrics,
    model::{Failure, Kind, Payment, Status},
    money::Money,
    providers::{self, AccountView, Call, Checkout, Intent, Provider, ProviderError, transport::Transport},
    repo::{self, Filter},
    settle::{CREATE, UPDATE_STATUS, record},
};
use crate::{
    extract::{CurrentUser, Page, UserId},
    infra::{Clock, Db},
    reply::Pagination,
    tenancy::TenantSnapshot,
};

/// Payments of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Payments {
    pub(super) db: Db,
    clock: Clock,
    transport: Transport,
    pub metrics: PaymentMetrics,
}

/// What somebody wants to pay, or to be paid.
#[derive(Debug)]
pub struct Wish {
    pub money: Money,
    pub kind: Kind,
    pub description: Option<String>,
    /// Where the payer is sent afterwards.
    pub return_url: String,
}

/// An answer to a wish: the payment as it is shown, or as it was shown to the first request.
#[derive(Debug)]
pub struct Created {
    pub id: Option<Uuid>,
    pub status: u16,
    pub body: Box<RawValue>,
    pub replayed: bool,
}

/// How a payment is shown. The words are those of `http.rs`; the moment is here, in the transaction that keeps them.
pub type Show = fn(&Payment) -> Result<Box<RawValue>, serde_json::Error>;

#[derive(Debug, thiserror::Error)]
pub enum PaymentsError {
    #[error("there is no such payment")]
    NotFound,
    #[error("no payment provider of this tenant takes {0}")]
    NoProvider(Currency),
    #[error("the payment provider {0:?} is not configured any more")]
    ProviderGone(String),
    #[error("a payment that is {from} cannot be {to}")]
    IllegalMove { from: Status, to: Status },
    #[error("{error}")]
    Provider { payment: Uuid, error: ProviderError },
    #[error("the payment provider's page for this payment is about something else: {0}")]
    Mismatch(&'static str),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Db(#[from] sqlx::Error),
    #[error("a payment could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the work on the payment was broken off")]
    BrokenOff,
}

/// What a claim on an idempotency key lets one do.
enum Begun {
    Open(Box<Payment>),
    Answered(Stored),
}

impl Payments {
    pub fn new(db: Db, clock: Clock, transport: Transport, metrics: PaymentMetrics) -> Self {
        Self { db, clock, transport, metrics }
    }

    /// Makes a payment and opens it at the provider. With `claimant`, a repetition gets the first one's answer, or goes on
    /// where it broke off.
    pub async fn create(
        &self,
        tenant: Arc<TenantSnapshot>,
        user: UserId,
        wish: Wish,
        claimant: Option<Claimant>,
        show: Show,
    ) -> Result<Created, PaymentsError> {
        // On a task of its own: a caller who hangs up must not stop it between the provider's yes and our note of it.
        let this = self.clone();
        let work = async move { this.create_to_the_end(&tenant, user, wish, claimant.as_ref(), show).await };
        tokio::spawn(tracing::Instrument::in_current_span(work)).await.map_err(|_| PaymentsError::BrokenOff)?
    }

    async fn create_to_the_end(
        &self,
        tenant: &TenantSnapshot,
        user: UserId,
        wish: Wish,
        claimant: Option<&Claimant>,
        show: Show,
    ) -> Result<Created, PaymentsError> {
        let payment = match self.db.within(self.begin(tenant, user, wish, claimant)).await? {
            Begun::Answered(Stored { status, body }) => {
                return Ok(Created { id: None, status, body: RawValue::from_string(body)?, replayed: true });
            }
            Begun::Open(payment) => *payment,
        };
        if let Some(Failure { code, message }) = payment.failure {
            // The first request was told so as well; to ask the provider again would change nothing.
            return Err(PaymentsError::Provider {
                payment: payment.id,
                error: ProviderError::Refused { code, message },
            });
        }
        match self.open(tenant, &payment).await {
            Ok(checkout) => self.db.within(self.opened(tenant, payment.id, checkout, claimant, show)).await,
            Err(error) => {
                self.db.within(self.not_opened(tenant, payment.id, &error, claimant)).await?;
                Err(error)
            }
        }
    }

    /// Commits the intent.
    async fn begin(
        &self,
        tenant: &TenantSnapshot,
        user: UserId,
        wish: Wish,
        claimant: Option<&Claimant>,
    ) -> Result<Begun, PaymentsError> {
        let now = self.now();
        let config = provider_for(tenant, wish.money.currency())
            .ok_or_else(|| PaymentsError::NoProvider(wish.money.currency().clone()))?;
        let payment = Payment {
            id: Uuid::now_v7(),
            user,
            money: wish.money,
            kind: wish.kind,
            status: Status::Pending,
            description: wish.description,
            provider: config.name.clone(),
            reference: None,
            checkout_url: None,
            return_url: wish.return_url,
            failure: None,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.db.begin(tenant.id).await?;
        if let Some(claimant) = claimant {
            // As long as the provider may take, and a little for ourselves.
            let lease = SignedDuration::from_secs(i64::from(config.request_timeout_seconds) + 10);
            match idempotency::claim(&mut tx, claimant, payment.id, now, lease).await? {
                Claim::New => {}
                Claim::Answered(stored) => return Ok(Begun::Answered(stored)),
                Claim::GoOn(id) => {
                    let payment = repo::find(&mut tx, id).await?.ok_or(PaymentsError::NotFound)?;
                    tx.commit().await?;
                    return Ok(Begun::Open(Box::new(payment)));
                }
            }
        }
        repo::insert(&mut tx, &payment).await?;
        let details =
            json!({ "amount": payment.money.to_string(), "type": payment.kind, "provider": payment.provider });
        record(&mut tx, &payment, Some(user), CREATE, details).await?;
        tx.commit().await?;
        Ok(Begun::Open(Box::new(payment)))
    }

    /// Has the provider open a page for it, or give the one that it opened before.
    async fn open(&self, tenant: &TenantSnapshot, payment: &Payment) -> Result<Checkout, PaymentsError> {
        let (provider, account) = provider_of(tenant, payment)?;
        let intent = Intent {
            payment: payment.id,
            money: &payment.money,
            description: payment.description.as_deref().unwrap_or("Payment"),
            return_url: &payment.return_url,
        };
        self.ask(provider, &account, payment.id, provider.open_checkout(&account, &intent)).await
    }

    /// Notes the page, and the answer under the idempotency key.
    async fn opened(
        &self,
        tenant: &TenantSnapshot,
        id: Uuid,
        checkout: Checkout,
        claimant: Option<&Claimant>,
        show: Show,
    ) -> Result<Created, PaymentsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let mut payment = repo::lock(&mut tx, id).await?.ok_or(PaymentsError::NotFound)?;
        let (provider, _) = provider_of(tenant, &payment)?;
        // The payer, or the provider's webhook, may have been faster than we are.
        self.take(&mut tx, provider, &mut payment, checkout, None, "checkout").await?;
        let body = show(&payment)?;
        let stored = Stored { status: 201, body: body.get().to_owned() };
        if let Some(claimant) = claimant {
            idempotency::finish(&mut tx, claimant, &stored).await?;
        }
        tx.commit().await?;
        Ok(Created { id: Some(id), status: stored.status, body, replayed: false })
    }

    /// Notes a refusal for good; leaves everything else to a repetition.
    async fn not_opened(
        &self,
        tenant: &TenantSnapshot,
        id: Uuid,
        error: &PaymentsError,
        claimant: Option<&Claimant>,
    ) -> Result<(), PaymentsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        if let PaymentsError::Provider { error: ProviderError::Refused { code, message }, .. } = error
            && let Some(mut payment) = repo::lock(&mut tx, id).await?
            && payment.status.may_become(Status::Failed)
        {
            let details = json!({ "oldStatus": payment.status, "newStatus": Status::Failed, "reason": code });
            payment.status = Status::Failed;
            payment.failure = Some(Failure { code: code.clone(), message: message.clone() });
            payment.updated_at = self.now();
            repo::update(&mut tx, &payment).await?;
            record(&mut tx, &payment, None, UPDATE_STATUS, details).await?;
        }
        if let Some(claimant) = claimant {
            idempotency::release(&mut tx, claimant, self.now()).await?;
        }
        Ok(tx.commit().await?)
    }

    pub async fn get(&self, tenant: &TenantSnapshot, user: &CurrentUser, id: Uuid) -> Result<Payment, PaymentsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let payment = repo::find(&mut tx, id).await?.filter(|payment| sees(user, payment));
        tx.commit().await?;
        payment.ok_or(PaymentsError::NotFound)
    }

    /// One's own, or with `payments:read` everybody's.
    pub async fn list(
        &self,
        tenant: &TenantSnapshot,
        user: &CurrentUser,
        mut filter: Filter,
        page: &Page,
    ) -> Result<(Vec<Payment>, Pagination), PaymentsError> {
        if !user.may("payments", "read") {
            filter.user = Some(user.id);
        }
        let mut tx = self.db.begin(tenant.id).await?;
        let mut payments = repo::list(&mut tx, filter, page).await?;
        let total = if page.wants_total() { Some(repo::count(&mut tx, filter).await?) } else { None };
        tx.commit().await?;
        let pagination = page.cut(&mut payments, total, |payment| (payment.created_at, payment.id));
        Ok((payments, pagination))
    }

    /// Calls a payment off: first at the provider, so that nobody can pay it any more, then here. Another's takes
    /// `payments:update`.
    pub async fn cancel(
        &self,
        tenant: &TenantSnapshot,
        user: &CurrentUser,
        id: Uuid,
    ) -> Result<Payment, PaymentsError> {
        let payment = self.db.within(self.get(tenant, user, id)).await?;
        if payment.user != user.id && !user.may("payments", "update") {
            return Err(PaymentsError::NotFound);
        }
        allowed(payment.status, Status::Cancelled)?;
        let checkout = self.close(tenant, &payment).await?;
        self.db.within(self.closed(tenant, user, id, checkout)).await
    }

    /// Notes what the page became.
    async fn closed(
        &self,
        tenant: &TenantSnapshot,
        user: &CurrentUser,
        id: Uuid,
        checkout: Checkout,
    ) -> Result<Payment, PaymentsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let mut payment = repo::lock(&mut tx, id).await?.ok_or(PaymentsError::NotFound)?;
        let (provider, _) = provider_of(tenant, &payment)?;
        self.take(&mut tx, provider, &mut payment, checkout, Some(user.id), "cancel").await?;
        tx.commit().await?;
        match payment.status {
            Status::Cancelled => Ok(payment),
            // It was paid while we came to call it off.
            from => Err(PaymentsError::IllegalMove { from, to: Status::Cancelled }),
        }
    }

    /// Has the provider close the page, and says what it became.
    async fn close(&self, tenant: &TenantSnapshot, payment: &Payment) -> Result<Checkout, PaymentsError> {
        let (provider, account) = provider_of(tenant, payment)?;
        let reference = match &payment.reference {
            Some(reference) => reference.clone(),
            // The answer to our opening it was lost: the provider knows whether there is a page.
            None => self.open(tenant, payment).await?.reference,
        };
        let closed = self.ask(provider, &account, payment.id, provider.close_checkout(&account, &reference)).await;
        match closed {
            // It is not open any more. What is it then?
            Err(PaymentsError::Provider { error: ProviderError::Refused { .. }, .. }) => {
                self.ask(provider, &account, payment.id, provider.find_checkout(&account, &reference)).await
            }
            closed => closed,
        }
    }

    async fn ask(
        &self,
        provider: &dyn Provider,
        account: &AccountView<'_>,
        payment: Uuid,
        call: Result<Call, ProviderError>,
    ) -> Result<Checkout, PaymentsError> {
        let answer = async { provider.read_checkout(&self.transport.send(provider, account, call?).await?) };
        answer.await.map_err(|error| PaymentsError::Provider { payment, error })
    }

    /// In microseconds, as the database keeps it.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        now.round(Unit::Microsecond).unwrap_or(now)
    }
}

fn sees(user: &CurrentUser, payment: &Payment) -> bool {
    payment.user == user.id || user.may("payments", "read")
}

fn allowed(from: Status, to: Status) -> Result<(), PaymentsError> {
    if from.may_become(to) { Ok(()) } else { Err(PaymentsError::IllegalMove { from, to }) }
}

/// The tenant's default provider where it takes the currency; else the first that does.
fn provider_for<'a>(tenant: &'a TenantSnapshot, currency: &Currency) -> Option<&'a ProviderConfig> {
    let takes = |config: &&ProviderConfig| {
        config.enabled
            && (config.currencies.is_empty() || config.currencies.contains(currency))
            && providers::of(tenant, config).is_some()
    };
    let mut able: Vec<_> = tenant.providers.iter().filter(takes).collect();
    able.sort_by_key(|config| !config.default);
    able.first().copied()
}

fn provider_of<'a>(
    tenant: &'a TenantSnapshot,
    payment: &Payment,
) -> Result<(&'static dyn Provider, AccountView<'a>), PaymentsError> {
    let config = tenant.providers.iter().find(|config| config.name == payment.provider);
    let found = config.and_then(|config| providers::of(tenant, config));
    found.ok_or_else(|| PaymentsError::ProviderGone(payment.provider.clone()))
}

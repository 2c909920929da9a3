//! What a provider's word does to a payment: whether it comes as an answer or as a webhook, it goes through
//! [`Payments::take`], and so is weighed, moved and recorded in one way.

use serde_json::json;
use uuid::Uuid;

use super::{
    metrics::Outcome,
    model::{News, Payment, Status},
    providers::{AccountView, Checkout, Event, Provider},
    repo,
    service::{Payments, PaymentsError},
};
use crate::{extract::UserId, features::audit, infra::TenantTx, tenancy::TenantSnapshot};

pub(super) const CREATE: &str = "CREATE";
pub(super) const UPDATE_STATUS: &str = "UPDATE_STATUS";

impl Payments {
    /// Takes in an event that the provider has signed.
    pub async fn receive(
        &self,
        tenant: &TenantSnapshot,
        provider: &dyn Provider,
        account: &AccountView<'_>,
        event: Event,
    ) -> Result<Outcome, PaymentsError> {
        let now = self.now();
        let mut tx = self.db.begin(tenant.id).await?;
        if !repo::insert_event(&mut tx, account.name, &event.id, &event.kind, now).await? {
            return Ok(Outcome::Repeated);
        }
        let (outcome, payment) = match event.checkout {
            None => (Outcome::Ignored, None),
            Some(checkout) => self.apply(&mut tx, provider, account, checkout, &event.id).await?,
        };
        repo::update_event(&mut tx, account.name, &event.id, outcome.as_str(), payment).await?;
        tx.commit().await?;
        Ok(outcome)
    }

    async fn apply(
        &self,
        tx: &mut TenantTx,
        provider: &dyn Provider,
        account: &AccountView<'_>,
        checkout: Checkout,
        event: &str,
    ) -> Result<(Outcome, Option<Uuid>), PaymentsError> {
        let known = repo::find_by_reference(tx, account.name, &checkout.reference).await?;
        let found = match known.or(checkout.payment) {
            Some(id) => repo::lock(tx, id).await?.filter(|payment| payment.provider == account.name),
            None => None,
        };
        // Other things may be sold through the same account, and they are none of ours.
        let Some(mut payment) = found else {
            return Ok((Outcome::Unknown, None));
        };
        let (id, reference) = (payment.id, checkout.reference.clone());
        match self.take(tx, provider, &mut payment, checkout, None, event).await {
            Ok(true) => Ok((Outcome::Applied, Some(id))),
            Ok(false) => Ok((Outcome::Stale, Some(id))),
            Err(PaymentsError::Mismatch(field)) => {
                tracing::warn!(payment.id = %id, event, reference, field, "webhook about other money changes nothing");
                Ok((Outcome::Mismatch, Some(id)))
            }
            Err(error) => Err(error),
        }
    }

    /// Moves a locked payment to where the provider says it is, and records that. True when it moved.
    pub(super) async fn take(
        &self,
        tx: &mut TenantTx,
        provider: &dyn Provider,
        payment: &mut Payment,
        checkout: Checkout,
        by: Option<UserId>,
        reason: &str,
    ) -> Result<bool, PaymentsError> {
        let before = payment.status;
        let moved = match payment.weigh(&checkout, provider.units(&payment.money)) {
            News::Mismatch(field) => return Err(PaymentsError::Mismatch(field)),
            News::Moves(status) => {
                payment.status = status;
                true
            }
            News::Nothing => false,
        };
        let new_page = payment.reference.is_none();
        if new_page {
            payment.reference = Some(checkout.reference);
        }
        // Where nothing can be paid any more, nobody is sent.
        payment.checkout_url = match payment.status {
            Status::Pending | Status::Initiated => checkout.url.or(payment.checkout_url.take()),
            _ => None,
        };
        if moved || new_page {
            payment.updated_at = self.now();
            repo::update(tx, payment).await?;
        }
        if moved {
            let details = json!({ "oldStatus": before, "newStatus": payment.status, "reason": reason });
            record(tx, payment, by, UPDATE_STATUS, details).await?;
        }
        Ok(moved)
    }
}

/// The two records of a move, in its transaction.
pub(super) async fn record(
    tx: &mut TenantTx,
    payment: &Payment,
    user: Option<UserId>,
    action: &'static str,
    details: serde_json::Value,
) -> Result<(), sqlx::Error> {
    repo::insert_transaction(tx, payment, action, &details).await?;
    let entry = audit::Entry::new("payment", action).of(payment.id.to_string()).by(user).with(details);
    audit::record_in_tx(tx, &entry, payment.updated_at).await
}

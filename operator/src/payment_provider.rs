//! PaymentProvider: says whether the account is in use and with which credentials, in the words of the verdict that its
//! Tenant's reconcile left. Never a credential.

use std::sync::Arc;

use crds::{
    PaymentProvider, PaymentProviderStatus, Platform, Tenant,
    conditions::{ACCEPTED, CREDENTIALS_VERIFIED, PROGRAMMED, READY, RESOLVED_REFS, of, reasons},
    payment_provider::{Credentials, ProviderType},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{Conditions, State},
    queue::Action,
    render::payments::Origin,
    tenant::{
        outcome::{Outcome, Standing},
        pending,
        status::{judged, roll_up},
        tell,
    },
};

pub async fn reconcile(provider: Arc<PaymentProvider>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    if provider.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (namespace, name) = (provider.namespace().unwrap_or_default(), &provider.spec.tenant_ref.name);
    let outcome = ctx.outcomes.get(&namespace, name);
    let tenant = ctx.stores.tenants.get(&namespace, name);
    let standing =
        Outcome::standing(outcome.as_deref(), |outcome| &outcome.providers, &provider.metadata, tenant.is_some());
    if matches!(standing, Standing::Pending) {
        return pending(&ctx, provider.as_ref()).await;
    }
    let (before, now) = (ctx.provider_statuses.of(&provider), ctx.now());
    let (mut status, conditions) = status(&provider, &before, &standing, now);
    if let Some(tenant) = &tenant {
        status.webhook_url = webhook_url(&provider, tenant, ctx.stores.platform_of(tenant).as_deref());
    }
    if ctx.provider_statuses.write(&ctx.client, &provider, &status).await? {
        tell(&ctx, provider.as_ref(), &conditions);
    }
    Ok(Action::await_change())
}

fn status<'a>(
    provider: &PaymentProvider,
    before: &'a PaymentProviderStatus,
    standing: &Standing<'_, Option<Origin>>,
    now: Timestamp,
) -> (PaymentProviderStatus, Conditions<'a>) {
    let generation = provider.metadata.generation;
    let mut conditions = Conditions::new(of::PAYMENT_PROVIDER, &before.conditions, generation, now);
    judged(&mut conditions, standing, &provider.spec.tenant_ref.name);
    conditions.set(
        CREDENTIALS_VERIFIED,
        State::Unknown,
        reasons::NOT_VERIFIED,
        "the form of the credentials was checked; the provider was not asked",
    );
    roll_up(&mut conditions, &[ACCEPTED, RESOLVED_REFS, PROGRAMMED]);
    if conditions.holds(READY) && !provider.spec.enabled {
        let message = "as spec.enabled asks, no new payments are made; webhooks of earlier ones are processed";
        conditions.set(READY, State::True, reasons::DISABLED, message);
    }
    let status = PaymentProviderStatus {
        observed_generation: generation,
        webhook_url: before.webhook_url.clone(),
        credentials: credentials(before.credentials.as_ref(), standing, now),
        conditions: conditions.clone().into_vec(),
    };
    (status, conditions)
}

/// The credentials in use: those of today's Secret, or the last good ones while it cannot be used.
fn credentials(
    before: Option<&Credentials>,
    standing: &Standing<'_, Option<Origin>>,
    now: Timestamp,
) -> Option<Credentials> {
    let Standing::Judged { verdict, .. } = standing else {
        return before.cloned();
    };
    if !verdict.included {
        return None;
    }
    match &verdict.detail {
        Some(Origin { secret_name, resource_version })
            if verdict.problems.iter().all(|p| p.condition != RESOLVED_REFS) =>
        {
            let last_rotated_time = match before {
                Some(before) if before.secret_name == *secret_name && before.resource_version == *resource_version => {
                    before.last_rotated_time.clone()
                }
                Some(_) => Some(Time(now)),
                None => None,
            };
            Some(Credentials {
                secret_name: secret_name.clone(),
                resource_version: resource_version.clone(),
                last_rotated_time,
            })
        }
        _ => before.cloned(),
    }
}

/// Where the provider is to send its webhooks. Plain HTTP only where the Platform's Ingress has no certificate.
fn webhook_url(provider: &PaymentProvider, tenant: &Tenant, platform: Option<&Platform>) -> Option<String> {
    let held = tenant.status.iter().flat_map(|status| &status.hostnames).next();
    let hostname = held.or_else(|| tenant.spec.hostnames.first())?;
    let plain =
        platform.and_then(|platform| platform.spec.ingress.as_ref()).is_some_and(|ingress| ingress.tls.is_none());
    let scheme = if plain { "http" } else { "https" };
    match provider.spec.kind {
        ProviderType::Stripe => Some(format!("{scheme}://{hostname}/api/v1/payments/webhook")),
        // The API has no route for its webhooks yet, and an address that answers 404 helps nobody.
        ProviderType::Cryptomus => None,
    }
}

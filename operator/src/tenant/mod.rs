//! Tenant: the only author of rendered configuration.
//!
//! One reconcile is five steps, each in the file of its name: *dereference* (what does it refer to) → *validate* (what of
//! it can be served; pure) → *build* (the ConfigMap; pure) → *apply* → *status* (pure), which includes what the replicas
//! say. What [`validate`] finds wrong never stops what was last good; its table says what goes on. The verdicts on the
//! objects around the Tenant are left in [`outcome`], where their own reconcilers find them.

pub mod apply;
pub mod build;
pub mod cleanup;
pub mod dereference;
pub mod outcome;
pub mod purge;
pub mod signing_key;
pub mod status;
pub mod validate;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use contract::Revision;
use crds::{
    Tenant, TenantStatus,
    conditions::{EXPIRED, PROGRAMMED, READY, SUSPENDED, reasons::SIGNING_KEY_ROTATED},
};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};

use self::{
    dereference::{Dereferenced, dereference},
    outcome::Serving,
    validate::{ValidatedTenant, validate},
};
use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{Conditions, Transition},
    replicas::Loaded,
    stores::Key,
};

/// How long the replicas may take to answer before the status says that some have not. Short: whatever changes
/// meanwhile waits for this visit to end.
const ANSWER: Duration = Duration::from_secs(1);
/// How soon replicas that were behind, or refused, are asked again. Pods that come or go tell of themselves.
const ASK_AGAIN: Duration = Duration::from_secs(2);

pub async fn reconcile(tenant: Arc<Tenant>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    if tenant.metadata.deletion_timestamp.is_some() {
        return cleanup::cleanup(&ctx, &tenant).await;
    }
    cleanup::hold(&ctx, &tenant).await?;
    let now = ctx.now();
    let mut before = ctx.tenant_statuses.of(&tenant);
    let opened = status::opened(&tenant, &before, now);
    let announced = async {
        match &opened {
            Some(opened) => ctx.tenant_statuses.write(&ctx.client, &tenant, opened).await,
            None => Ok(false),
        }
    };
    let served = async {
        let mut found = dereference(&ctx, tenant.clone()).await?;
        signing_key::introduce(&mut found.signing_keys, found.stored.as_ref(), &before);
        let mut validated = validate(&found, now);
        validated.outcome.serving = serve(&ctx, &found, &mut validated).await?;
        Ok((validated, found.signing_keys.introducing))
    };
    // What is said first need not be waited for by what is served.
    let ((validated, introducing), _) = tokio::try_join!(served, announced)?;
    before = opened.unwrap_or(before);

    let (status, conditions) = status::status(&tenant, &before, &validated, ctx.now());
    ctx.outcomes.put((tenant.namespace().unwrap_or_default(), tenant.name_any()), validated.outcome.clone());
    ctx.tenant_statuses.write(&ctx.client, &tenant, &status).await?;
    tell(&ctx, tenant.as_ref(), &conditions);
    tell_of_rotation(&ctx, &tenant, &before, &status);
    Ok(next_visit(&validated, introducing, now))
}

/// Brings what was found to be served to the API, and asks who has it.
async fn serve(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &mut ValidatedTenant,
) -> Result<Option<Serving>, ReconcileError> {
    let tenant = found.tenant.as_ref();
    let Some((platform, config)) = &validated.config else {
        return Ok(None);
    };
    let (revision, document) = match build::document(tenant, platform, config) {
        Ok(built) => built,
        Err(problem) => {
            validated.problems.push(problem);
            validated.config = None;
            return Ok(None);
        }
    };
    apply::document(ctx, document, found.stored.as_ref()).await?;
    apply::remove_orphans(ctx, tenant).await?;
    signing_key::retire(ctx, &found.signing_keys).await?;
    let loaded = ask(ctx, tenant, platform, &revision).await;
    Ok(Some(Serving { revision, loaded }))
}

async fn ask(ctx: &Ctx, tenant: &Tenant, platform: &str, revision: &Revision) -> Loaded {
    let key = Key::Platform(tenant.namespace().unwrap_or_default(), platform.to_owned());
    ctx.replicas.ask(&ctx.stores.pods.find(&key), &tenant.name_any(), revision, ANSWER).await
}

fn next_visit(validated: &ValidatedTenant, introducing: bool, now: Timestamp) -> Action {
    let loaded = validated.outcome.serving.as_ref().map(|serving| &serving.loaded);
    let behind = loaded.filter(|loaded| loaded.ready > 0 && !loaded.everywhere()).map(|_| ASK_AGAIN);
    // Everybody has the new signing key, so it may sign.
    let introduced = (introducing && loaded.is_some() && behind.is_none()).then_some(Duration::ZERO);
    let due = validated.next.map(|at| until(at, now));
    match behind.into_iter().chain(introduced).chain(due).min() {
        Some(wait) => Action::requeue(wait),
        None => Action::await_change(),
    }
}

/// From `now` until just after `at`.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(1)
}

fn tell_of_rotation(ctx: &Ctx, tenant: &Tenant, before: &TenantStatus, after: &TenantStatus) {
    if let (Some(before), Some(after)) = (&before.signing_key, &after.signing_key)
        && before.secret_name != after.secret_name
    {
        let note = format!(
            "the key in Secret {:?} signs now; the one in {:?} verifies until its last token has expired",
            after.secret_name, before.secret_name
        );
        ctx.events.normal(tenant, SIGNING_KEY_ROTATED, "Rotate", note);
    }
}

/// Events for what changed: a warning for what is not well, a note for what became well again and for what is served
/// for the first time. That a new object is merely acceptable is no event.
pub(crate) fn tell<K: kube::Resource<DynamicType = ()>>(ctx: &Ctx, object: &K, conditions: &Conditions<'_>) {
    for Transition { before, after } in conditions.transitions().filter(|transition| transition.after.type_ != READY) {
        let was = before.map(|before| before.status.as_str());
        // `Suspended` and `Expired` are well when they are false, and worth a word when they begin to hold.
        let (well, unwell) = match after.type_.as_str() {
            SUSPENDED | EXPIRED => (was == Some("True"), false),
            PROGRAMMED => (after.status == "True", after.status == "False"),
            _ => (was == Some("False") && after.status == "True", after.status == "False"),
        };
        let begins = matches!(after.type_.as_str(), SUSPENDED | EXPIRED) && after.status == "True";
        if unwell {
            ctx.events.warning(object, &after.reason, "Reconcile", after.message.as_str());
        } else if well || begins {
            ctx.events.normal(object, &after.reason, "Reconcile", after.message.as_str());
        }
    }
}

//! Tenant: the only author of rendered configuration.
//!
//! One reconcile is five steps, each in the file of its name: *dereference* (what does it refer to) → *validate* (what of
//! it can be served; pure) → *build* (the ConfigMap; pure) → *apply* → *status* (pure), which includes what the replicas
//! say. What [`validate`] finds wrong never stops what was last good; its table says what goes on. The verdicts on the
//! objects around the Tenant are left in [`outcome`], where their own reconcilers find them.

pub mod apply;
pub mod build;
pub mod cleanup;
pub mod database;
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

use crds::{
    Tenant, TenantStatus,
    conditions::{EXPIRED, PROGRAMMED, READY, SUSPENDED, reasons::SIGNING_KEY_ROTATED},
};
use jiff::Timestamp;
use kube::ResourceExt;

use self::{
    cleanup::Hold,
    dereference::{Dereferenced, dereference},
    outcome::{Outcome, Serving},
    validate::{ValidatedTenant, validate},
};
use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{Conditions, Transition},
    queue::{Action, Visit},
    replicas::Loaded,
    statuses::{Judged, OPENING},
};

/// How long the replicas may take to load a document before the status says that some have not. Short: whatever changes
/// meanwhile waits for this visit to end. What they say later is told by them.
const ANSWER: Duration = Duration::from_millis(750);

/// When one replica says late that it has a document, the others are about to: one status is to count them all.
const OTHERS: Duration = Duration::from_millis(100);

// Who counts the replicas need not say first that it is about to.
const _: () = assert!(ANSWER.as_millis() < OPENING.as_millis());

/// Looks at as much as there is to look at.
pub async fn visit(tenant: Arc<Tenant>, visit: Visit, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    match ctx.outcomes.get(&tenant.namespace().unwrap_or_default(), &tenant.name_any()) {
        Some(known) if visit == Visit::Answers => answers(tenant, &known, ctx).await,
        _ => Box::pin(reconcile(tenant, ctx)).await,
    }
}

pub async fn reconcile(tenant: Arc<Tenant>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    if tenant.metadata.deletion_timestamp.is_some() {
        return Box::pin(cleanup::cleanup(&ctx, &tenant)).await;
    }
    let hold = cleanup::hold(&ctx, &tenant).await?;
    if hold == Hold::Gone {
        return Ok(Action::await_change());
    }
    let now = ctx.now();
    let mut found = dereference(&ctx, tenant.clone()).await?;
    signing_key::introduce(&mut found.signing_keys, found.stored.as_ref(), &ctx.tenant_statuses.of(&tenant));
    let mut validated = validate(&found, now);
    let Served::There(serving) = serve(&ctx, &found, &mut validated, hold).await? else {
        return Ok(Action::await_change());
    };
    validated.outcome.serving = serving;

    let before = ctx.tenant_statuses.of(&tenant);
    let (status, conditions) = status::status(&tenant, &before, &validated, ctx.now());
    ctx.outcomes.put((tenant.namespace().unwrap_or_default(), tenant.name_any()), validated.outcome.clone());
    ctx.tenant_statuses.write(&ctx.client, &tenant, &status).await?;
    tell(&ctx, tenant.as_ref(), &conditions);
    tell_of_rotation(&ctx, &tenant, &before, &status);
    let due = validated.next.map(|at| until(at, now));
    let again = validated.outcome.serving.filter(|serving| {
        // They said more before anybody knew that it is of interest; or everybody has the new signing key, so it may sign.
        now_loaded(&ctx, &tenant, serving) != serving.loaded
            || found.signing_keys.introducing && (serving.loaded.ready == 0 || serving.loaded.everywhere())
    });
    match again.map(|_| Duration::ZERO).into_iter().chain(due).min() {
        Some(wait) => Ok(Action::requeue(wait)),
        None => Ok(Action::await_change()),
    }
}

/// The replicas say something else about a Tenant of which all else stands: nothing is read, and only the status is
/// written.
async fn answers(tenant: Arc<Tenant>, known: &Outcome, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    let before = ctx.tenant_statuses.of(&tenant);
    let stands = tenant.metadata.deletion_timestamp.is_none() && known.generation == tenant.metadata.generation;
    let Some(serving) = known.serving.as_ref().filter(|_| stands) else {
        // The whole visit that is to come asks them anyway.
        return Ok(Action::await_change());
    };
    if now_loaded(&ctx, &tenant, serving) == serving.loaded {
        return Ok(Action::await_change());
    }
    let platform = (tenant.namespace().unwrap_or_default(), serving.platform.clone());
    let loaded = ctx.replicas.settled(&platform, &tenant.name_any(), &serving.revision, OTHERS).await;
    // What waits for all of them to have it (a new signing key) goes on now.
    let arrived = loaded.everywhere() && !serving.loaded.everywhere();
    let serving = Serving { loaded, ..serving.clone() };
    let (status, conditions) = status::answered(&tenant, &before, &serving, ctx.now());
    let key = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    ctx.outcomes.put(key, Outcome { serving: Some(serving), ..known.clone() });
    ctx.tenant_statuses.write(&ctx.client, &tenant, &status).await?;
    tell(&ctx, tenant.as_ref(), &conditions);
    Ok(if arrived { Action::requeue(Duration::ZERO) } else { Action::await_change() })
}

/// An object whose verdict is somebody else's to find, and not there yet.
pub(crate) async fn pending<K: Judged>(ctx: &Ctx, object: &K) -> Result<Action, ReconcileError> {
    let statuses = K::statuses(ctx);
    if let Some(wait) = statuses.patience(object) {
        return Ok(Action::requeue(wait));
    }
    statuses.open(&ctx.client, object, None, ctx.now()).await?;
    Ok(Action::await_change())
}

fn now_loaded(ctx: &Ctx, tenant: &Tenant, Serving { platform, revision, .. }: &Serving) -> Loaded {
    let platform = (tenant.namespace().unwrap_or_default(), platform.clone());
    ctx.replicas.loaded(&platform, &tenant.name_any(), revision)
}

enum Served {
    /// What the API is to serve, if anything.
    There(Option<Serving>),
    /// The Tenant went meanwhile.
    Gone,
}

/// Brings what was found to be served to the API, and waits for who has it.
async fn serve(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &mut ValidatedTenant,
    hold: Hold,
) -> Result<Served, ReconcileError> {
    let tenant = found.tenant.as_ref();
    let Some((platform, config)) = &validated.config else {
        return Ok(Served::There(None));
    };
    let (revision, document) = match build::document(tenant, platform, config) {
        Ok(built) => built,
        Err(problem) => {
            validated.problems.push(problem);
            validated.config = None;
            return Ok(Served::There(None));
        }
    };
    if !apply::document(ctx, tenant, hold, document, found.stored.as_ref()).await? {
        return Ok(Served::Gone);
    }
    apply::remove_orphans(ctx, tenant).await?;
    signing_key::retire(ctx, &found.signing_keys).await?;
    let key = (tenant.namespace().unwrap_or_default(), platform.clone());
    let loaded = ctx.replicas.settled(&key, &tenant.name_any(), &revision, ANSWER).await;
    Ok(Served::There(Some(Serving { platform: platform.clone(), revision, loaded })))
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

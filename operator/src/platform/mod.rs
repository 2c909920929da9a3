//! Platform: one deployment of the API and what it stands on.
//!
//! One reconcile is five steps, each in the file of its name: *dereference* (the Secrets, Tenants and objects it has to do
//! with) → *validate* (what can be run; pure) → *build* (the objects; pure) → *apply* (in the order that keeps the API up:
//! migrations succeed before a new template is applied) → *status* (pure, from what was applied).

pub mod apply;
pub mod around;
pub mod build;
pub mod declared;
pub mod dereference;
pub mod managed;
pub mod rollout;
pub mod routing;
pub mod scaling;
pub mod status;
pub mod validate;

#[cfg(test)]
mod fixtures;

use std::{sync::Arc, time::Duration};

use crds::{
    Platform,
    conditions::{DEGRADED, PROGRESSING, READY, reasons},
};
use kube::ResourceExt;

use self::{dereference::dereference, validate::validate};
use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{ANEW, Conditions},
    queue::Action,
};

/// How often a Platform is looked at although nothing was told.
const RESYNC: Duration = ANEW;

/// How often what the cluster refused is tried again: nothing tells when a quota or a policy is changed.
const REFUSED: Duration = Duration::from_secs(30);

pub async fn reconcile(platform: Arc<Platform>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    // What it owns is collected by Kubernetes; data is not owned.
    if platform.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let before = ctx.platform_statuses.of(&platform);
    let found = Box::pin(dereference(&ctx, platform.clone())).await?;
    let validated = validate(&found, &ctx.settings.api_image);
    let apply::Surroundings { workload, refused } = Box::pin(apply::surroundings(&ctx, &found, &validated)).await?;
    let decided = Box::pin(rollout::look(&ctx, &found, &validated, workload.as_ref(), &before)).await?;
    let (status, conditions) = status::status(&found, &before, &validated, (&decided, &refused), ctx.now());
    // Before anything is done: what was decided must survive a crash.
    ctx.platform_statuses.write(&ctx.client, &platform, &status).await?;
    tell(&ctx, &platform, &conditions);
    if let Some(told) = &decided.decision.told {
        answer(&ctx, &platform, told);
    }
    Box::pin(rollout::carry_out::carry_out(&ctx, &found, workload.as_ref(), &decided)).await?;
    let refused = refused.all().next().map(|_| REFUSED);
    let waits = decided.decision.look_again.into_iter().chain(managed::look_again(&found)).chain(refused);
    Ok(Action::requeue(waits.min().map_or(RESYNC, |wait| wait.min(RESYNC))))
}

/// What became of a command of a person.
fn answer(ctx: &Ctx, platform: &Platform, told: &rollout::machine::Told) {
    if told.refused {
        ctx.events.warning(platform, reasons::COMMAND_REFUSED, "Rollout", told.message.as_str());
    } else {
        ctx.events.normal(platform, reasons::COMMAND, "Rollout", told.message.as_str());
    }
}

/// Events for what changed, except the roll-up, whose reason is always another condition's.
fn tell(ctx: &Ctx, platform: &Platform, conditions: &Conditions<'_>) {
    let degraded = conditions.get(DEGRADED).map(|condition| condition.reason.clone());
    for transition in conditions.transitions().filter(|transition| transition.after.type_ != READY) {
        let after = transition.after;
        // Said once, as a warning.
        if after.type_ == PROGRESSING && degraded.as_ref() == Some(&after.reason) {
            continue;
        }
        if status::is_bad(after) {
            ctx.events.warning(platform, &after.reason, "Reconcile", after.message.as_str());
        } else if transition.before.is_some_and(|before| before.reason != after.reason) {
            ctx.events.normal(platform, &after.reason, "Reconcile", after.message.as_str());
        }
    }
    tracing::debug!(platform = platform.name_any(), "reconciled");
}

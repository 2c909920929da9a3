//! RoleBinding: says whether the role counts, in the words of the verdict that its Tenant's reconcile left.

use std::sync::Arc;

use crds::{
    RoleBinding, RoleBindingStatus,
    conditions::{ACCEPTED, EXPIRED, PROGRAMMED, RESOLVED_REFS, of, reasons},
};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{Conditions, State},
    queue::Action,
    render::access,
    tenant::{
        outcome::{Outcome, Standing},
        pending,
        status::{judged, roll_up},
        tell, until,
    },
};

pub async fn reconcile(binding: Arc<RoleBinding>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    if binding.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (namespace, tenant) = (binding.namespace().unwrap_or_default(), &binding.spec.tenant_ref.name);
    let outcome = ctx.outcomes.get(&namespace, tenant);
    let exists = ctx.stores.tenants.get(&namespace, tenant).is_some();
    let standing = Outcome::standing(outcome.as_deref(), |outcome| &outcome.bindings, &binding.metadata, exists);
    if matches!(standing, Standing::Pending) {
        return pending(&ctx, binding.as_ref()).await;
    }
    let (before, now) = (ctx.binding_statuses.of(&binding), ctx.now());
    let (status, conditions) = status(&binding, &before, &standing, now);
    if ctx.binding_statuses.write(&ctx.client, &binding, &status).await? {
        tell(&ctx, binding.as_ref(), &conditions);
    }
    let expires = binding.spec.expires_at.as_ref().map(|at| at.0).filter(|at| *at > now);
    Ok(expires.map_or_else(Action::await_change, |at| Action::requeue(until(at, now))))
}

fn status<'a>(
    binding: &RoleBinding,
    before: &'a RoleBindingStatus,
    standing: &Standing<'_, ()>,
    now: Timestamp,
) -> (RoleBindingStatus, Conditions<'a>) {
    let generation = binding.metadata.generation;
    let mut conditions = Conditions::new(of::ROLE_BINDING, &before.conditions, generation, now);
    judged(&mut conditions, standing, &binding.spec.tenant_ref.name);
    let expired = access::expired(&binding.spec, now);
    match &binding.spec.expires_at {
        Some(at) if expired => {
            let message = format!("spec.expiresAt {} has passed: the role no longer counts", at.0);
            conditions.set(EXPIRED, State::True, reasons::EXPIRED, message.as_str());
            conditions.set(PROGRAMMED, State::False, reasons::EXPIRED, message);
        }
        Some(at) => {
            conditions.set(EXPIRED, State::False, reasons::NOT_EXPIRED, format!("the role counts until {}", at.0));
        }
        None => {
            conditions.set(EXPIRED, State::False, reasons::NOT_EXPIRED, "the role counts until the binding is deleted");
        }
    }
    roll_up(&mut conditions, &[ACCEPTED, RESOLVED_REFS, PROGRAMMED]);
    let included = matches!(standing, Standing::Judged { verdict, .. } if verdict.included) && !expired;
    let subjects = if included { u32::try_from(binding.spec.subjects.len()).unwrap_or(u32::MAX) } else { 0 };
    let status =
        RoleBindingStatus { observed_generation: generation, subjects, conditions: conditions.clone().into_vec() };
    (status, conditions)
}

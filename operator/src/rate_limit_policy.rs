//! RateLimitPolicy: says how much of it holds and who overrides it, in the words of the verdicts that the reconciles of
//! the limited Tenants left; for a Platform's policy, of all of its Tenants together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use contract::names::FIELD_MANAGER;
use crds::{
    RateLimitPolicy, RateLimitPolicyStatus, TargetKind,
    conditions::{ACCEPTED, PROGRAMMED, of, reasons},
    rate_limit_policy::{OverriddenBy, PolicyAncestor},
};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    context::Ctx,
    error::ReconcileError,
    kube_ext::{Conditions, State},
    queue::Action,
    render::{
        limits::{InForce, limits},
        problem::Problem,
        verdict::Verdict,
    },
    stores::Key,
    tenant::{
        outcome::{Outcome, Serving},
        pending,
        status::{programmed, roll_up, verdict},
        tell,
    },
};

/// How soon a Platform's policy looks again while some Tenants' reconciles are still to come: their outcomes announce
/// themselves, but a Tenant that cannot be reconciled has none.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Most entries of `status.overriddenBy`.
const OVERRIDERS: usize = 64;

pub async fn reconcile(policy: Arc<RateLimitPolicy>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let standing = standing(&ctx, &policy);
    if matches!(&standing, Standing::Pending) {
        let action = pending(&ctx, policy.as_ref()).await?;
        return Ok(Action::requeue(action.again.unwrap_or(LOOK_AGAIN)));
    }
    let before = ctx.policy_statuses.of(&policy);
    let (status, conditions) = status(&policy, &before, standing, ctx.now());
    if ctx.policy_statuses.write(&ctx.client, &policy, &status).await? {
        tell(&ctx, policy.as_ref(), &conditions);
    }
    Ok(Action::await_change())
}

enum Standing {
    NoTarget,
    /// Some Tenant has not judged this generation yet.
    Pending,
    Judged {
        problems: Vec<Problem>,
        /// The verdict of each limited Tenant on this generation, and what it serves.
        tenants: Vec<(Verdict<InForce>, Option<Serving>)>,
    },
}

fn standing(ctx: &Ctx, policy: &RateLimitPolicy) -> Standing {
    let (namespace, target) = (policy.namespace().unwrap_or_default(), &policy.spec.target_ref);
    let (tenants, rivals) = match target.kind {
        TargetKind::Tenant => match ctx.stores.tenants.get(&namespace, &target.name) {
            Some(tenant) => (vec![tenant], Key::Tenant(namespace.clone(), target.name.clone())),
            None => return Standing::NoTarget,
        },
        TargetKind::Platform => match ctx.stores.platforms.get(&namespace, &target.name) {
            Some(platform) => (ctx.stores.tenants_of(&platform), Key::Platform(namespace.clone(), target.name.clone())),
            None => return Standing::NoTarget,
        },
    };
    let name = policy.name_any();
    let outcomes = tenants.iter().map(|tenant| ctx.outcomes.get(&namespace, &tenant.name_any()));
    let judged: Vec<_> = outcomes
        .map(|outcome| {
            let outcome: Arc<Outcome> = outcome?;
            let verdict =
                outcome.policies.get(&name).filter(|verdict| verdict.generation == policy.metadata.generation)?;
            Some((verdict.clone(), outcome.serving.clone()))
        })
        .collect();
    let Some(tenants) = judged.into_iter().collect::<Option<Vec<_>>>() else { return Standing::Pending };
    // What is wrong with it is the same for every Tenant, and can be told without one.
    let problems = if let Some((verdict, _)) = tenants.first() {
        verdict.problems.clone()
    } else {
        let mut rivals = ctx.stores.rate_limit_policies.find(&rivals);
        rivals.retain(|rival| rival.metadata.deletion_timestamp.is_none());
        let part = limits(rivals.iter().map(AsRef::as_ref), &[], &BTreeSet::new());
        part.verdicts.get(&name).map(|verdict| verdict.problems.clone()).unwrap_or_default()
    };
    Standing::Judged { problems, tenants }
}

fn status<'a>(
    policy: &RateLimitPolicy,
    before: &'a RateLimitPolicyStatus,
    standing: Standing,
    now: Timestamp,
) -> (RateLimitPolicyStatus, Conditions<'a>) {
    let (generation, target) = (policy.metadata.generation, &policy.spec.target_ref);
    let mut conditions = Conditions::new(of::RATE_LIMIT_POLICY, &before.conditions, generation, now);
    let mut overridden = BTreeMap::new();
    let mut effective = 0;
    match standing {
        Standing::NoTarget => {
            let message = format!(
                "spec.targetRef: there is no {:?} {:?} in this namespace: create it, or name another",
                target.kind, target.name
            );
            conditions.set(ACCEPTED, State::False, reasons::TARGET_NOT_FOUND, message.as_str());
            conditions.set(PROGRAMMED, State::False, reasons::TARGET_NOT_FOUND, message);
        }
        // Nothing is said before every verdict is there.
        Standing::Pending => {}
        Standing::Judged { problems, tenants } => {
            verdict(
                &mut conditions,
                ACCEPTED,
                &problems,
                (reasons::ACCEPTED, "the limits are laid over those of other policies"),
            );
            for displaced in tenants.iter().filter_map(|(verdict, _)| verdict.detail.displaced.as_ref()) {
                overridden
                    .entry(displaced.by.clone())
                    .or_insert_with(BTreeSet::new)
                    .extend(displaced.limits.iter().cloned());
            }
            effective = tenants.iter().map(|(verdict, _)| verdict.detail.limits).max().unwrap_or_default();
            served(&mut conditions, &problems, &tenants, &overridden);
        }
    }
    roll_up(&mut conditions, &[ACCEPTED, PROGRAMMED]);
    let list = conditions.clone().into_vec();
    let status = RateLimitPolicyStatus {
        observed_generation: generation,
        effective_limits: u32::try_from(effective).unwrap_or(u32::MAX),
        overridden_by: overridden
            .into_iter()
            .take(OVERRIDERS)
            .map(|(name, limits)| OverriddenBy { name, limits: limits.into_iter().collect() })
            .collect(),
        ancestors: vec![PolicyAncestor {
            ancestor_ref: target.clone(),
            controller_name: FIELD_MANAGER.to_owned(),
            conditions: list
                .iter()
                .filter(|condition| matches!(condition.type_.as_str(), ACCEPTED | PROGRAMMED))
                .cloned()
                .collect(),
        }],
        conditions: list,
    };
    (status, conditions)
}

/// `Programmed` over all of the limited Tenants: the first of them that is behind speaks for all.
fn served(
    conditions: &mut Conditions<'_>,
    problems: &[Problem],
    tenants: &[(Verdict<InForce>, Option<Serving>)],
    overridden: &BTreeMap<String, BTreeSet<String>>,
) {
    let behind =
        tenants.iter().find(|(_, serving)| serving.as_ref().is_none_or(|serving| !serving.loaded.everywhere()));
    match (problems.first(), behind, tenants) {
        (Some(problem), _, _) => {
            let included = tenants.iter().any(|(verdict, _)| verdict.included);
            let message = if included {
                "not as declared; what the API had of it before goes on"
            } else {
                "the API does not have it"
            };
            conditions.set(PROGRAMMED, State::False, problem.reason, message);
        }
        (None, None, []) => {
            conditions.set(PROGRAMMED, State::True, reasons::PROGRAMMED, "there is no Tenant yet that it limits");
        }
        (None, None, all) if all.iter().all(|(verdict, _)| verdict.detail.limits == 0) => {
            let by: Vec<_> = overridden.keys().map(|name| format!("{name:?}")).collect();
            let message = format!("none of its limits holds: RateLimitPolicy {} decides", by.join(", "));
            conditions.set(PROGRAMMED, State::False, reasons::OVERRIDDEN, message);
        }
        (None, _, [(_, serving)]) => programmed(conditions, serving.as_ref()),
        (None, None, all) => {
            let message = format!("every ready replica serves it to the {} Tenants that it limits", all.len());
            conditions.set(PROGRAMMED, State::True, reasons::PROGRAMMED, message);
        }
        (None, Some(_), _) => {
            let message = "not every ready replica serves it to every Tenant that it limits";
            conditions.set(PROGRAMMED, State::False, reasons::PARTIALLY_PROGRAMMED, message);
        }
    }
}

//! RateLimitPolicies → [`Limit`]s in force for one tenant.
//!
//! On one target the oldest policy counts, and the others read `Conflicted`. A policy that cannot be followed as it is
//! written now stands for the limits of its that are in the tenant's document; one that has none there stands for
//! nothing, and does not stand in a younger one's way.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::{Counter, Limit, PathMatch, Rate};
use crds::{
    RateLimitPolicy, TargetKind,
    conditions::reasons::{CONFLICTED, INVALID},
    rate_limit_policy::{self as wish, Level, Method, RequestMatch, Strategy},
};
use kube::ResourceExt;

use super::{
    expression,
    layers::{Displaced, Layer, combine},
    problem::{Checked, Problem, keep},
    verdict::Part,
};

/// What a limit's `when` may speak of.
const VARIABLES: &[&str] = &["request", "auth"];

/// How much of a policy holds for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InForce {
    pub limits: usize,
    pub displaced: Option<Displaced>,
}

/// Renders the policies that target a tenant or its Platform, oldest first.
///
/// `previous` are the limits of the document that stands; those of policies that are `unreadable` are kept as they are,
/// since nobody can tell any more what they target.
pub fn limits<'a>(
    objects: impl IntoIterator<Item = &'a RateLimitPolicy>,
    previous: &[Limit],
    unreadable: &BTreeSet<String>,
) -> Part<Limit, InForce> {
    let mut part = Part::<Limit, InForce>::default();
    let (mut platform, mut tenant) = (None, None);
    for object in objects {
        let mut problems = Vec::new();
        let layer = keep(layer(object), &mut problems).or_else(|| last_good(object, previous));
        let target = &object.spec.target_ref;
        let holder = match target.kind {
            TargetKind::Platform => &mut platform,
            TargetKind::Tenant => &mut tenant,
        };
        let mut included = layer.is_some();
        match (&holder, layer) {
            (Some(Layer { policy, .. }), Some(_)) => {
                included = false;
                problems.push(Problem::refused(
                    CONFLICTED,
                    format!("RateLimitPolicy {policy:?} is older and targets {:?} {:?} too: put the limits into one policy, or delete one of the two", target.kind, target.name),
                ));
            }
            (None, Some(layer)) => *holder = Some(layer),
            (_, None) => {}
        }
        part.add(object, None, problems).included = included;
    }
    let effective = combine(platform.as_ref(), tenant.as_ref());
    for layer in [platform, tenant].into_iter().flatten() {
        if let Some(verdict) = part.verdicts.get_mut(&layer.policy) {
            verdict.detail.displaced = effective.displaced.clone().filter(|displaced| displaced.policy == layer.policy);
            verdict.detail.limits = effective.limits.iter().filter(|limit| policy_of(limit) == layer.policy).count();
        }
    }
    part.entries = effective.limits;
    part.entries.extend(previous.iter().filter(|limit| unreadable.contains(policy_of(limit))).cloned());
    part
}

/// The policy that a limit of the document came from.
fn policy_of(limit: &Limit) -> &str {
    limit.name.split_once('/').map_or(limit.name.as_str(), |(policy, _)| policy)
}

/// A policy as it is declared.
pub fn layer(object: &RateLimitPolicy) -> Checked<Layer> {
    let policy = object.name_any();
    let Some(declared) = object.spec.limits() else {
        let message = "exactly one of spec.limits, spec.defaults and spec.overrides must be given";
        return Err(vec![Problem::refused(INVALID, message)]);
    };
    let mut problems = Vec::new();
    let limits = declared
        .limits
        .iter()
        .filter_map(|(name, wish)| keep(limit(&policy, name, wish), &mut problems).map(|limit| (name.clone(), limit)));
    let limits: BTreeMap<_, _> = limits.collect();
    if problems.is_empty() {
        Ok(Layer { policy, level: declared.level, strategy: declared.strategy, limits })
    } else {
        Err(problems)
    }
}

/// What the document that stands holds of a policy, under the strategy that it declares now.
fn last_good(object: &RateLimitPolicy, previous: &[Limit]) -> Option<Layer> {
    let policy = object.name_any();
    let of_policy = |limit: &&Limit| policy_of(limit) == policy;
    let limits: BTreeMap<_, _> = previous
        .iter()
        .filter(of_policy)
        .filter_map(|limit| Some((limit.name.split_once('/')?.1.to_owned(), limit.clone())))
        .collect();
    let (level, strategy) = object.spec.limits().map_or((Level::Defaults, Strategy::Atomic), |d| (d.level, d.strategy));
    (!limits.is_empty()).then_some(Layer { policy, level, strategy, limits })
}

fn limit(policy: &str, name: &str, wish: &wish::Limit) -> Checked<Limit> {
    let wish::Limit {
        matches: RequestMatch { methods, paths },
        when,
        counters,
        rates,
        algorithm,
        burst,
        cost,
        mode,
        failure_mode,
    } = wish;
    let mut problems = Vec::new();
    let refused = |message: String| Problem::refused(INVALID, format!("limit {name:?}: {message}"));
    for (index, when) in when.iter().enumerate() {
        let field = format!("limit {name:?}: when[{index}].predicate");
        problems.extend(expression::check(&field, &when.predicate, VARIABLES).err());
    }
    let counters = counters.iter().filter_map(|counter| {
        keep(counter.parse::<Counter>().map_err(|error| [refused(format!("counters: {error}"))]), &mut problems)
    });
    let mut counters: Vec<_> = counters.collect();
    counters.sort();
    let rates = rates.iter().filter_map(|rate| {
        let window = rate.window_seconds().ok_or_else(|| {
            [refused(format!("rates: window {:?} is not whole seconds: use for example 30s, 1m or 1h30m", rate.window))]
        });
        keep(window, &mut problems).map(|window_seconds| Rate { limit: rate.limit, window_seconds })
    });
    let rates: Vec<_> = rates.collect();
    let limit = Limit {
        name: format!("{policy}/{name}"),
        methods: methods.iter().map(|method| word(*method).to_owned()).collect(),
        paths: paths.iter().map(|path| PathMatch { kind: path.kind, value: path.value.clone() }).collect(),
        when: when.iter().map(|when| when.predicate.clone()).collect(),
        counters,
        rates,
        algorithm: *algorithm,
        burst: *burst,
        cost: *cost,
        mode: *mode,
        failure_mode: *failure_mode,
    };
    if problems.is_empty() { Ok(limit) } else { Err(problems) }
}

const fn word(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
    }
}

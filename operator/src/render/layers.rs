//! How the policies of a Platform and of one of its Tenants come together, after GEP-713 and Kuadrant.
//!
//! A Platform's policy is the established one: its strategy decides, whatever the Tenant's policy says of itself.
//!
//! | the Platform's policy | strategy | in force for a Tenant with a policy of its own |
//! |---|---|---|
//! | `limits`, `defaults` | `atomic` | the Tenant's limits alone |
//! | `defaults` | `merge` | both; of two limits with one name, the Tenant's |
//! | `overrides` | `atomic` | the Platform's limits alone |
//! | `overrides` | `merge` | both; of two limits with one name, the Platform's |
//!
//! Where only one of the two has a policy, that one is in force. A limit of a Platform's policy is what *each* Tenant
//! gets, counted for each Tenant apart.

use std::collections::BTreeMap;

use contract::limits::Limit;
use crds::rate_limit_policy::{Level, Strategy};

/// A policy that was accepted, ready to be laid over another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// `metadata.name` of the RateLimitPolicy.
    pub policy: String,
    pub level: Level,
    pub strategy: Strategy,
    /// By the name within the policy, which is what two layers are compared by.
    pub limits: BTreeMap<String, Limit>,
}

/// What remains when the layers lie on each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    pub limits: Vec<Limit>,
    pub displaced: Option<Displaced>,
}

/// Limits that are not in force because another policy decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displaced {
    pub policy: String,
    pub by: String,
    /// Names within the displaced policy, sorted.
    pub limits: Vec<String>,
}

/// Lays a Tenant's policy and its Platform's over each other.
pub fn combine(platform: Option<&Layer>, tenant: Option<&Layer>) -> Effective {
    let (platform, tenant) = match (platform, tenant) {
        (Some(platform), Some(tenant)) => (platform, tenant),
        (only, None) | (None, only) => {
            let limits = only.map(|layer| layer.limits.values().cloned().collect()).unwrap_or_default();
            return Effective { limits, displaced: None };
        }
    };
    let (upper, lower) = match platform.level {
        Level::Overrides => (platform, tenant),
        Level::Defaults => (tenant, platform),
    };
    let (kept, displaced): (Vec<_>, Vec<_>) = lower
        .limits
        .iter()
        .partition(|(name, _)| platform.strategy == Strategy::Merge && !upper.limits.contains_key(*name));
    Effective {
        limits: upper.limits.values().chain(kept.into_iter().map(|(_, limit)| limit)).cloned().collect(),
        displaced: (!displaced.is_empty()).then(|| Displaced {
            policy: lower.policy.clone(),
            by: upper.policy.clone(),
            limits: displaced.into_iter().map(|(name, _)| name.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use contract::limits::{Algorithm, FailureMode, LimitMode};

    use super::*;

    fn layer(policy: &str, level: Level, strategy: Strategy, limits: &[&str]) -> Layer {
        let limit = |name: &str| Limit {
            name: format!("{policy}/{name}"),
            methods: vec![],
            paths: vec![],
            when: vec![],
            counters: vec![],
            rates: vec![],
            algorithm: Algorithm::default(),
            burst: None,
            cost: NonZeroU32::MIN,
            mode: LimitMode::default(),
            failure_mode: FailureMode::default(),
        };
        let limits = limits.iter().map(|name| ((*name).to_owned(), limit(name))).collect();
        Layer { policy: policy.into(), level, strategy, limits }
    }

    #[test]
    fn the_platforms_strategy_decides_what_is_in_force() {
        use Level::{Defaults, Overrides};
        use Strategy::{Atomic, Merge};
        type Told = Option<(&'static str, &'static str, &'static [&'static str])>;
        let table: [(Level, Strategy, &[&str], Told); 4] = [
            (Defaults, Atomic, &["acme/login", "acme/user"], Some(("house", "acme", &["all", "user"]))),
            (Defaults, Merge, &["acme/login", "acme/user", "house/all"], Some(("house", "acme", &["user"]))),
            (Overrides, Atomic, &["house/all", "house/user"], Some(("acme", "house", &["login", "user"]))),
            (Overrides, Merge, &["acme/login", "house/all", "house/user"], Some(("acme", "house", &["user"]))),
        ];
        for (level, strategy, in_force, displaced) in table {
            let platform = layer("house", level, strategy, &["all", "user"]);
            // What the Tenant's policy says of itself changes nothing: there is no layer below it.
            for (own_level, own_strategy) in
                [(Defaults, Atomic), (Overrides, Atomic), (Defaults, Merge), (Overrides, Merge)]
            {
                let tenant = layer("acme", own_level, own_strategy, &["login", "user"]);
                let effective = combine(Some(&platform), Some(&tenant));
                let mut names: Vec<_> = effective.limits.iter().map(|limit| limit.name.as_str()).collect();
                names.sort_unstable();
                assert_eq!(names, in_force, "{level:?} {strategy:?}");
                let told = effective.displaced.as_ref().map(|d| (d.policy.as_str(), d.by.as_str(), d.limits.clone()));
                let expected = displaced
                    .map(|(policy, by, limits)| (policy, by, limits.iter().map(|l| (*l).to_owned()).collect()));
                assert_eq!(told, expected, "{level:?} {strategy:?}");
            }
        }
    }

    #[test]
    fn a_policy_without_a_rival_is_in_force_as_it_is() {
        let house = layer("house", Level::Overrides, Strategy::Atomic, &["all"]);
        for effective in [combine(Some(&house), None), combine(None, Some(&house))] {
            assert_eq!(effective.limits.len(), 1);
            assert_eq!(effective.displaced, None);
        }
        assert_eq!(combine(None, None), Effective::default());
    }
}

//! RateLimitPolicy: how much is allowed.

use std::{collections::BTreeMap, num::NonZeroU32};

use contract::limits::{Algorithm, FailureMode, LimitMode, PathMatchKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::TargetRef;

/// Limits and how they combine with those of other policies.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "RateLimitPolicy",
    plural = "ratelimitpolicies",
    namespaced,
    status = "RateLimitPolicyStatus",
    doc = "A RateLimitPolicy says how many requests a Platform's tenants, or one Tenant, may make.",
    derive = "PartialEq",
    shortname = "trl",
    category = "tenantry",
    selectable = ".spec.targetRef.name",
    selectable = ".spec.targetRef.kind",
    printcolumn(name = "Target Kind", type_ = "string", json_path = ".spec.targetRef.kind"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Limits", type_ = "integer", priority = 1, json_path = ".status.effectiveLimits"),
    printcolumn(name = "Message", type_ = "string", priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message"),
    validation = Rule::new("self.metadata.name.size() <= 50")
        .message("metadata.name must be at most 50 characters long, because other names are made from it"),
    cel
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.limits) ? 1 : 0) + (has(self.defaults) ? 1 : 0) + (has(self.overrides) ? 1 : 0) == 1").message("exactly one of limits, defaults and overrides must be given"))]
pub struct RateLimitPolicySpec {
    /// What the limits are for: a Platform (every tenant that it serves) or one Tenant.
    #[x_kube(validation = Rule::new("self == oldSelf").message("targetRef is immutable: delete the RateLimitPolicy and create it for the other target"))]
    pub target_ref: TargetRef,

    /// Limits by name; short for `defaults` with strategy `atomic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(name, name.size() <= 63)").message("names of limits must be at most 63 characters long"))]
    pub limits: Option<BTreeMap<String, Limit>>,

    /// Limits that a policy of a more specific target replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<LimitSet>,

    /// Limits that replace those of policies of more specific targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<LimitSet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct LimitSet {
    /// `atomic` replaces all limits of the other policy together; `merge` replaces them name by name.
    #[serde(default)]
    pub strategy: Strategy,

    /// Limits by name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(name, name.size() <= 63)").message("names of limits must be at most 63 characters long"))]
    pub limits: BTreeMap<String, Limit>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    #[default]
    Atomic,
    Merge,
}

/// One limit: which requests, counted by whom, and how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.burst) || self.algorithm == 'TokenBucket'").message("burst can only be given with algorithm TokenBucket").field_path(".burst"))]
#[x_kube(validation = Rule::new("self.rates.all(rate, rate.limit >= self.cost)").message("cost must not be greater than the limit of any rate, or no request would ever pass").field_path(".cost"))]
pub struct Limit {
    /// Requests that it is about; every request when left out.
    #[serde(rename = "match", default, skip_serializing_if = "RequestMatch::is_empty")]
    pub matches: RequestMatch,

    /// Further predicates, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub when: Vec<When>,

    /// What a counter is kept for: `Tenant`, `User`, `ApiKey`, `SourceIP` or `Header:<name>`; one counter for each
    /// combination of values. One counter for the whole tenant when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(max = 72), regex(pattern = r"^(Tenant|User|ApiKey|SourceIP|Header:[A-Za-z0-9-]+)$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub counters: Vec<String>,

    /// How many requests in which time. All rates hold at once.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rates: Vec<Rate>,

    /// `SlidingWindow` lets no span of one window hold more than the limit; `FixedWindow` begins with the first request
    /// and gives all back at its end; `TokenBucket` refills evenly and lets `burst` through at once.
    #[serde(default)]
    pub algorithm: Algorithm,

    /// Requests that a `TokenBucket` lets through at once; the first rate's limit when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000_000))]
    pub burst: Option<NonZeroU32>,

    /// What one request costs.
    #[serde(default = "one")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    pub cost: NonZeroU32,

    /// `Enforce` refuses with 429; `Shadow` only counts and tells.
    #[serde(default)]
    pub mode: LimitMode,

    /// What happens while the counters cannot be reached: `Open` lets everything through, `Closed` refuses with 503,
    /// `Local` counts in each replica alone.
    #[serde(default)]
    pub failure_mode: FailureMode,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct RequestMatch {
    /// HTTP methods; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<Method>,

    /// Paths of the API; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub paths: Vec<PathMatch>,
}

impl RequestMatch {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PathMatch {
    /// `PathPrefix` matches whole segments (`/auth` matches `/auth/login`, not `/authors`); `Exact` the path alone.
    #[serde(rename = "type", default = "path_prefix")]
    pub kind: PathMatchKind,

    /// Path without the `/api` or `/api/v1` in front, such as `/payments`.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[^\s?#]*$"))]
    pub value: String,
}

fn path_prefix() -> PathMatchKind {
    PathMatchKind::PathPrefix
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct When {
    /// CEL expression over `request` and `auth`, such as `!('ADMIN' in auth.roles)`. One that cannot be evaluated counts as
    /// true.
    #[schemars(length(min = 1, max = 1024))]
    pub predicate: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Rate {
    /// Requests that are allowed in each window.
    #[schemars(with = "u32", range(min = 1, max = 1_000_000_000))]
    pub limit: NonZeroU32,

    /// Length of the window in hours, minutes and seconds, such as `30s`, `1m` or `1h30m`; between `1s` and `744h`.
    #[schemars(length(max = 24), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(h|m|s)){1,4}$') && duration(self) >= duration('1s') && duration(self) <= duration('744h')").message("window must be between 1s and 744h in hours, minutes and seconds, such as 30s, 1m or 1h30m"))]
    pub window: String,
}

/// What the operator knows about the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitPolicyStatus {
    /// `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Limits of this policy that are in force somewhere.
    #[serde(default)]
    pub effective_limits: u32,

    /// Policies that replace limits of this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub overridden_by: Vec<OverriddenBy>,

    /// The policy's standing at each target, in the form of the Gateway API's policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ancestors: Vec<PolicyAncestor>,

    /// `Ready`, `Accepted` and `Programmed`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct OverriddenBy {
    /// Name of the other RateLimitPolicy.
    pub name: String,

    /// Names of the limits that it replaces.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub limits: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAncestor {
    /// The target.
    pub ancestor_ref: TargetRef,

    /// Who wrote this entry.
    pub controller_name: String,

    /// `Accepted` and `Programmed` at this target.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The one list of limits that a policy declares, and how it meets other policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Declared<'a> {
    pub level: Level,
    pub strategy: Strategy,
    pub limits: &'a BTreeMap<String, Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A more specific policy wins.
    Defaults,
    /// This policy wins.
    Overrides,
}

impl RateLimitPolicySpec {
    /// What is declared, in whichever of the three ways; `None` only for an object that the schema would refuse.
    pub fn limits(&self) -> Option<Declared<'_>> {
        match (&self.limits, &self.defaults, &self.overrides) {
            (Some(limits), None, None) => Some(Declared { level: Level::Defaults, strategy: Strategy::Atomic, limits }),
            (None, Some(set), None) => Some(set.declared(Level::Defaults)),
            (None, None, Some(set)) => Some(set.declared(Level::Overrides)),
            _ => None,
        }
    }
}

impl LimitSet {
    fn declared(&self, level: Level) -> Declared<'_> {
        Declared { level, strategy: self.strategy, limits: &self.limits }
    }
}

impl Rate {
    /// The window in seconds; `None` for a window that the schema would refuse.
    pub fn window_seconds(&self) -> Option<NonZeroU32> {
        let mut rest = self.window.as_str();
        let mut seconds: u32 = 0;
        while !rest.is_empty() {
            let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let (unit, tail) = tail.split_at_checked(1)?;
            let factor = match unit {
                "h" => 3600,
                "m" => 60,
                "s" => 1,
                _ => return None,
            };
            seconds = seconds.checked_add(number.parse::<u32>().ok()?.checked_mul(factor)?)?;
            rest = tail;
        }
        NonZeroU32::new(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_in_seconds() {
        let seconds = |window: &str| {
            let window = window.to_owned();
            Rate { limit: one(), window }.window_seconds().map(NonZeroU32::get)
        };
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("1h30m5s"), Some(5405));
        assert_eq!(seconds("744h"), Some(2_678_400));
        for bad in ["", "0s", "500ms", "1", "m", "1d", "1µs", "99999999999s", "9999999h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_are_found_in_whichever_way_they_are_declared() {
        let limits = BTreeMap::new();
        let set = || LimitSet { strategy: Strategy::Merge, limits: BTreeMap::new() };
        let mut spec = crate::examples::rate_limit_policy().spec;
        let declared = |spec: &RateLimitPolicySpec| spec.limits().map(|found| (found.level, found.strategy));
        assert_eq!(declared(&spec), Some((Level::Defaults, Strategy::Atomic)));
        spec.limits = None;
        assert_eq!(declared(&spec), None);
        spec.overrides = Some(set());
        assert_eq!(declared(&spec), Some((Level::Overrides, Strategy::Merge)));
        spec.limits = Some(limits);
        assert_eq!(declared(&spec), None);
    }
}

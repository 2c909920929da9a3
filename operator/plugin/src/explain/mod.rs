//! Which roles and limits apply to somebody's request, and from which object.
//!
//! What applies is read from the document that the API serves from; where it comes from, and what was displaced, is worked
//! out from the objects by the operator's own steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use contract::{
    access::Subject,
    condition::Condition,
    limits::{Counter, DAILY_QUOTA, FailureMode, Limit, LimitMode},
    tenant::TenantState,
};
use crds::{RateLimitPolicy, TargetKind, conditions, rate_limit_policy::Level};
use jiff::Timestamp;
use kube::ResourceExt;
use operator::{
    render::{access, limits},
    stores::Stores,
    tenant::dereference::{Dereferenced, shelved},
};
use serde::Serialize;

use crate::{
    Outcome,
    access::{Held, Person},
    cli,
    connect::Connection,
    live::{self, Served},
    output::{Output, Paint, Shown, wrapped},
};

pub async fn run(connection: &Connection, asked: &cli::Explain, out: Output) -> Result<Outcome> {
    let person = Person::new(asked.user.as_deref(), &asked.asker)?;
    let tenant = connection.tenant(&asked.tenant).await?;
    let (served, stores) = tokio::try_join!(live::served(connection, tenant), live::stores(connection))?;
    out.print(&explain(&served, &stores, &person, connection.now))?;
    Ok(Outcome::Good)
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub tenant: String,
    pub namespace: String,
    /// What the API serves from.
    pub revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What stands before all else: a suspended tenant, objects that are not in force everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub roles: Vec<Role>,
    /// Bindings that name the person and give nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_counting: Vec<String>,
    pub limits: Vec<Applied>,
    /// Limits of this tenant's or its Platform's policies that are not in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_in_force: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Role {
    pub role: String,
    pub from: String,
    pub permissions: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub name: String,
    pub rates: Vec<String>,
    /// Who shares one counter.
    pub counted: String,
    pub mode: String,
    pub algorithm: String,
    /// While the counter store does not answer.
    pub on_failure: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_where: Vec<String>,
    /// The object that it comes from.
    pub from: String,
    /// Limits of other policies that it stands in place of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub displaces: Vec<String>,
}

pub fn explain(served: &Served, stores: &Stores, person: &Person, now: Timestamp) -> Explanation {
    let Served { tenant, revision, config } = served;
    let found = shelved(stores, tenant.clone());
    let held = person.bindings(config, now);
    let (counting, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.counts);
    let mut not_counting: Vec<_> = rest.iter().map(|held| format!("{}: {}", held.role, held.line())).collect();
    not_counting.extend(missing(&found, person, config.bindings.iter().map(|binding| binding.name.as_str()), now));
    let (limits, not_in_force) = limits_of(served, &found, person, &counting);
    Explanation {
        tenant: tenant.name_any(),
        namespace: tenant.namespace().unwrap_or_default(),
        revision: revision.to_string(),
        asker: asker(person),
        request: person.request.as_ref().map(|told| format!("{} {}", told.method, told.path)),
        notes: notes(served),
        roles: roles(person, &counting),
        not_counting,
        limits,
        not_in_force,
    }
}

fn asker(person: &Person) -> Option<String> {
    let mut parts: Vec<_> = person.user.iter().cloned().collect();
    if !person.groups.is_empty() {
        parts.push(format!("in {}", person.groups.join(", ")));
    }
    parts.extend(person.api_key.iter().map(|key| format!("with API key {key}")));
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn notes(Served { tenant, revision, config }: &Served) -> Vec<String> {
    let mut notes = Vec::new();
    if config.state == TenantState::Suspended {
        notes.push("the tenant is suspended: every request is refused with 403".to_owned());
    }
    let status = tenant.status.clone().unwrap_or_default();
    match &status.config {
        Some(loaded) if loaded.revision == revision.as_str() && loaded.loaded_replicas < loaded.ready_replicas => {
            notes.push(format!(
                "{} of {} replicas serve this revision; the others still serve the one before",
                loaded.loaded_replicas, loaded.ready_replicas
            ));
        }
        Some(loaded) if loaded.revision != revision.as_str() => {
            notes.push("the replicas have not been asked about this revision yet".to_owned());
        }
        _ => {}
    }
    if let Some(ready) = conditions::find(&status.conditions, conditions::READY).filter(|ready| ready.status == "False")
    {
        notes.push(format!("the Tenant is not Ready ({}): {}", ready.reason, ready.message));
    }
    notes
}

fn roles(person: &Person, counting: &[Held]) -> Vec<Role> {
    let own = person.signed_in().then(|| Role {
        role: person.role.to_string(),
        from: "the person's own role (--role; the API's database knows it)".into(),
        permissions: person.own().iter().map(ToString::to_string).collect(),
    });
    let bound = counting.iter().map(|held| Role {
        role: held.role.to_string(),
        from: held.line(),
        permissions: held.permissions.clone(),
    });
    own.into_iter().chain(bound).collect()
}

/// RoleBindings that name the person and are not in the document, with what the operator has to say about them.
fn missing<'c>(
    found: &Dereferenced,
    person: &Person,
    known: impl Iterator<Item = &'c str>,
    now: Timestamp,
) -> Vec<String> {
    let known: BTreeSet<_> = known.collect();
    let verdicts = access::bindings(found.bindings.iter().map(AsRef::as_ref), now).verdicts;
    let absent = found.bindings.iter().filter(|binding| !known.contains(binding.name_any().as_str()));
    let meant = absent.filter_map(|binding| {
        let subjects: Vec<_> =
            binding.spec.subjects.iter().map(|s| Subject { kind: s.kind, name: s.name.clone() }).collect();
        let subject = person.meant_by(&subjects)?;
        let (name, role) = (binding.name_any(), &binding.spec.role_ref.name);
        let problem = verdicts.get(&name).and_then(|verdict| verdict.problems.first());
        let why = match (problem, &binding.spec.expires_at) {
            (Some(problem), _) => problem.message.clone(),
            (None, Some(end)) if access::expired(&binding.spec, now) => format!("expired at {}", end.0),
            _ => "the operator has not rendered it yet".into(),
        };
        Some(format!("{role}: RoleBinding {name} ({:?} {}); {why}", subject.kind, subject.name))
    });
    meant.collect()
}

fn limits_of(
    Served { tenant, config, .. }: &Served,
    found: &Dereferenced,
    person: &Person,
    counting: &[Held],
) -> (Vec<Applied>, Vec<String>) {
    let policies: BTreeMap<_, _> = found.policies.iter().map(|policy| (policy.name_any(), policy.as_ref())).collect();
    let verdicts =
        limits::limits(found.policies.iter().map(AsRef::as_ref), &config.limits, &found.unreadable_policies).verdicts;
    let displaced: Vec<_> = verdicts.values().filter_map(|verdict| verdict.detail.displaced.as_ref()).collect();

    let roles = person.roles(counting.iter().map(|held| &held.role));
    let facts = person.facts(&roles);
    // As in the API, a predicate that cannot be evaluated counts as true.
    let meets = |limit: &Limit| match &facts {
        None => true,
        Some(facts) => limit.when.iter().all(|when| Condition::compile(when).holds(facts) != Some(false)),
    };
    let about = |limit: &&Limit| match &person.request {
        None => true,
        Some(told) => limit.is_about(&told.method, &told.path) && meets(limit),
    };
    let mut applied: Vec<_> = config
        .limits
        .iter()
        .filter(about)
        .map(|limit| {
            let (policy, name) = limit.origin();
            // What another policy says under the same name; what it displaces besides is told at the end.
            let instead = displaced.iter().filter(|other| other.by == policy && other.limits.iter().any(|l| l == name));
            Applied {
                name: limit.name.clone(),
                rates: limit
                    .rates
                    .iter()
                    .map(|r| format!("{} per {}", r.limit, time(r.window_seconds.get())))
                    .collect(),
                counted: counted(&limit.counters, person),
                mode: mode(limit.mode).into(),
                algorithm: format!("{:?}", limit.algorithm),
                on_failure: on_failure(limit.failure_mode).into(),
                only_where: limit.when.clone(),
                from: origin(policy, name, policies.get(policy).copied()),
                displaces: instead.map(|other| format!("{}/{name}", other.policy)).collect(),
            }
        })
        .collect();
    applied.extend(config.quotas.requests_per_day.map(|limit| Applied {
        name: DAILY_QUOTA.into(),
        rates: vec![format!("{limit} per 1d")],
        counted: "all of the tenant together".into(),
        mode: mode(LimitMode::Enforce).into(),
        algorithm: "FixedWindow".into(),
        on_failure: on_failure(FailureMode::Open).into(),
        only_where: vec![],
        from: format!("Tenant {}, spec.quotas.requestsPerDay", tenant.name_any()),
        displaces: vec![],
    }));
    let by_others = displaced.iter().map(|displaced| {
        let limits: Vec<_> = displaced.limits.iter().map(|limit| format!("{}/{limit}", displaced.policy)).collect();
        format!("{}: RateLimitPolicy {} decides", limits.join(", "), displaced.by)
    });
    let faulty = verdicts.iter().flat_map(|(name, verdict)| {
        verdict.problems.iter().map(move |problem| {
            let served = if verdict.included { "as it was before" } else { "not at all" };
            format!("RateLimitPolicy {name}, {served}: {}", problem.message)
        })
    });
    (applied, by_others.chain(faulty).collect())
}

fn origin(policy: &str, limit: &str, object: Option<&RateLimitPolicy>) -> String {
    let Some(object) = object else {
        return format!(
            "RateLimitPolicy {policy}, limit {limit}; the object is gone, and the operator has yet to render that"
        );
    };
    let target = &object.spec.target_ref;
    let kind = match target.kind {
        TargetKind::Platform => "Platform",
        TargetKind::Tenant => "Tenant",
    };
    let field = match (&object.spec.limits, object.spec.limits().map(|declared| declared.level)) {
        (Some(_), _) => "limits",
        (None, Some(Level::Overrides)) => "overrides",
        (None, _) => "defaults",
    };
    format!("RateLimitPolicy {policy}, spec.{field}, limit {limit} (for {kind} {})", target.name)
}

fn counted(counters: &[Counter], person: &Person) -> String {
    if counters.is_empty() || counters == [Counter::Tenant] {
        return "all of the tenant together".into();
    }
    let each = counters.iter().filter(|counter| **counter != Counter::Tenant).map(|counter| match counter {
        Counter::User => match &person.user {
            Some(user) => format!("each user ({user})"),
            None => "each user, or source address where nobody is signed in".into(),
        },
        Counter::ApiKey => match &person.api_key {
            Some(key) => format!("each API key ({key})"),
            None => "each API key, or source address without one".into(),
        },
        Counter::SourceIp => "each source address".into(),
        Counter::Header(name) => format!("each value of the header {name}"),
        Counter::Tenant => String::new(),
    });
    each.collect::<Vec<_>>().join(" and ")
}

const fn mode(mode: LimitMode) -> &'static str {
    match mode {
        LimitMode::Enforce => "enforced",
        LimitMode::Shadow => "shadow: counted, and nobody is refused",
    }
}

const fn on_failure(mode: FailureMode) -> &'static str {
    match mode {
        FailureMode::Open => "lets everything through",
        FailureMode::Closed => "refuses everything",
        FailureMode::Local => "counts in each replica alone",
    }
}

fn time(seconds: u32) -> String {
    match seconds {
        86_400 => "1d".into(),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

impl Shown for Explanation {
    fn human(&self, paint: Paint) -> String {
        let mut text = format!(
            "{} (namespace {}, revision {})\n",
            paint.head(format!("Tenant {}", self.tenant)),
            self.namespace,
            self.revision
        );
        let asks = match (&self.asker, &self.request) {
            (Some(asker), Some(request)) => Some(format!("{asker} asks: {request}")),
            (Some(asker), None) => Some(asker.clone()),
            (None, Some(request)) => Some(format!("somebody who is not signed in asks: {request}")),
            (None, None) => None,
        };
        text += &asks.map_or_else(String::new, |asks| format!("{asks}\n"));
        for note in &self.notes {
            text += &paint.warn(wrapped(&format!("! {note}"), 0));
        }
        if self.asker.is_some() {
            let _ = write!(text, "\n{}\n", paint.head("Roles"));
            for Role { role, from, permissions } in &self.roles {
                let may = if permissions.is_empty() { "nothing more".into() } else { permissions.join(", ") };
                let _ = write!(
                    text,
                    "  {role}\n{}{}",
                    wrapped(&format!("may {may}"), 4),
                    wrapped(&format!("from {from}"), 4)
                );
            }
            for line in &self.not_counting {
                text += &paint.dim(wrapped(&format!("not counted: {line}"), 2));
            }
        }
        let about = self.request.as_ref().map_or_else(String::new, |request| format!(" for {request}"));
        let _ = write!(text, "\n{}\n", paint.head(format!("Limits{about}")));
        if self.limits.is_empty() {
            text += "  none\n";
        }
        for limit in &self.limits {
            let _ = writeln!(text, "  {}: {}", limit.name, limit.rates.join(", and "));
            text += &wrapped(&format!("for {}; {}, {}", limit.counted, limit.mode, limit.algorithm), 4);
            text += &wrapped(&format!("without Redis it {}", limit.on_failure), 4);
            for when in &limit.only_where {
                text += &wrapped(&format!("only where {when}"), 4);
            }
            text += &wrapped(&format!("from {}", limit.from), 4);
            if !limit.displaces.is_empty() {
                text += &wrapped(&format!("in place of {}", limit.displaces.join(", ")), 4);
            }
        }
        for line in &self.not_in_force {
            text += &paint.dim(wrapped(&format!("not in force: {line}"), 2));
        }
        text
    }
}

#[cfg(test)]
mod tests;

//! What is said about a Platform: pure, from what was found and what was decided.

use contract::names;
use crds::{
    PlatformStatus,
    conditions::{AVAILABLE, DEGRADED, PAUSED, POSTGRES_READY, PROGRESSING, READY, REDIS_READY, ROUTED, of, reasons},
    platform::{Color, InsteadReason, RolloutPhase, RolloutStatus, RolloutStrategy},
};
use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::Condition};

use super::{
    build::{color_selector, selector},
    dereference::Dereferenced,
    managed::{self, Refused},
    rollout::{
        Decided,
        machine::{Migration, Step},
        observed::release,
    },
    routing,
    validate::{Problem, Source, ValidatedPlatform},
};
use crate::{
    error::ReconcileError,
    kube_ext::{Conditions, State},
};

pub fn status<'a>(
    found: &Dereferenced,
    before: &'a PlatformStatus,
    validated: &ValidatedPlatform,
    (decided, refused): (&Decided, &Refused),
    now: Timestamp,
) -> (PlatformStatus, Conditions<'a>) {
    let generation = found.platform.metadata.generation;
    let mut conditions = Conditions::new(of::PLATFORM, &before.conditions, generation, now);
    let record = &decided.decision.record;
    let serving = found.observed.serving();
    let workload = Pods::of(serving, decided);

    let postgres = instead(managed::postgres_verdict(found), refused.postgres.as_ref());
    let redis = instead(managed::redis_verdict(found), refused.redis.as_ref());
    dependency(&mut conditions, POSTGRES_READY, &validated.postgres, postgres);
    dependency(&mut conditions, REDIS_READY, &validated.redis, redis);
    paused(&mut conditions, found.platform.spec.paused);
    available(&mut conditions, &workload);
    progressing(&mut conditions, found, decided, &workload);
    let (state, reason, message) = routing::routed(found, validated);
    conditions.set(ROUTED, state, reason, message);
    degraded(&mut conditions, validated, decided, refused);
    ready(&mut conditions, found.platform.spec.paused);

    let status = PlatformStatus {
        observed_generation: generation,
        active_color: record.active,
        active_revision: serving.and_then(release).map(str::to_owned),
        preview_revision: record.preview.clone(),
        stable_revision: record.stable.clone(),
        rollout: Some(record.rollout.clone()),
        replicas: workload.replicas,
        selector: Some(labels(&found.name, record.active)),
        tenants: u32::try_from(found.tenants.len()).unwrap_or(u32::MAX),
        url: Some(url(found, validated)),
        credentials: managed::credentials_status(found, now),
        conditions: conditions.clone().into_vec(),
    };
    (status, conditions)
}

/// Whether a condition is one to warn about: most are bad when false, three when true or never.
pub fn is_bad(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        PAUSED => false,
        DEGRADED => condition.status == "True",
        PROGRESSING => matches!(
            condition.reason.as_str(),
            reasons::MIGRATION_FAILED
                | reasons::PROGRESS_DEADLINE_EXCEEDED
                | reasons::SECRET_INVALID
                | reasons::ROLLED_BACK
        ),
        // It is on its way, and nothing is wrong.
        POSTGRES_READY | REDIS_READY => condition.status == "False" && condition.reason != reasons::STARTING,
        _ => condition.status == "False",
    }
}

/// The numbers of the Deployment that takes the requests.
struct Pods {
    wanted: u32,
    replicas: u32,
    updated: u32,
    available: u32,
    /// Whether the numbers are about what is wanted of it now.
    current: bool,
}

impl Pods {
    fn of(deployment: Option<&Deployment>, decided: &Decided) -> Self {
        let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let spec = deployment.and_then(|deployment| deployment.spec.as_ref());
        let status = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
        let generation = deployment.and_then(|deployment| deployment.metadata.generation);
        let runs = spec.map_or(0, |spec| number(spec.replicas.or(Some(1))));
        let active = decided.decision.record.active;
        let next = decided.decision.steps.iter().find_map(|step| match step {
            Step::Run { color, release, replicas } if Some(*color) == active => Some((release.as_str(), *replicas)),
            _ => None,
        });
        let as_wanted =
            next.is_none_or(|next| Some(next) == deployment.and_then(release).map(|release| (release, runs)));
        Self {
            wanted: next.map_or(runs, |(_, replicas)| replicas),
            replicas: number(status.replicas),
            updated: number(status.updated_replicas),
            available: number(status.available_replicas),
            current: deployment.is_some() && status.observed_generation >= generation && as_wanted,
        }
    }

    fn complete(&self) -> bool {
        self.current && self.updated >= self.wanted && self.replicas <= self.updated && self.available >= self.wanted
    }
}

fn dependency(
    conditions: &mut Conditions<'_>,
    type_: &str,
    source: &Result<Source, Problem>,
    managed: Option<managed::Verdict>,
) {
    if let Some(managed::Verdict { well, reason, message }) = managed {
        conditions.set(type_, if well { State::True } else { State::False }, reason, message);
        return;
    }
    match source {
        Ok(source) => conditions.set(
            type_,
            State::True,
            reasons::RESOLVED_REFS,
            format!("Secret {} says how to connect", source.secret),
        ),
        Err(Problem { reason, message }) => conditions.set(type_, State::False, reason, message.as_str()),
    };
}

fn paused(conditions: &mut Conditions<'_>, paused: bool) {
    if paused {
        let message = "spec.paused is true: nothing is changed until it is false";
        conditions.set(PAUSED, State::True, reasons::PAUSED, message);
    } else {
        conditions.set(PAUSED, State::False, reasons::NOT_PAUSED, "");
    }
}

fn available(conditions: &mut Conditions<'_>, pods: &Pods) {
    let message = format!("{} of {} replicas are available", pods.available, pods.wanted);
    if pods.available > 0 || (pods.wanted == 0 && pods.current) {
        conditions.set(AVAILABLE, State::True, reasons::AVAILABLE, message);
    } else {
        conditions.set(AVAILABLE, State::False, reasons::UNAVAILABLE, message);
    }
}

fn progressing(conditions: &mut Conditions<'_>, found: &Dereferenced, decided: &Decided, pods: &Pods) {
    let (namespace, record) = (&found.namespace, &decided.decision.record);
    let RolloutStatus { phase, message, .. } = &record.rollout;
    let counts = format!("{} of {} replicas are up to date, {} available", pods.updated, pods.wanted, pods.available);
    // Pod by pod in the colour that takes the requests, or beside it.
    let in_place = record.preview.is_none() || found.platform.spec.rollout.strategy == RolloutStrategy::RollingUpdate;
    let (state, reason, message) = match (&decided.input.migration, phase) {
        _ if found.platform.spec.paused && *phase == RolloutPhase::Idle => {
            (State::False, reasons::PAUSED, "changes are held by spec.paused".to_owned())
        }
        _ if found.platform.spec.paused => {
            (State::False, reasons::PAUSED, format!("held by spec.paused while {}: {message}", phase.as_str()))
        }
        _ if decided.input.declared.is_none() => {
            (State::Unknown, reasons::RECONCILING, "waiting for PostgreSQL, Redis and the sealing key".into())
        }
        _ if decided.decision.stuck.is_some() => {
            let why = decided.decision.stuck.as_deref().unwrap_or_default();
            (
                State::False,
                reasons::PROGRESS_DEADLINE_EXCEEDED,
                format!("{why}; nothing is there to go back to: change the spec"),
            )
        }
        (Migration::Failed { job, message }, RolloutPhase::Migrating) => (
            State::False,
            reasons::MIGRATION_FAILED,
            format!(
                "Job {job} failed ({message}) and the pods before it go on serving: read `kubectl logs -n {namespace} \
                 job/{job}`, cure it, then `kubectl delete -n {namespace} job/{job}` to have it run again",
            ),
        ),
        (_, RolloutPhase::Migrating) => (State::True, reasons::MIGRATING, message.clone()),
        (_, RolloutPhase::Starting) if in_place => (State::True, reasons::ROLLING_OUT, counts),
        (_, RolloutPhase::Starting) => (State::True, reasons::STARTING, message.clone()),
        (_, RolloutPhase::Analyzing) => (State::True, reasons::ANALYZING, message.clone()),
        (_, RolloutPhase::AwaitingPromotion) => (State::True, reasons::AWAITING_PROMOTION, message.clone()),
        (_, RolloutPhase::Promoting) => (State::True, reasons::PROMOTING, message.clone()),
        (_, _) if !pods.complete() => (State::True, reasons::ROLLING_OUT, counts),
        (_, RolloutPhase::Promoted) => (State::True, reasons::PROMOTED, message.clone()),
        (_, RolloutPhase::Aborted) => (State::False, reasons::ABORTED, message.clone()),
        (_, RolloutPhase::RolledBack) => (State::False, reasons::ROLLED_BACK, message.clone()),
        (_, RolloutPhase::Undone) => (State::False, reasons::UNDONE, message.clone()),
        (_, RolloutPhase::Idle) => {
            (State::False, reasons::ROLLED_OUT, format!("{} of {} replicas are up to date", pods.updated, pods.wanted))
        }
    };
    conditions.set(PROGRESSING, state, reason, message);
}

/// A store that is not there yet, because the cluster refuses a part of it: that is what it waits for.
fn instead(verdict: Option<managed::Verdict>, refused: Option<&ReconcileError>) -> Option<managed::Verdict> {
    let verdict = verdict?;
    Some(match refused {
        Some(error) if !verdict.well => {
            managed::Verdict { well: false, reason: reasons::REFUSED, message: format!("{error}; it is tried again") }
        }
        _ => verdict,
    })
}

fn degraded(conditions: &mut Conditions<'_>, validated: &ValidatedPlatform, decided: &Decided, refused: &Refused) {
    if let Err(Problem { reason, message }) = &validated.sealing_key {
        conditions.set(DEGRADED, State::True, reason, message.as_str());
    } else if let Some(instead) = &decided.decision.record.rollout.instead {
        let reason = match instead.reason {
            InsteadReason::Aborted => reasons::ABORTED,
            InsteadReason::RolledBack => reasons::ROLLED_BACK,
            InsteadReason::Undone => reasons::UNDONE,
        };
        let message = format!(
            "{}; release {} runs instead of the declared {}: change the spec, or annotate tenantry.dev/rollout=retry",
            instead.message, instead.revision, instead.declared_revision,
        );
        conditions.set(DEGRADED, State::True, reason, message);
    } else if refused.all().next().is_some() {
        let messages: Vec<_> = refused.all().map(ToString::to_string).collect();
        conditions.set(DEGRADED, State::True, reasons::REFUSED, format!("{}; it is tried again", messages.join("; ")));
    } else if let [first, ..] = validated.wants.as_slice() {
        let messages = validated.wants.iter().map(|want| want.message.as_str());
        let not_yet = validated.not_carried_out.iter().copied();
        conditions.set(DEGRADED, State::True, first.reason, messages.chain(not_yet).collect::<Vec<_>>().join("; "));
    } else if !validated.not_carried_out.is_empty() {
        let message = format!("not carried out by this version: {}", validated.not_carried_out.join("; "));
        conditions.set(DEGRADED, State::True, reasons::NOT_SUPPORTED, message);
    } else {
        conditions.set(DEGRADED, State::False, reasons::AS_DECLARED, "");
    }
}

/// True when it serves as declared; else the first condition that says why not.
fn ready(conditions: &mut Conditions<'_>, paused: bool) {
    let held = |type_: &str| conditions.get(type_).filter(|condition| condition.status != "True");
    let progress = conditions.get(PROGRESSING).filter(|condition| {
        let held = paused && condition.reason == reasons::PAUSED;
        !held && !matches!(condition.reason.as_str(), reasons::ROLLED_OUT | reasons::PROMOTED)
    });
    // Not the declared release, or a key that is none; what is merely not carried out is no reason not to be ready.
    let broken = conditions.get(DEGRADED).filter(|condition| {
        matches!(
            condition.reason.as_str(),
            reasons::SECRET_INVALID | reasons::ABORTED | reasons::ROLLED_BACK | reasons::UNDONE
        )
    });
    let culprit = held(POSTGRES_READY)
        .or_else(|| held(REDIS_READY))
        .or(broken)
        .or(progress)
        .or_else(|| held(AVAILABLE))
        .or_else(|| held(ROUTED));
    let Some(Condition { reason, message, .. }) = culprit.cloned() else {
        conditions.set(READY, State::True, reasons::READY, "the API serves as declared");
        return;
    };
    conditions.set(READY, State::False, &reason, message);
}

fn labels(platform: &str, active: Option<Color>) -> String {
    let labels = active.map_or_else(|| selector(platform), |color| color_selector(platform, color));
    let pairs: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// The first host from outside, or else the Service from inside.
fn url(found: &Dereferenced, validated: &ValidatedPlatform) -> String {
    let spec = &found.platform.spec;
    let ingress = spec.ingress.as_ref().map(|ingress| if ingress.tls.is_some() { "https" } else { "http" });
    // What its listeners speak is the Gateway's affair; in front of the public it is TLS, and webhooks get no other address.
    let gateway = spec.gateway.as_ref().filter(|_| found.optional.gateway_api).map(|_| "https");
    let outside = ingress.or(gateway).and_then(|scheme| {
        let host = validated.hosts.iter().find(|host| !host.starts_with('*'))?;
        Some(format!("{scheme}://{host}"))
    });
    outside.unwrap_or_else(|| format!("http://{}.{}.svc", names::api(&found.name), found.namespace))
}

#[cfg(test)]
mod tests;

//! What is said about a Platform: pure, from what was found and what was applied.

use contract::names;
use crds::{
    PlatformStatus,
    conditions::{AVAILABLE, DEGRADED, PAUSED, POSTGRES_READY, PROGRESSING, READY, REDIS_READY, ROUTED, of, reasons},
    platform::Color,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentStatus},
    apimachinery::pkg::apis::meta::v1::Condition,
};

use super::{
    apply::{Applied, Migration},
    build::{color_selector, selector},
    dereference::Dereferenced,
    rollout::observed::release,
    routing,
    validate::{Problem, Source, ValidatedPlatform},
};
use crate::kube_ext::{Conditions, State};

pub fn status<'a>(
    found: &Dereferenced,
    before: &'a PlatformStatus,
    validated: &ValidatedPlatform,
    applied: &Applied,
    now: Timestamp,
) -> (PlatformStatus, Conditions<'a>) {
    let generation = found.platform.metadata.generation;
    let mut conditions = Conditions::new(of::PLATFORM, &before.conditions, generation, now);
    let workload = Pods::of(applied.deployment.as_ref());

    dependency(&mut conditions, POSTGRES_READY, &validated.postgres);
    dependency(&mut conditions, REDIS_READY, &validated.redis);
    paused(&mut conditions, found.platform.spec.paused);
    available(&mut conditions, &workload);
    progressing(&mut conditions, found, applied, &workload);
    let (state, reason, message) = routing::routed(found, validated);
    conditions.set(ROUTED, state, reason, message);
    degraded(&mut conditions, validated);
    ready(&mut conditions, found.platform.spec.paused);

    let PlatformStatus { preview_revision, stable_revision, rollout, .. } = before.clone();
    let status = PlatformStatus {
        observed_generation: generation,
        active_color: applied.active,
        active_revision: applied.deployment.as_ref().and_then(release).map(str::to_owned),
        preview_revision,
        stable_revision,
        rollout,
        replicas: workload.replicas,
        selector: Some(labels(&found.name, applied.active)),
        tenants: u32::try_from(found.tenants.len()).unwrap_or(u32::MAX),
        url: Some(url(found, validated)),
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
            reasons::MIGRATION_FAILED | reasons::PROGRESS_DEADLINE_EXCEEDED | reasons::SECRET_INVALID
        ),
        _ => condition.status == "False",
    }
}

/// The numbers of the Deployment that the verdicts need.
struct Pods {
    wanted: u32,
    replicas: u32,
    updated: u32,
    available: u32,
    /// Whether the numbers are about the template that was applied last.
    current: bool,
    stalled: Option<String>,
}

impl Pods {
    fn of(deployment: Option<&Deployment>) -> Self {
        let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let spec = deployment.and_then(|deployment| deployment.spec.as_ref());
        let status = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
        let DeploymentStatus {
            replicas, updated_replicas, available_replicas, observed_generation, conditions, ..
        } = status;
        let generation = deployment.and_then(|deployment| deployment.metadata.generation);
        Self {
            wanted: spec.map_or(0, |spec| number(spec.replicas.or(Some(1)))),
            replicas: number(replicas),
            updated: number(updated_replicas),
            available: number(available_replicas),
            current: deployment.is_some() && observed_generation >= generation,
            stalled: conditions
                .into_iter()
                .flatten()
                .find(|c| c.type_ == "Progressing" && c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
                .map(|c| c.message.unwrap_or_default()),
        }
    }
}

fn dependency(conditions: &mut Conditions<'_>, type_: &str, source: &Result<Source, Problem>) {
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

fn progressing(conditions: &mut Conditions<'_>, found: &Dereferenced, applied: &Applied, pods: &Pods) {
    let namespace = &found.namespace;
    let (state, reason, message) = match &applied.migration {
        Migration::Running { job } => {
            (State::True, reasons::MIGRATING, format!("Job {job} brings the database to the image's schema"))
        }
        Migration::Failed { job, message } => (
            State::False,
            reasons::MIGRATION_FAILED,
            format!(
                "Job {job} failed ({message}) and the pods before it go on serving: read `kubectl logs -n {namespace} \
                 job/{job}`, cure it, then `kubectl delete -n {namespace} job/{job}` to have it run again",
            ),
        ),
        Migration::NotStarted if found.platform.spec.paused => {
            (State::False, reasons::PAUSED, "changes are held by spec.paused".into())
        }
        Migration::NotStarted => {
            (State::Unknown, reasons::RECONCILING, "waiting for PostgreSQL, Redis and the sealing key".into())
        }
        Migration::Done => match &pods.stalled {
            Some(message) => (State::False, reasons::PROGRESS_DEADLINE_EXCEEDED, message.clone()),
            None if pods.current
                && pods.updated >= pods.wanted
                && pods.replicas <= pods.updated
                && pods.available >= pods.wanted =>
            {
                (
                    State::False,
                    reasons::ROLLED_OUT,
                    format!("{} of {} replicas are up to date", pods.updated, pods.wanted),
                )
            }
            None => (
                State::True,
                reasons::ROLLING_OUT,
                format!("{} of {} replicas are up to date, {} available", pods.updated, pods.wanted, pods.available),
            ),
        },
    };
    conditions.set(PROGRESSING, state, reason, message);
}

fn degraded(conditions: &mut Conditions<'_>, validated: &ValidatedPlatform) {
    if let Err(Problem { reason, message }) = &validated.sealing_key {
        conditions.set(DEGRADED, State::True, reason, message.as_str());
    } else if let [first, ..] = validated.wants.as_slice() {
        let messages = validated.wants.iter().map(|want| want.message.as_str());
        let not_yet = validated.not_carried_out.iter().copied();
        conditions.set(DEGRADED, State::True, first.reason, messages.chain(not_yet).collect::<Vec<_>>().join("; "));
    } else if validated.not_carried_out.is_empty() {
        conditions.set(DEGRADED, State::False, reasons::AS_DECLARED, "");
    } else {
        let message = format!("not carried out by this version: {}", validated.not_carried_out.join("; "));
        conditions.set(DEGRADED, State::True, "NotSupported", message);
    }
}

/// True when it serves as declared; else the first condition that says why not.
fn ready(conditions: &mut Conditions<'_>, paused: bool) {
    let held = |type_: &str| conditions.get(type_).filter(|condition| condition.status != "True");
    let progress = conditions.get(PROGRESSING).filter(|condition| {
        condition.reason != reasons::ROLLED_OUT && !(paused && condition.reason == reasons::PAUSED)
    });
    let broken = conditions.get(DEGRADED).filter(|condition| condition.reason == reasons::SECRET_INVALID);
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
    let ingress = found.platform.spec.ingress.as_ref();
    let outside = ingress.and_then(|ingress| {
        let scheme = if ingress.tls.is_some() { "https" } else { "http" };
        let host = validated.hosts.iter().find(|host| !host.starts_with('*'))?;
        Some(format!("{scheme}://{host}"))
    });
    outside.unwrap_or_else(|| format!("http://{}.{}.svc", names::api(&found.name), found.namespace))
}

#[cfg(test)]
mod tests;

//! The job controller: one pod at a time until enough have succeeded or too many have failed.

use std::collections::BTreeSet;

use anyhow::Result;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Settings, clock, owned};

pub async fn sync(settings: &Settings, job: &Job, pods: &[Pod]) -> Result<()> {
    let Some(spec) = &job.spec else { return Ok(()) };
    if job.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) || verdict(job).is_some() {
        return Ok(());
    }
    let mine = owned::of(job, pods);
    let in_phase = |phase: &str| mine.iter().filter(|pod| owned::phase(pod) == phase).count();
    let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
    let active = mine.len() - succeeded - failed;
    let completions = usize::try_from(spec.completions.unwrap_or(1)).unwrap_or(1);
    let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or_default();

    let verdict = if succeeded >= completions {
        Some(("Complete", "SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods"))
    } else if failed > limit {
        Some(("Failed", "FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit"))
    } else {
        None
    };
    if verdict.is_none() && active == 0 {
        let mut taken: BTreeSet<_> = mine.iter().map(|pod| pod.name_any()).collect();
        let name = job.name_any();
        let uid = job.uid().unwrap_or_default();
        let labels = [("batch.kubernetes.io/job-name", name.as_str()), ("batch.kubernetes.io/controller-uid", &uid)];
        owned::create(settings, job, &spec.template, &name, &labels, &mut taken).await?;
    }

    let started =
        job.status.as_ref().and_then(|status| status.start_time.clone()).map_or_else(clock::seconds, |time| time.0);
    let mut status = json!({
        "startTime": started,
        "active": active,
        "succeeded": succeeded,
        "failed": failed,
        "ready": mine.iter().filter(|pod| owned::is_ready(pod)).count(),
    });
    if let Some((kind, criterion, reason, message)) = verdict {
        let condition = |kind: &str| {
            let now = clock::seconds();
            json!({"type": kind, "status": "True", "reason": reason, "message": message,
                   "lastTransitionTime": now, "lastProbeTime": now})
        };
        // The criterion goes before the verdict: newer API servers refuse the one without the other.
        status["conditions"] = json!([condition(criterion), condition(kind)]);
        if kind == "Complete" {
            status["completionTime"] = json!(clock::seconds());
        }
    }
    if differs(job, &status)? { owned::write_status(settings, job, status).await } else { Ok(()) }
}

/// `Complete` or `Failed`, once it is decided.
pub fn verdict(job: &Job) -> Option<&str> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut decided =
        conditions.filter(|condition| condition.status == "True").map(|condition| condition.type_.as_str());
    decided.find(|kind| matches!(*kind, "Complete" | "Failed"))
}

/// Whether any field says something else; a number that is absent is zero.
fn differs(job: &Job, status: &Value) -> Result<bool> {
    let before = serde_json::to_value(&job.status)?;
    let fields = status.as_object().into_iter().flatten();
    Ok(fields.into_iter().any(|(name, value)| match &before[name] {
        Value::Null => *value != json!(0),
        known => known != value,
    }))
}

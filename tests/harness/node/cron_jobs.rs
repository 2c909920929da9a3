//! The CronJob controller: a Job at each time of the schedule; of those that were missed, the newest.

use std::{cmp::Reverse, collections::BTreeMap};

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta},
};
use serde_json::json;

use super::{Settings, clock, jobs, owned, schedule::Schedule};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub async fn sync(settings: &Settings, cron: &CronJob, all: &[Job]) -> Result<()> {
    if cron.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let spec = &cron.spec;
    let mine: Vec<_> = all.iter().filter(|job| is_of(job, cron)).collect();
    let (finished, active): (Vec<&Job>, Vec<&Job>) = mine.iter().copied().partition(|job| jobs::verdict(job).is_some());
    let mut last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);

    let schedule = Schedule::parse(&spec.schedule, spec.time_zone.as_deref());
    if let Err(error) = &schedule {
        tracing::warn!("CronJob {}: {error:#}", cron.name_any());
    }
    let now = clock::now();
    let since = last.or_else(|| cron.creation_timestamp().map(|time| time.0)).unwrap_or(now);
    let due = schedule.ok().and_then(|schedule| schedule.due(since, now));
    let in_time = |due: &Timestamp| {
        spec.starting_deadline_seconds.is_none_or(|limit| now.duration_since(*due).as_secs() <= limit)
    };
    if let Some(due) = due.filter(|due| spec.suspend != Some(true) && in_time(due)) {
        let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
        if policy == "Replace" {
            for job in &active {
                remove(settings, job).await?;
            }
        }
        if policy != "Forbid" || active.is_empty() {
            owned::submit(settings, &job(cron, due)).await?;
            last = Some(due);
        }
    }

    for (verdict, limit) in [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ] {
        let mut past: Vec<_> = finished.iter().copied().filter(|job| jobs::verdict(job) == Some(verdict)).collect();
        past.sort_by_key(|job| Reverse(job.creation_timestamp()));
        for job in past.into_iter().skip(usize::try_from(limit).unwrap_or_default()) {
            remove(settings, job).await?;
        }
    }

    let success = finished.iter().filter_map(|job| Some(job.status.as_ref()?.completion_time.as_ref()?.0)).max();
    let known = cron.status.as_ref().and_then(|status| status.last_successful_time.as_ref()).map(|time| time.0);
    let active: Vec<_> = active.iter().map(|job| job.object_ref(&())).collect();
    let status = json!({"active": active, "lastScheduleTime": last, "lastSuccessfulTime": success.max(known)});
    let before = cron.status.clone().unwrap_or_default();
    let before = json!({
        "active": before.active.unwrap_or_default(), "lastScheduleTime": before.last_schedule_time,
        "lastSuccessfulTime": before.last_successful_time,
    });
    if status == before { Ok(()) } else { owned::write_status(settings, cron, status).await }
}

fn is_of(job: &Job, cron: &CronJob) -> bool {
    let mut owners = job.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == cron.metadata.uid.as_ref())
}

/// Named after its minute: asked for twice, it is there once.
fn job(cron: &CronJob, due: Timestamp) -> Job {
    let template = cron.spec.job_template.clone();
    let given = template.metadata.unwrap_or_default();
    let mut annotations = given.annotations.unwrap_or_default();
    annotations.extend(BTreeMap::from([(SCHEDULED_AT.to_owned(), due.to_string())]));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), due.as_second() / 60)),
            namespace: cron.namespace(),
            labels: given.labels,
            annotations: Some(annotations),
            owner_references: cron.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

async fn remove(settings: &Settings, job: &Job) -> Result<()> {
    let api = settings.api_in::<Job>(&job.namespace().unwrap_or_default());
    match api.delete(&job.name_any(), &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

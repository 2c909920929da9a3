//! How far the migration of a release is, and why it failed.

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    super::{build::ANNOTATION_MIGRATION, dereference::Dereferenced},
    machine::Migration,
};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
};

/// Longest part of a Job's last words that is repeated.
const REPEATED: usize = 300;

pub async fn state(ctx: &Ctx, found: &Dereferenced, name: &str) -> Result<Migration, ReconcileError> {
    // Its Job may be long gone; that pods of this migration were started is proof enough.
    if found.observed.all().any(|deployment| migrated(deployment) == Some(name)) {
        return Ok(Migration::Done);
    }
    let Some(job) = found.jobs.iter().find(|job| job.name_any() == name) else { return Ok(Migration::NotStarted) };
    let job_name = name.to_owned();
    if condition(job, "Complete").is_some() {
        return Ok(Migration::Done);
    }
    let Some(failed) = condition(job, "Failed") else { return Ok(Migration::Running { job: job_name }) };
    let message = match last_words(ctx, found, name).await? {
        Some(words) => words,
        None => failed,
    };
    Ok(Migration::Failed { job: job_name, message })
}

fn migrated(deployment: &Deployment) -> Option<&str> {
    let annotations = deployment.spec.as_ref()?.template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(ANNOTATION_MIGRATION).map(String::as_str)
}

/// The message of a condition that holds.
fn condition(job: &Job, type_: &str) -> Option<String> {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.find(|condition| condition.type_ == type_ && condition.status == "True")?;
    Some(found.message.clone().unwrap_or_default())
}

/// What the Job's last pod said before it ended.
async fn last_words(ctx: &Ctx, found: &Dereferenced, job: &str) -> Result<Option<String>, ReconcileError> {
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let pods = Api::<Pod>::namespaced(ctx.client.clone(), &found.namespace);
    let list = pods.list(&params).await.doing(|| format!("list the pods of Job {}/{job}", found.namespace))?;
    let ended = list.items.iter().filter_map(|pod| {
        let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        Some((terminated.finished_at.clone(), terminated.message.clone().filter(|message| !message.trim().is_empty())?))
    });
    Ok(ended.max_by_key(|(at, _)| at.clone()).map(|(_, message)| redacted(&message)))
}

/// The last line, without what may be a password.
fn redacted(message: &str) -> String {
    let line = message.trim().lines().last().unwrap_or_default();
    let word = |word: &str| match word.split_once("://") {
        Some((scheme, _)) => format!("{}://[redacted]", scheme.trim_start_matches(|c: char| !c.is_ascii_alphabetic())),
        None if word.to_ascii_lowercase().contains("password=") => "password=[redacted]".to_owned(),
        None => word.to_owned(),
    };
    let mut text = line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.truncate(text.floor_char_boundary(REPEATED));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_tell_no_password() {
        let said = "starting\nError: cannot connect to postgres://app:s3cret@db:5432/app: refused (password=s3cret)";
        let redacted = redacted(said);
        assert!(
            !redacted.contains("s3cret") && redacted.contains("cannot connect") && redacted.ends_with("[redacted]"),
            "{redacted}"
        );
    }
}

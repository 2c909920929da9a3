//! Nightly backups of the StatefulSet's PostgreSQL: files of `pg_dump` on a volume of their own.
//!
//! As the superuser: `pg_dump` refuses to read tables under row-level security with any other role, and rightly so, since
//! it would leave rows out.

use crds::platform::{Backup, ManagedPostgres, Storage};
use k8s_openapi::api::{
    batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec},
    core::v1::{Container, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Volume},
};
use kube::api::ObjectMeta;

use super::{
    super::{
        super::{build::pull_secrets, dereference::Dereferenced},
        dereference::FoundPostgres,
        names::{backup, superuser},
    },
    data, owned, pod, postgres,
};
use crate::kube_ext::platform_labels;

const NAME: &str = "tenantry-backup";
const FOLDER: &str = "/backup";

/// A folder for each backup, under its final name only when it is whole; then those beyond the retention go.
const SCRIPT: &str = include_str!("backup.sh");

pub fn cron_job(found: &Dereferenced, managed: &ManagedPostgres, there: &FoundPostgres, wish: &Backup) -> CronJob {
    let mut labels = platform_labels(&found.name);
    labels.insert(contract::names::LABEL_NAME.into(), NAME.into());
    labels.insert(contract::names::LABEL_INSTANCE.into(), found.name.clone());
    let superuser = superuser(&found.name);
    let login = [("PGHOST", "host"), ("PGPORT", "port"), ("PGUSER", "username"), ("PGPASSWORD", "password")];
    let mut env: Vec<_> = login.iter().map(|(name, key)| pod::from_secret(name, &superuser, key)).collect();
    env.extend([
        pod::plain("PGDATABASE", "postgres"),
        pod::plain("BACKUP_DIR", FOLDER),
        pod::plain("RETENTION_DAYS", &days(&wish.retention).to_string()),
    ]);
    let container = Container {
        name: "backup".into(),
        image: Some(format!("postgres:{}", postgres::version(managed, there))),
        command: Some(["sh", "-c", SCRIPT].map(Into::into).into()),
        env: Some(env),
        volume_mounts: Some(vec![pod::mount("backup", FOLDER), pod::mount("tmp", "/tmp")]),
        security_context: Some(pod::container_security()),
        ..Container::default()
    };
    let volume = PersistentVolumeClaimVolumeSource { claim_name: backup(&found.name), read_only: None };
    CronJob {
        metadata: owned(found, backup(&found.name)),
        spec: CronJobSpec {
            schedule: wish.schedule.clone(),
            time_zone: Some("Etc/UTC".into()),
            concurrency_policy: Some("Forbid".into()),
            // A control plane that was away over night makes it up in the morning.
            starting_deadline_seconds: Some(12 * 60 * 60),
            successful_jobs_history_limit: Some(3),
            failed_jobs_history_limit: Some(3),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
                spec: Some(JobSpec {
                    backoff_limit: Some(3),
                    template: PodTemplateSpec {
                        metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                        spec: Some(PodSpec {
                            image_pull_secrets: pull_secrets(&found.platform),
                            containers: vec![container],
                            restart_policy: Some("Never".into()),
                            automount_service_account_token: Some(false),
                            enable_service_links: Some(false),
                            security_context: Some(pod::pod_security(pod::STORE_USER)),
                            volumes: Some(vec![
                                Volume {
                                    name: "backup".into(),
                                    persistent_volume_claim: Some(volume),
                                    ..Volume::default()
                                },
                                pod::scratch("tmp"),
                            ]),
                            ..PodSpec::default()
                        }),
                    },
                    ..JobSpec::default()
                }),
            },
            ..CronJobSpec::default()
        },
        ..CronJob::default()
    }
}

/// As large as the data's: a dump is smaller, and a few of them are kept.
pub fn volume(found: &Dereferenced, managed: &ManagedPostgres) -> PersistentVolumeClaim {
    let Storage { size, storage_class } = managed.storage.clone();
    pod::claim(data(found, backup(&found.name)), &Storage { size, storage_class })
}

/// The schema lets nothing else through than a number and one of the three letters.
fn days(retention: &str) -> u32 {
    let (number, unit) = retention.split_at(retention.len().saturating_sub(1));
    let unit = match unit {
        "w" => 7,
        "m" => 30,
        _ => 1,
    };
    number.parse::<u32>().unwrap_or(30).saturating_mul(unit)
}

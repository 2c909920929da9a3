//! What a Platform's own stores need: StatefulSets with claims, names, and the programs that stand for their images.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::PersistentVolumeClaim,
};
use sqlx::{Connection, PgConnection};

use super::*;

const PASSWORD: &str = "correct-horse";

/// A PostgreSQL with a claim, as a manifest for a cluster would say it.
fn postgres(note: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db", "replicas": 1,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}, "annotations": {"note": note}},
                "spec": {
                    "containers": [{
                        "name": "postgres", "image": "docker.io/library/postgres:17",
                        "args": ["-c", "max_connections=20"],
                        "env": [
                            {"name": "POSTGRES_USER", "value": "app"},
                            {"name": "POSTGRES_DB", "value": "main"},
                            {"name": "POSTGRES_PASSWORD_FILE", "value": "/etc/password/password"},
                            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
                        ],
                        "ports": [{"name": "postgres", "containerPort": 5432}],
                        "readinessProbe": {
                            "exec": {"command": ["pg_isready", "--username=app", "--dbname=main"]}, "periodSeconds": 1,
                        },
                        "volumeMounts": [
                            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
                            {"name": "password", "mountPath": "/etc/password"},
                            {"name": "scripts", "mountPath": "/docker-entrypoint-initdb.d"},
                        ],
                    }],
                    "volumes": [
                        {"name": "password", "secret": {"secretName": "db"}},
                        {"name": "scripts", "configMap": {"name": "db"}},
                    ],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    })
}

fn service(name: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "main", "port": port}]}})
}

impl Machine {
    /// Runs a command of an image as a pod, and yields what it wrote when it succeeded.
    async fn runs(&self, name: &str, image: &str, command: &[&str]) -> String {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "OnFailure", "containers": [{"name": "main", "image": image, "command": command,
                "env": [{"name": "PGPASSWORD", "value": PASSWORD}, {"name": "PGHOST", "value": "db.default.svc"}]}]}});
        self.objects.apply(&pod).await.unwrap();
        self.until_pods(|pods| {
            pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(name) && owned::phase(pod) == "Succeeded")
        })
        .await;
        let log = self.workdir.join("node/logs").join(NAMESPACE).join(name).join("main.log");
        std::fs::read_to_string(log).unwrap()
    }
}

#[tokio::test]
async fn a_database_keeps_its_data_while_its_pods_come_and_go() {
    let machine = Machine::start().await;
    let scripts = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "db"},
        "data": {"facts.sql": "create table facts (fact text); insert into facts values ('love')"}});
    machine.objects.apply(&secret("db", &[("password", PASSWORD)])).await.unwrap();
    machine.objects.apply(&scripts).await.unwrap();
    machine.objects.apply(&service("db", 5432)).await.unwrap();
    machine.objects.apply(&postgres("first")).await.unwrap();

    let look = async || Ok(machine.api::<StatefulSet>().get("db").await?.status.unwrap_or_default());
    wait::until_value("the database", look, |status| status.ready_replicas == Some(1)).await.unwrap();
    let claim = machine.api::<PersistentVolumeClaim>().get("data-db-0").await.unwrap();
    assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));

    // From another pod, by the Service's name in the cluster.
    let ask = ["psql", "--username=app", "--dbname=main", "--tuples-only", "--command=select fact from facts"];
    assert_eq!(machine.runs("asks", "postgres:17", &ask).await.trim(), "love");

    // A new template replaces the pod under its own name, and the data is still there.
    let pods = machine.pods().await;
    let before = pods.iter().find(|pod| pod.name_any() == "db-0").unwrap().uid();
    machine.objects.apply(&postgres("second")).await.unwrap();
    let pods = machine.until_pods(|pods| {
        pods.iter().any(|pod| pod.name_any() == "db-0" && pod.uid() != before && owned::is_ready(pod))
    });
    let address =
        pods.await.iter().find(|pod| pod.name_any() == "db-0").unwrap().status.clone().unwrap().pod_ip.unwrap();
    let url = format!("postgres://app:{PASSWORD}@{address}/main");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (fact, most): (String, String) = sqlx::query_as("select fact, current_setting('max_connections') from facts")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!((fact.as_str(), most.as_str()), ("love", "20"));
    let status = wait::until_value("the update", look, |status| status.current_revision == status.update_revision);
    assert_eq!(status.await.unwrap().updated_replicas, Some(1));

    // Without the claim the folder goes too.
    machine.api::<StatefulSet>().delete("db", &DeleteParams::default()).await.unwrap();
    machine.until_pods(|pods| pods.iter().all(|pod| pod.name_any() != "db-0")).await;
    let folders = || std::fs::read_dir(machine.workdir.join("node/claims")).unwrap().count();
    assert_eq!(folders(), 1, "the claim outlives its set");
    machine.api::<PersistentVolumeClaim>().delete("data-db-0", &DeleteParams::default()).await.unwrap();
    wait::until("the folder to go", async || Ok((folders() == 0).then_some(()))).await.unwrap();
    machine.stop().await;
}

#[tokio::test]
async fn a_cache_is_found_under_its_name() {
    let machine = Machine::start().await;
    machine.objects.apply(&service("cache", 6379)).await.unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cache", "labels": {"app": "cache"}}, "spec": {
        "containers": [{"name": "valkey", "image": "valkey/valkey:8", "args": ["--requirepass", PASSWORD, "--save", ""],
            "env": [{"name": "REDISCLI_AUTH", "value": PASSWORD}],
            "ports": [{"containerPort": 6379}],
            "readinessProbe": {"exec": {"command": ["valkey-cli", "ping"]}, "periodSeconds": 1}}]}});
    machine.objects.apply(&pod).await.unwrap();
    machine.until_pods(|pods| ready(pods) == 1).await;
    let ask = ["redis-cli", "-h", "cache.default.svc.cluster.local", "-a", PASSWORD, "ping"];
    let said = machine.runs("asks", "valkey/valkey:8", &ask).await;
    assert!(said.contains("PONG"), "{said}");
    machine.stop().await;
}

#[tokio::test]
async fn a_cron_job_that_missed_its_time_makes_one_job() {
    let machine = Machine::start().await;
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": {
        "schedule": "0 2 * * *",
        "jobTemplate": {"spec": {"template": {"spec": script("Never", "exit 0")}}}}});
    machine.objects.apply(&cron).await.unwrap();
    let crons = machine.api::<CronJob>();
    let missed = json!({"status": {"lastScheduleTime": "2026-01-01T02:00:00Z"}});
    crons.patch_status("nightly", &PatchParams::default(), &Patch::Merge(missed)).await.unwrap();
    let look = async || Ok(crons.get("nightly").await?.status.unwrap_or_default());
    let status =
        wait::until_value("the nightly job", look, |status| status.last_successful_time.is_some()).await.unwrap();
    let due = status.last_schedule_time.unwrap().0;
    let jobs = machine.api::<Job>().list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = jobs.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, [format!("nightly-{}", due.as_second() / 60)]);
    machine.stop().await;
}

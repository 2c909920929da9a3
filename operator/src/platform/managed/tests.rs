//! What a person would look at with `kubectl get -o yaml`, and what is said of it.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    batch::v1::{Job, JobCondition, JobStatus},
    core::v1::{Pod, Secret},
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{
    super::{
        build::ANNOTATION_SECRETS, dereference::Dereferenced, fixtures, validate::secret_digest, validate::validate,
    },
    build::{self, backup, cluster, job, postgres, redis, secret},
    credentials,
    dereference::{FoundPostgres, FoundRedis},
    facts::{self, ANNOTATION_FORMER},
    names::{self, ANNOTATION_ROTATE, Store},
    rotation::{Progress, Step, next},
    verdict::{credentials_status, postgres_verdict, redis_verdict},
    *,
};

const MANAGED: &str = "postgres: {managed: {storage: {size: 20Gi}, version: 17, backup: {schedule: \"0 3 * * *\"}}}
redis: {managed: {maxMemory: 256Mi}}
";
const CLUSTERED: &str = "postgres:
  managed:
    instances: 3
    storage: {size: 20Gi, storageClass: fast}
    version: 17
    backup:
      schedule: \"0 3 * * *\"
      destination: {path: s3://backups/main, endpoint: https://s3.example, secretRef: {name: store}}
redis: {managed: {storage: {size: 1Gi}, maxMemory: 1Gi}}
";

fn found(spec: &str) -> Dereferenced {
    let mut found = fixtures::found(spec);
    (found.postgres, found.redis) = (None, None);
    found.managed.postgres = Some(FoundPostgres::default());
    found.managed.redis = Some(FoundRedis::default());
    found
}

fn there(found: &mut Dereferenced) -> &mut FoundPostgres {
    found.managed.postgres.as_mut().unwrap()
}

fn login(found: &Dereferenced, user: &str, password: &str) -> Secret {
    let text = credentials::platform_postgres(&found.name, &found.namespace, user, password);
    let mut made = secret::basic_auth(build::data(found, "some"), text);
    made.metadata.uid = Some(format!("uid-of-{user}"));
    made.metadata.resource_version = Some("7".into());
    made
}

fn annotated(mut secret: Secret, key: &str, value: &str) -> Secret {
    secret.metadata.annotations.get_or_insert_default().insert(key.into(), value.into());
    secret
}

fn ready() -> Arc<StatefulSet> {
    let status = StatefulSetStatus { ready_replicas: Some(1), replicas: 1, ..StatefulSetStatus::default() };
    Arc::new(StatefulSet { status: Some(status), ..StatefulSet::default() })
}

#[test]
fn the_objects_of_a_single_postgresql() {
    let found = found(MANAGED);
    let managed = found.platform.spec.postgres.managed.as_ref().unwrap();
    let there = found.managed.postgres.as_ref().unwrap();
    insta::assert_yaml_snapshot!("postgres", postgres::stateful_set(&found, managed, there));
    insta::assert_yaml_snapshot!("postgres_services", postgres::services(&found));
    let wish = managed.backup.as_ref().unwrap();
    insta::assert_yaml_snapshot!("postgres_backup", backup::cron_job(&found, managed, there, wish));
    insta::assert_yaml_snapshot!("postgres_backup_volume", backup::volume(&found, managed));
    let validated = validate(&found, fixtures::IMAGE);
    insta::assert_yaml_snapshot!("prepare", job::prepare_postgres(&found, &validated, "uid"));
}

#[test]
fn the_objects_of_a_redis() {
    let found = found(MANAGED);
    insta::assert_yaml_snapshot!(
        "redis",
        redis::stateful_set(&found, found.platform.spec.redis.managed.as_ref().unwrap())
    );
    insta::assert_yaml_snapshot!("redis_service", redis::service_of(&found));
}

#[test]
fn a_secret_has_the_keys_of_cloudnativepg() {
    let text = credentials::platform_postgres("main", "shop", "tenantry_a", "s3cret");
    insta::assert_yaml_snapshot!("postgres_app", text);
    insta::assert_yaml_snapshot!("redis_app", credentials::redis("main", "shop", "s3cret"));
}

fn clustered() -> Dereferenced {
    let mut found = found(CLUSTERED);
    let app = login(&found, "tenantry_a", "one");
    let there = there(&mut found);
    there.peers.clusters = true;
    there.app = Some(app);
    found
}

fn cluster_of(found: &Dereferenced) -> DynamicObject {
    let managed = found.platform.spec.postgres.managed.as_ref().unwrap();
    cluster::cluster(found, managed, found.managed.postgres.as_ref().unwrap())
}

#[test]
fn the_objects_of_a_cluster() {
    let mut found = clustered();
    let managed = found.platform.spec.postgres.managed.clone().unwrap();
    insta::assert_yaml_snapshot!("cluster", cluster_of(&found));
    insta::assert_yaml_snapshot!(
        "cluster_backup",
        cluster::backups(&found, &managed, found.managed.postgres.as_ref().unwrap())
    );
    there(&mut found).peers.object_stores = true;
    insta::assert_yaml_snapshot!("cluster_with_the_plugin", cluster_of(&found));
    insta::assert_yaml_snapshot!(
        "backup_with_the_plugin",
        cluster::backups(&found, &managed, found.managed.postgres.as_ref().unwrap())
    );
}

#[test]
fn cloudnativepg_would_take_what_we_make() {
    let found = clustered();
    let managed = found.platform.spec.postgres.managed.clone().unwrap();
    let backups = cluster::backups(&found, &managed, found.managed.postgres.as_ref().unwrap());
    published::takes("cnpg-clusters.yaml", &cluster_of(&found));
    published::takes("cnpg-scheduledbackups.yaml", &backups[0]);
}

#[test]
fn each_kind_of_object_store_has_its_address_and_its_keys() {
    for (path, address, credentials) in [
        ("s3://backups/main", "s3://backups/main", "s3Credentials"),
        ("gs://backups/main", "gs://backups/main", "googleCredentials"),
        ("azure://acme/backups/main", "https://acme.blob.core.windows.net/backups/main", "azureCredentials"),
    ] {
        let mut found = found(&CLUSTERED.replace("s3://backups/main, endpoint: https://s3.example", path));
        there(&mut found).peers.clusters = true;
        let cluster = cluster_of(&found);
        published::takes("cnpg-clusters.yaml", &cluster);
        let store = &cluster.data["spec"]["backup"]["barmanObjectStore"];
        assert_eq!(store["destinationPath"], address);
        assert!(store[credentials].is_object(), "{store}");
    }
}

#[test]
fn images_are_pulled_with_the_declared_secrets() {
    let found = found(&format!("{MANAGED}imagePullSecrets: [{{name: registry}}]\n"));
    let managed = found.platform.spec.postgres.managed.as_ref().unwrap();
    let set = postgres::stateful_set(&found, managed, found.managed.postgres.as_ref().unwrap());
    let pod = set.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
    let mut found = self::found(&format!("{CLUSTERED}imagePullSecrets: [{{name: registry}}]\n"));
    there(&mut found).peers.clusters = true;
    let cluster = cluster_of(&found);
    published::takes("cnpg-clusters.yaml", &cluster);
    assert_eq!(cluster.data["spec"]["imagePullSecrets"], json!([{ "name": "registry" }]));
}

#[test]
fn a_single_instance_says_what_it_is_not() {
    let mut found =
        found("postgres: {managed: {instances: 3, storage: {size: 1Gi}, version: 17}}\nredis: {managed: {}}\n");
    assert_eq!(postgres_verdict(&found).unwrap().reason, "Starting");
    let app = login(&found, "tenantry_a", "one");
    (there(&mut found).stateful_set, there(&mut found).app) = (Some(ready()), Some(app));
    let verdict = postgres_verdict(&found).unwrap();
    assert_eq!((verdict.well, verdict.reason), (true, "SingleInstance"));
    assert_eq!(
        verdict.message,
        "one instance in StatefulSet main-postgres, without failover; spec.postgres.managed.instances is 3, which needs \
         CloudNativePG"
    );
}

#[test]
fn data_in_a_stateful_set_stays_there_when_cloudnativepg_comes() {
    let mut found = found(MANAGED);
    let app = login(&found, "tenantry_a", "one");
    let there = there(&mut found);
    assert_eq!(mode::mode(there), mode::Mode::StatefulSet);
    there.peers.clusters = true;
    assert_eq!(mode::mode(there), mode::Mode::Cluster, "nothing was begun yet");
    (there.superuser, there.app, there.stateful_set) = (Some(Secret::default()), Some(app), Some(ready()));
    assert_eq!(mode::mode(there), mode::Mode::StatefulSet);
    let message = postgres_verdict(&found).unwrap().message;
    assert!(message.contains("CloudNativePG is installed by now, but data does not move by itself"), "{message}");
}

#[test]
fn a_cluster_whose_operator_went_is_missed_and_not_replaced() {
    let mut found = clustered();
    there(&mut found).peers.clusters = false;
    there(&mut found).owner = Some(Secret::default());
    let verdict = postgres_verdict(&found).unwrap();
    assert_eq!((verdict.well, verdict.reason), (false, "DependencyMissing"));
    assert!(verdict.message.contains("install it again"), "{}", verdict.message);
}

#[test]
fn another_major_version_is_not_started_on_the_old_files() {
    let mut found = found(MANAGED);
    let managed = found.platform.spec.postgres.managed.clone().unwrap();
    let mut running = postgres::stateful_set(&found, &managed, &FoundPostgres::default());
    running.status.clone_from(&ready().status);
    let app = login(&found, "tenantry_a", "one");
    (there(&mut found).stateful_set, there(&mut found).app) = (Some(Arc::new(running)), Some(app));
    let newer = crds::platform::ManagedPostgres { version: 18, ..managed };
    let next = postgres::stateful_set(&found, &newer, found.managed.postgres.as_ref().unwrap());
    let image = next.spec.unwrap().template.spec.unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("postgres:17"));
    Arc::make_mut(&mut found.platform).spec.postgres.managed = Some(newer);
    let message = postgres_verdict(&found).unwrap().message;
    assert!(message.contains("it runs version 17 and not 18"), "{message}");
}

/// A Job of this rotation that ended so.
fn ended(found: &Dereferenced, store: Store, task: job::Task, uid: &str, outcome: &str) -> Arc<Job> {
    let condition = JobCondition { type_: outcome.into(), status: "True".into(), ..JobCondition::default() };
    let mut job =
        Job { status: Some(JobStatus { conditions: Some(vec![condition]), ..JobStatus::default() }), ..Job::default() };
    job.metadata.name = Some(job::name(&found.name, store, task, uid));
    Arc::new(job)
}

fn pod(secrets: &str) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.annotations = Some([(ANNOTATION_SECRETS.to_owned(), secrets.to_owned())].into());
    Arc::new(pod)
}

#[test]
fn a_rotation_waits_for_the_last_pod_of_the_former_password() {
    let mut found = found(MANAGED);
    Arc::make_mut(&mut found.platform).metadata.annotations =
        Some([(ANNOTATION_ROTATE.to_owned(), "2".to_owned())].into());
    let step = |found: &Dereferenced| next(&facts::postgres(found, found.managed.postgres.as_ref().unwrap()));
    let former = annotated(login(&found, "tenantry_a", "one"), ANNOTATION_ROTATE, "1");
    there(&mut found).app = Some(former.clone());
    assert_eq!(step(&found), Step::Draw);

    let pending = annotated(login(&found, "tenantry_b", "two"), ANNOTATION_ROTATE, "2");
    let pending = annotated(pending, ANNOTATION_FORMER, "tenantry_a");
    there(&mut found).rotation = Some(pending.clone());
    assert_eq!(step(&found), Step::Prepare);
    found.managed.jobs.push(ended(&found, Store::Postgres, job::Task::Prepare, "uid-of-tenantry_b", "Complete"));
    assert_eq!(step(&found), Step::Switch);

    there(&mut found).app = Some(pending.clone());
    let digest = |found: &Dereferenced, secret: &Secret| secret_digest(found, secret.data.as_ref().unwrap());
    found.managed.pods =
        vec![pod(&format!("{}-x", digest(&found, &former))), pod(&format!("{}-x", digest(&found, &pending)))];
    assert_eq!(step(&found), Step::Replace);
    let status = credentials_status(&found, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert!(status.rotating.unwrap().contains("PostgreSQL: 1 pods still use the former password"));
    found.managed.pods.remove(0);
    assert_eq!(step(&found), Step::Retire);
    found.managed.jobs.push(ended(&found, Store::Postgres, job::Task::Retire, "uid-of-tenantry_b", "Complete"));
    assert_eq!(step(&found), Step::Finish);
    there(&mut found).rotation = None;
    assert_eq!(step(&found), Step::Rest);

    found.managed.redis = None;
    let status = credentials_status(&found, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((status.rotated.as_deref(), status.rotating), (Some("2"), None));
}

#[test]
fn a_job_that_failed_says_how_to_go_on() {
    let mut found = found(MANAGED);
    there(&mut found).stateful_set = Some(ready());
    there(&mut found).rotation = Some(login(&found, "tenantry_a", "one"));
    found.managed.jobs.push(ended(&found, Store::Postgres, job::Task::Prepare, "uid-of-tenantry_a", "Failed"));
    let verdict = postgres_verdict(&found).unwrap();
    assert_eq!(verdict.reason, "SetupFailed");
    assert!(verdict.message.contains("kubectl logs -n shop job/main-postgres-prepare-"), "{}", verdict.message);
}

#[test]
fn redis_takes_both_passwords_until_no_pod_uses_the_former() {
    let mut found = found(MANAGED);
    let of = |found: &Dereferenced, password: &str| {
        secret::opaque(build::owned(found, "some"), credentials::redis(&found.name, &found.namespace, password))
    };
    let wanted = |found: &Dereferenced| facts::users_wanted(found, found.managed.redis.as_ref().unwrap());
    let count = |found: &Dereferenced| wanted(found).matches('#').count();
    let (one, two) = (of(&found, "one"), of(&found, "two"));
    let former = credentials::redis_hash("one");
    found.managed.redis = Some(FoundRedis { app: Some(one.clone()), ..FoundRedis::default() });
    assert_eq!(wanted(&found), format!("user default on #{former} ~* &* +@all\n"));
    let rotation = annotated(two.clone(), ANNOTATION_FORMER, &former);
    found.managed.redis =
        Some(FoundRedis { app: Some(one), rotation: Some(rotation.clone()), ..FoundRedis::default() });
    assert_eq!(count(&found), 2);
    found.managed.pods = vec![pod("of the former")];
    found.managed.redis = Some(FoundRedis { app: Some(two), rotation: Some(rotation), ..FoundRedis::default() });
    assert_eq!(count(&found), 2, "a pod still has it");
    found.managed.pods.clear();
    assert_eq!(count(&found), 1);
    assert!(!wanted(&found).contains(&former));
    assert_eq!(redis_verdict(&found).unwrap().reason, "Starting");
}

#[test]
fn a_cluster_is_told_which_role_has_which_password() {
    let mut found = clustered();
    let roles = |found: &Dereferenced| cluster_of(found).data["spec"]["managed"]["roles"].clone();
    let secret_of = |roles: &Value, at: usize| roles[at]["passwordSecret"]["name"].as_str().map(str::to_owned);
    let rest = roles(&found);
    assert_eq!((secret_of(&rest, 0).as_deref(), rest[1]["login"].as_bool()), (Some("main-postgres-app"), Some(false)));

    let pending = annotated(login(&found, "tenantry_b", "two"), ANNOTATION_FORMER, "tenantry_a");
    there(&mut found).rotation = Some(pending.clone());
    let preparing = roles(&found);
    assert_eq!(secret_of(&preparing, 1).as_deref(), Some("main-postgres-rotation"));
    there(&mut found).app = Some(pending.clone());
    found.managed.pods = vec![pod("of the former")];
    let switched = roles(&found);
    assert_eq!((switched[0]["login"].as_bool(), secret_of(&switched, 0)), (Some(true), None), "as it was");
    found.managed.pods.clear();
    assert_eq!(roles(&found)[0]["login"], false);

    let mut cluster = cluster_of(&found);
    assert!(!cluster::takes(&cluster, &pending));
    cluster.data["status"] = json!({ "managedRolesStatus": {
        "passwordStatus": { "tenantry_b": { "resourceVersion": "7" } }, "byStatus": { "reconciled": ["tenantry_a"] },
        "cannotReconcile": { "tenantry_b": ["no such role"] } } });
    assert!(cluster::takes(&cluster, &pending) && cluster::is_locked(&cluster, "tenantry_a"));
    assert_eq!(cluster::refuses(&cluster, "tenantry_b").as_deref(), Some("no such role"));
    there(&mut found).cluster = Some(cluster);
    assert_eq!(facts::postgres(&found, found.managed.postgres.as_ref().unwrap()).prepared, Progress::Done);
}

#[test]
fn data_and_what_opens_it_is_owned_only_when_it_is_to_go() {
    let kept = found(MANAGED);
    assert!(build::data(&kept, names::superuser("main")).owner_references.is_none());
    let gone = found("postgres: {managed: {storage: {size: 1Gi}, deletionPolicy: Delete}}\nredis: {managed: {}}\n");
    assert_eq!(build::data(&gone, names::superuser("main")).owner_references.unwrap().len(), 1);
    let managed = gone.platform.spec.postgres.managed.as_ref().unwrap();
    let policy = postgres::stateful_set(&gone, managed, &FoundPostgres::default()).spec.unwrap();
    let policy = policy.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!((policy.when_deleted.as_deref(), policy.when_scaled.as_deref()), (Some("Delete"), Some("Retain")));
}

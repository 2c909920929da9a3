use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStatus};

use super::{
    super::{
        fixtures::{EXTERNAL, IMAGE, found},
        rollout::{
            Kept,
            machine::{Input, Record, decide},
            observe,
        },
        validate::validate,
    },
    *,
};

/// The release that the tests' Deployment runs.
const DECLARED: &str = "0a1b2c3d4e";
const NOW: Timestamp = Timestamp::constant(1_000, 0);

fn deployment(wanted: i32, updated: i32, available: i32) -> Deployment {
    let mut deployment = Deployment { spec: Some(DeploymentSpec::default()), ..Deployment::default() };
    deployment.metadata.generation = Some(2);
    if let Some(spec) = &mut deployment.spec {
        spec.replicas = Some(wanted);
        let labels = [(contract::names::LABEL_RELEASE.to_owned(), DECLARED.to_owned())].into();
        spec.template.metadata.get_or_insert_default().labels = Some(labels);
    }
    deployment.status = Some(DeploymentStatus {
        observed_generation: Some(2),
        replicas: Some(wanted),
        updated_replicas: Some(updated),
        available_replicas: Some(available),
        ..DeploymentStatus::default()
    });
    deployment
}

fn judge(spec: &str, deployment: Option<Deployment>, migration: Migration) -> PlatformStatus {
    judge_found(found(spec), deployment, migration, &Refused::default())
}

fn judge_found(
    mut found: Dereferenced,
    deployment: Option<Deployment>,
    migration: Migration,
    refused: &Refused,
) -> PlatformStatus {
    let pods = deployment.as_ref().map(|deployment| observe::pods(deployment, &[]));
    found.observed.blue = deployment;
    let validated = validate(&found, IMAGE);
    let declared = match &migration {
        Migration::NotStarted => None,
        Migration::Done => Some(DECLARED.to_owned()),
        _ => Some("ffffffffff".to_owned()),
    };
    let runs = RolloutStatus { phase: RolloutPhase::Idle, ..RolloutStatus::default() };
    let input = Input {
        now: NOW,
        rollout: found.platform.spec.rollout.clone(),
        replicas: 2,
        paused: found.platform.spec.paused,
        declared,
        migration,
        selected: Some(Color::Blue),
        uncolored: false,
        blue: pods,
        green: None,
        kept: Vec::new(),
        command: None,
        measured: Vec::new(),
        record: Record { active: Some(Color::Blue), rollout: runs, ..Record::default() },
    };
    let decision = decide(&input);
    status(
        &found,
        &PlatformStatus::default(),
        &validated,
        (&Decided { input, decision, kept: Kept::new() }, refused),
        NOW,
    )
    .0
}

fn verdict(status: &PlatformStatus, type_: &str) -> (String, String) {
    let condition = crds::conditions::find(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[test]
fn it_is_ready_when_every_replica_is_up_to_date_and_available() {
    let status = judge(EXTERNAL, Some(deployment(2, 2, 2)), Migration::Done);
    assert_eq!(verdict(&status, READY), is("True", "Ready"));
    assert_eq!((status.replicas, status.tenants, status.observed_generation), (2, 1, Some(3)));
    assert_eq!(
        status.selector.as_deref(),
        Some(
            "app.kubernetes.io/instance=main,app.kubernetes.io/name=tenantry-api,tenantry.dev/color=blue,tenantry.dev/platform=main"
        )
    );
    assert_eq!(status.url.as_deref(), Some("http://main-api.shop.svc"));
}

#[test]
fn a_rollout_under_way_is_available_and_not_ready() {
    let status = judge(EXTERNAL, Some(deployment(2, 1, 2)), Migration::Done);
    assert_eq!(verdict(&status, AVAILABLE), is("True", "Available"));
    assert_eq!(verdict(&status, READY), is("False", "RollingOut"));
}

#[test]
fn numbers_about_an_older_template_do_not_make_it_ready() {
    let mut stale = deployment(2, 2, 2);
    stale.metadata.generation = Some(3);
    assert_eq!(verdict(&judge(EXTERNAL, Some(stale), Migration::Done), READY), is("False", "RollingOut"));
}

#[test]
fn a_failed_migration_names_its_job_and_the_cure_while_the_old_pods_serve() {
    let failed = Migration::Failed { job: "main-migrate-00".into(), message: "BackoffLimitExceeded".into() };
    let status = judge(EXTERNAL, Some(deployment(2, 2, 2)), failed);
    assert_eq!(verdict(&status, READY), is("False", "MigrationFailed"));
    assert_eq!(verdict(&status, AVAILABLE), is("True", "Available"));
    let ready = crds::conditions::find(&status.conditions, READY).unwrap();
    assert!(ready.message.contains("kubectl delete -n shop job/main-migrate-00"), "{}", ready.message);
}

#[test]
fn a_paused_platform_that_serves_is_ready_and_says_that_it_is_paused() {
    let status = judge(&format!("{EXTERNAL}paused: true\n"), Some(deployment(2, 2, 2)), Migration::NotStarted);
    assert_eq!(verdict(&status, PAUSED), is("True", "Paused"));
    assert_eq!(verdict(&status, READY), is("True", "Ready"));
}

#[test]
fn every_condition_is_there_from_the_first_visit() {
    let status = judge(EXTERNAL, None, Migration::NotStarted);
    let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, of::PLATFORM);
}

fn refusal(doing: &str) -> ReconcileError {
    let status = kube::core::Status::failure("no room", "Forbidden").with_code(403);
    ReconcileError::Kube { doing: doing.into(), source: Box::new(kube::Error::Api(status.boxed())) }
}

#[test]
fn what_the_cluster_refuses_a_store_is_said_and_takes_nothing_away_that_runs() {
    let spec = "postgres: {managed: {storage: {size: 2Gi}}}\nredis: {external: {secretRef: {name: cache}}}\n";
    let refused = Refused { postgres: Some(refusal("grow PersistentVolumeClaim shop/data")), redis: None };
    let mut starting = found(spec);
    starting.managed.postgres = Some(managed::dereference::FoundPostgres::default());
    let status = judge_found(starting, Some(deployment(2, 2, 2)), Migration::Done, &refused);
    assert_eq!(verdict(&status, DEGRADED), is("True", "Refused"));
    assert_eq!(verdict(&status, POSTGRES_READY), is("False", "Refused"), "nothing runs yet");
    let degraded = crds::conditions::find(&status.conditions, DEGRADED).unwrap();
    assert_eq!(degraded.message, "could not grow PersistentVolumeClaim shop/data: no room; it is tried again");

    // One that runs goes on.
    let status = judge_found(found(EXTERNAL), Some(deployment(2, 2, 2)), Migration::Done, &refused);
    assert_eq!((verdict(&status, DEGRADED), verdict(&status, READY)), (is("True", "Refused"), is("True", "Ready")));
}

#[test]
fn the_address_behind_a_gateway_is_https() {
    let url = |installed| {
        let gateway = "gateway: {parentRefs: [{name: public}], hosts: [api.shop.example]}\n";
        let mut found = found(&format!("{EXTERNAL}{gateway}"));
        found.optional.gateway_api = installed;
        judge_found(found, None, Migration::NotStarted, &Refused::default()).url.unwrap()
    };
    assert_eq!(url(false), "http://main-api.shop.svc", "without the Gateway API there is no way in");
    assert_eq!(url(true), "https://api.shop.example");
}

#[test]
fn the_address_is_the_first_host_with_the_scheme_that_the_certificate_gives() {
    let spec =
        format!("{EXTERNAL}ingress: {{hosts: [\"*.shop.example\", api.shop.example], tls: {{secretName: tls}}}}\n");
    let status = judge(&spec, None, Migration::NotStarted);
    assert_eq!(status.url.as_deref(), Some("https://api.shop.example"));
}

//! What a person would look at with `kubectl get -o yaml`.

use super::{
    super::{
        around::Scaler,
        fixtures::{EXTERNAL, IMAGE, data, found},
        validate::validate,
    },
    *,
};

fn resources(spec: &str) -> Resources {
    let found = found(spec);
    build(&found, &validate(&found, IMAGE)).unwrap()
}

#[test]
fn the_deployment_and_its_migration() {
    let found = found(EXTERNAL);
    let workload = resources(EXTERNAL).workload.unwrap();
    let release = release_config(&found, &workload.release).unwrap();
    insta::assert_yaml_snapshot!("release", release, { ".binaryData" => "[the template]" });
    insta::assert_yaml_snapshot!("deployment", deployment(&found, Color::Blue, &workload.release, 2));
    insta::assert_yaml_snapshot!("migration", workload.migration);
}

#[test]
fn a_mail_server_is_told_to_the_pods_and_its_password_only_by_reference() {
    let spec = format!(
        "{EXTERNAL}mail: {{smtp: {{host: mail.example, port: 465, from: \"Acme <a@b.example>\", secretRef: {{name: smtp}}}}}}\n"
    );
    let mut found = found(&spec);
    found.mail = data(&[("username", "mailer"), ("password", "CANARY"), ("ca", "pem")]);
    let release = build(&found, &validate(&found, IMAGE)).unwrap().workload.unwrap().release;
    let settings = release_config(&found, &release).unwrap().0.data.unwrap();
    let setting = |name: &str| settings.get(name).map(String::as_str);
    assert_eq!((setting("TENANTRY_SMTP_HOST"), setting("TENANTRY_SMTP_PORT")), (Some("mail.example"), Some("465")));
    assert_eq!(setting("TENANTRY_MAIL_FROM"), Some("Acme <a@b.example>"));
    assert_eq!(setting("TENANTRY_SMTP_CA_FILE"), Some("/etc/tenantry/smtp/ca.crt"));
    assert_eq!(setting("TENANTRY_SMTP_TLS"), None, "by the port");
    let pods = release.pods("main", Color::Blue);
    assert!(!format!("{pods:?}{settings:?}").contains("CANARY"));
    let secrets = pods.metadata.clone().unwrap().annotations.unwrap()[ANNOTATION_SECRETS].clone();
    let pod = pods.spec.unwrap();
    assert!(pod.volumes.unwrap().iter().any(|volume| volume.name == "smtp-ca"));
    let env = pod.containers[0].env.clone().unwrap();
    let from = |name: &str| {
        let variable = env.iter().find(|variable| variable.name == name).unwrap().clone();
        let selector = variable.value_from.unwrap().secret_key_ref.unwrap();
        (selector.name, selector.key, selector.optional)
    };
    assert_eq!(from("TENANTRY_SMTP_PASSWORD"), ("smtp".into(), "password".into(), Some(true)));
    found.mail = data(&[("username", "mailer"), ("password", "another")]);
    let next = build(&found, &validate(&found, IMAGE)).unwrap().workload.unwrap().release;
    let next = next.pods("main", Color::Blue).metadata.unwrap().annotations.unwrap()[ANNOTATION_SECRETS].clone();
    assert_ne!(secrets, next, "a new password is taken in by new pods");
}

#[test]
fn the_api_may_watch_documents_and_read_no_secret() {
    let resources = resources(EXTERNAL);
    insta::assert_yaml_snapshot!("role", resources.role);
    insta::assert_yaml_snapshot!("role_binding", resources.role_binding);
}

#[test]
fn how_it_is_reached() {
    let spec = format!(
        "{EXTERNAL}ingress: {{className: nginx, tls: {{issuerRef: {{kind: ClusterIssuer, name: letsencrypt}}}}}}\n"
    );
    let resources = resources(&spec);
    insta::assert_yaml_snapshot!("service", active_service(&found(EXTERNAL), Some(Color::Blue)));
    insta::assert_yaml_snapshot!("ingress", resources.around.ingress);
    insta::assert_yaml_snapshot!("disruption_budget", resources.disruption_budget);
}

#[test]
fn the_budget_is_about_the_pods_that_take_requests() {
    let mut found = found(EXTERNAL);
    found.observed.service = Some(active_service(&found, Some(Color::Green)).0);
    let pods = network::disruption_budget(&found).spec.unwrap().selector.unwrap().match_labels.unwrap();
    assert_eq!(pods[contract::names::LABEL_COLOR], "green");
}

#[test]
fn how_it_is_scaled_and_measured() {
    let scaled = |engine: &str| {
        format!(
            "{EXTERNAL}autoscaling: {{engine: {engine}, minReplicas: 3, maxReplicas: 9, targetCPUUtilizationPercentage: 70, \
             targetRequestsInFlightPerPod: 50, prometheus: {{address: \"http://prometheus:9090\"}}, \
             behavior: {{scaleDown: {{stabilizationWindowSeconds: 300}}}}}}\nobservability: {{serviceMonitor: true}}\n"
        )
    };
    let built = |engine: &str| {
        let mut found = found(&scaled(engine));
        (found.optional.keda, found.optional.prometheus_operator) = (true, true);
        build(&found, &validate(&found, IMAGE)).unwrap().around
    };
    let Scaler::Horizontal(autoscaler) = built("HorizontalPodAutoscaler").scaler else { panic!("it is declared") };
    insta::assert_yaml_snapshot!("autoscaler", autoscaler);
    let Scaler::Keda(scaled) = built("Keda").scaler else { panic!("it is declared") };
    insta::assert_yaml_snapshot!("scaled_object", scaled);
    insta::assert_yaml_snapshot!("pod_monitor", built("Keda").pod_monitor);
}

#[test]
fn the_route_of_a_gateway_names_hosts_as_far_as_it_can() {
    let mut found = found(&format!(
        "{EXTERNAL}gateway: {{parentRefs: [{{name: public, namespace: infra, sectionName: https}}]}}\n"
    ));
    found.optional.gateway_api = true;
    insta::assert_yaml_snapshot!("route", gateway::http_route(&found, &["acme.example".to_owned()]));
    let many: Vec<_> = (0..17).map(|n| format!("t{n}.example")).collect();
    assert!(gateway::http_route(&found, &many).unwrap().spec.hostnames.is_empty());
    assert!(gateway::http_route(&found, &[]).is_none(), "nobody's hosts are not everybody's");
}

#[test]
fn pods_run_where_they_are_declared_to() {
    let spec = format!(
        "{EXTERNAL}priorityClassName: high\naffinity: {{podAntiAffinity: {{}}}}\nnodeSelector: {{disk: ssd}}\n\
         topologySpreadConstraints: [{{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}}]\napi: {{drainSeconds: 20}}\n"
    );
    let pod = resources(&spec).workload.unwrap().release.pods("main", Color::Blue).spec.unwrap();
    assert_eq!((pod.priority_class_name.as_deref(), pod.termination_grace_period_seconds), (Some("high"), Some(95)));
    assert!(pod.affinity.is_some() && pod.node_selector.is_some());
    let constraints = pod.topology_spread_constraints.unwrap();
    assert_eq!((constraints.len(), constraints[0].topology_key.as_str()), (1, "rack"));
    assert!(constraints[0].label_selector.is_some(), "a constraint without a selector would count no pod");
}

#[test]
fn without_a_database_there_is_a_service_and_no_pod() {
    let mut found = found(EXTERNAL);
    found.postgres = None;
    assert!(build(&found, &validate(&found, IMAGE)).unwrap().workload.is_none());
}

#[test]
fn a_variable_of_the_person_replaces_ours_and_none_is_named_twice() {
    let spec =
        format!("{EXTERNAL}extraEnv: [{{name: TENANTRY_LOG_LEVEL, value: trace}}, {{name: MINE, value: \"1\"}}]\n");
    let release = resources(&spec).workload.unwrap().release;
    let container = release.pods("main", Color::Blue).spec.unwrap().containers.remove(0);
    let env = container.env.unwrap();
    let named = |name: &str| {
        env.iter().filter(|variable| variable.name == name).map(|v| v.value.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((named("TENANTRY_LOG_LEVEL"), named("MINE")), (vec!["trace".to_owned()], vec!["1".to_owned()]));
    let settings = release_config(&found(EXTERNAL), &release).unwrap().0.data.unwrap();
    assert!(!settings.contains_key("TENANTRY_LOG_LEVEL") && settings.contains_key("TENANTRY_PORT"));
}

#[test]
fn a_release_comes_back_from_its_config_map_as_it_was() {
    let release = resources(EXTERNAL).workload.unwrap().release;
    let mut kept = release_config(&found(EXTERNAL), &release).unwrap().0;
    assert_eq!(Release::read(&kept), Some(release));
    kept.data.as_mut().unwrap().insert("TENANTRY_PORT".into(), "1".into());
    assert_eq!(Release::read(&kept), None, "somebody made it anew with another content");
}

#[test]
fn another_image_or_database_is_another_migration_and_anything_else_is_not() {
    let name = |spec: &str, uri: &str, image: &str| {
        let mut found = found(spec);
        found.postgres = data(&[("uri", uri)]);
        build(&found, &validate(&found, image)).unwrap().workload.unwrap().migration.0.metadata.name.unwrap()
    };
    let first = name(EXTERNAL, "postgres://a", IMAGE);
    assert_eq!(first, name(&format!("{EXTERNAL}replicas: 9\n"), "postgres://a", IMAGE));
    assert_ne!(first, name(EXTERNAL, "postgres://b", IMAGE));
    assert_ne!(first, name(EXTERNAL, "postgres://a", "other:2"));
}

#[test]
fn the_migration_of_a_platform_with_a_long_name_still_fits_into_a_label() {
    let mut found = found(EXTERNAL);
    found.name = "p".repeat(50);
    let name = build(&found, &validate(&found, IMAGE)).unwrap().workload.unwrap().migration.0.metadata.name.unwrap();
    assert_eq!(name.len(), 63, "{name}");
}

#[test]
fn more_hosts_than_an_object_can_hold_become_one_rule_for_all() {
    let spec = format!("{EXTERNAL}ingress: {{}}\n");
    let found = found(&spec);
    let hosts: Vec<_> = (0..5000).map(|n| format!("t{n}.example")).collect();
    let rules = network::ingress(&found, &hosts).unwrap().spec.unwrap().rules.unwrap();
    assert_eq!((rules.len(), rules[0].host.as_ref()), (1, None));
}

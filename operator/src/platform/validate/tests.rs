use super::{
    super::fixtures::{EXTERNAL, IMAGE, data, found},
    *,
};

fn problem(result: Result<Source, Problem>) -> (&'static str, String) {
    let problem = result.unwrap_err();
    (problem.reason, problem.message)
}

#[test]
fn a_uri_or_all_the_parts_will_do() {
    let mut found = found(EXTERNAL);
    assert_eq!(validate(&found, IMAGE).postgres.unwrap().shape, Shape::Uri);
    let parts = [
        ("host", "h"),
        ("port", "5432"),
        ("dbname", "d"),
        ("username", "u"),
        ("password", "p"),
        ("sslmode", "require"),
    ];
    found.postgres = data(&parts);
    let source = validate(&found, IMAGE).postgres.unwrap();
    assert_eq!((source.shape, source.optional), (Shape::Parts, vec!["sslmode"]));
}

#[test]
fn a_missing_secret_or_key_is_named_with_the_cure() {
    let mut found = found(EXTERNAL);
    found.postgres = None;
    let (reason, message) = problem(validate(&found, IMAGE).postgres);
    assert_eq!(reason, "SecretNotFound");
    assert_eq!(
        message,
        "spec.postgres.external.secretRef.name is \"db\", and there is no such Secret: create it with the key uri \
         (postgres://user:password@host:5432/database)"
    );
    found.redis = data(&[("host", "h"), ("port", "")]);
    let (reason, message) = problem(validate(&found, IMAGE).redis);
    assert_eq!(reason, "SecretKeyNotFound");
    assert!(
        message
            .starts_with("Secret cache named in spec.redis.external.secretRef lacks port, password: add the key uri"),
        "{message}"
    );
}

#[test]
fn the_digest_follows_the_content_and_does_not_tell_it() {
    let mut found = found(EXTERNAL);
    let digest = |found: &Dereferenced| validate(found, IMAGE).postgres.unwrap().digest;
    let first = digest(&found);
    assert_eq!(first, digest(&found));
    found.postgres = data(&[("uri", "postgres://u:other@db/app")]);
    let second = digest(&found);
    assert_ne!(first, second);
    found.sealing_key = data(&[("key", "another-key-another-key-another-")]);
    assert_ne!(second, digest(&found), "without the key nobody can try passwords");
}

#[test]
fn a_damaged_sealing_key_is_not_replaced() {
    let mut found = found(EXTERNAL);
    found.sealing_key = data(&[("key", "short")]);
    let problem = validate(&found, IMAGE).sealing_key.unwrap_err();
    assert!(
        problem.message.contains("must hold 32 random bytes under the key \"key\" and holds 5"),
        "{}",
        problem.message
    );
    found.sealing_key = None;
    assert_eq!(validate(&found, IMAGE).sealing_key, Ok(SealingKey::Missing));
}

#[test]
fn declared_hosts_stand_for_those_of_the_tenants() {
    assert_eq!(validate(&found(EXTERNAL), IMAGE).hosts, ["acme.example"]);
    let spec = format!("{EXTERNAL}ingress: {{hosts: [\"*.shop.example\"]}}\n");
    assert_eq!(validate(&found(&spec), IMAGE).hosts, ["*.shop.example"]);
}

#[test]
fn replicas_stay_within_the_autoscalers_bounds() {
    let scaled = |replicas: u32| {
        let spec = format!(
            "{EXTERNAL}replicas: {replicas}\nautoscaling: {{minReplicas: 3, maxReplicas: 5, targetCPUUtilizationPercentage: 70}}\n"
        );
        validate(&found(&spec), IMAGE).replicas
    };
    assert_eq!([scaled(1), scaled(4), scaled(9)], [3, 4, 5]);
    assert_eq!(scaled(0), 0, "what was scaled to nothing stays there");
}

#[test]
fn a_mail_server_without_its_secret_keeps_no_pod_from_running_and_is_told() {
    let smtp = "mail: {smtp: {host: mail.example, from: a@b.example, secretRef: {name: smtp}}}\n";
    let mut found = found(&format!("{EXTERNAL}{smtp}"));
    let told = |found: &Dereferenced| {
        validate(found, IMAGE).wants.into_iter().map(|want| (want.reason, want.message)).collect::<Vec<_>>()
    };
    let [(reason, message)] = told(&found).try_into().unwrap();
    assert_eq!(reason, "SecretNotFound");
    assert!(message.contains("\"smtp\"") && message.contains("mails wait"), "{message}");
    found.mail = data(&[("username", "u"), ("password", "")]);
    let [(reason, message)] = told(&found).try_into().unwrap();
    assert_eq!(reason, "SecretKeyNotFound");
    assert!(message.contains("lacks password,"), "{message}");
    found.mail = data(&[("username", "u"), ("password", "p"), ("ca", "pem")]);
    assert!(told(&found).is_empty());
    let server = validate(&found, IMAGE).mail.unwrap();
    assert!(server.ca && server.digest.is_some() && !format!("{server:?}").contains("\"p\""), "{server:?}");
}

#[test]
fn what_is_declared_and_not_carried_out_is_said() {
    assert!(validate(&found(EXTERNAL), IMAGE).not_carried_out.is_empty());
    let spec = format!("{EXTERNAL}webPush: {{vapidSecretRef: {{name: vapid}}}}\n");
    assert_eq!(validate(&found(&spec), IMAGE).not_carried_out, ["spec.webPush: no notification is pushed"]);
}

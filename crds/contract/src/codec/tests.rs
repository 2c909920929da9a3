use std::num::NonZeroU32;

use super::*;
use crate::{
    Currency, Hostname, RoleName, Secret, TenantId, TenantName,
    access::{Binding, Subject, SubjectKind, built_in},
    auth::{SigningAlgorithm, SigningKey},
    limits::{Algorithm, Counter, FailureMode, Limit, LimitMode, PathMatch, PathMatchKind, Rate},
    payments::{Account, Mode, Provider},
    seal::SealingKey,
};

fn full() -> TenantConfig {
    let id = TenantId::derive("tenantry", "acme");
    let key = SealingKey::new(&[7; 32]).unwrap();
    let seal = |field: &str, value: &str| key.seal(id, field, &Secret::new(value)).unwrap();
    let role = RoleName::new("VENDOR").unwrap();
    let count = |n| NonZeroU32::new(n).unwrap();
    let mut tenant = TenantConfig::new(id, TenantName::new("acme").unwrap());
    tenant.hostnames = ["pay.acme.example", "acme.localhost"].map(|h| Hostname::new(h).unwrap()).into();
    tenant.plan = Some("pro".into());
    tenant.auth.signing_keys = vec![SigningKey {
        id: "acme-signing-key".into(),
        algorithm: SigningAlgorithm::EdDSA,
        key: seal(&SigningKey::seal_field("acme-signing-key"), "-----BEGIN PRIVATE KEY-----"),
    }];
    tenant.bindings = vec![Binding {
        name: "vendors".into(),
        permissions: built_in(&role).unwrap(),
        role,
        subjects: vec![Subject { kind: SubjectKind::User, name: "alice@acme.example".into() }],
        expires_at: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        when: None,
    }];
    tenant.providers = vec![Provider {
        name: "stripe".into(),
        mode: Mode::Test,
        default: true,
        currencies: vec![Currency::new("EUR").unwrap()],
        enabled: true,
        request_timeout_seconds: 10,
        api_base_url: None,
        account: Account::Stripe {
            secret_key: seal(&Provider::seal_field("stripe", "secretKey"), "sk_test_1"),
            webhook_signing_secrets: vec![seal(&Provider::seal_field("stripe", "webhookSigningSecrets/0"), "whsec_1")],
            api_version: None,
            webhook_tolerance_seconds: 300,
        },
    }];
    tenant.limits = vec![Limit {
        name: "acme/per-user".into(),
        methods: vec!["POST".into()],
        paths: vec![PathMatch { kind: PathMatchKind::PathPrefix, value: "/payments".into() }],
        when: vec![],
        counters: vec![Counter::User, Counter::Header("x-device".into())],
        rates: vec![Rate { limit: count(100), window_seconds: count(60) }],
        algorithm: Algorithm::SlidingWindow,
        burst: None,
        cost: count(1),
        mode: LimitMode::Enforce,
        failure_mode: FailureMode::Local,
    }];
    tenant
}

#[test]
fn a_document_reads_back_as_it_was_written() {
    let mut tenant = full();
    let document = encode(&tenant).unwrap();
    tenant.normalize();
    assert_eq!(decode(&document.text).unwrap(), (document.revision, tenant));
}

#[test]
fn the_committed_document_is_what_is_written_today() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/tenant.v1.json");
    let text = encode(&full()).unwrap().text;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(committed, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(committed).unwrap(), text, "run with UPDATE=1 if the format was meant to grow");
}

#[test]
fn the_order_of_lists_changes_nothing() {
    let mut shuffled = full();
    shuffled.hostnames.reverse();
    shuffled.bindings[0].permissions.reverse();
    assert_eq!(encode(&shuffled).unwrap(), encode(&full()).unwrap());
}

#[test]
fn the_document_of_an_older_operator_still_reads() {
    let text = r#"{"contract":"v1","revision":"%","tenant":{"id":"00000000-0000-5000-8000-000000000000","name":"acme",
        "displayName":"Acme","hostnames":[],"state":"Active"}}"#;
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let text = text.replace('%', revision(&value["tenant"]).as_str());
    assert_eq!(decode(&text).unwrap().1.auth.access_token_seconds, 900);
}

#[test]
fn the_document_of_a_newer_operator_still_reads() {
    let mut wire: Wire<Value> = serde_json::from_str(&encode(&full()).unwrap().text).unwrap();
    wire.tenant["invented"] = Value::from(1);
    wire.revision = revision(&wire.tenant);
    assert_eq!(decode(&serde_json::to_string(&wire).unwrap()).unwrap().1.name.as_str(), "acme");
}

#[test]
fn damage_is_refused_and_named() {
    let text = encode(&full()).unwrap().text;
    let refused = |text: &str| decode(text).unwrap_err().to_string();
    assert!(refused(&text.replace("Active", "Suspended")).contains("edited by hand"));
    assert!(refused(&text.replace("\"v1\",", "\"v9\",")).contains("\"v9\""));
    assert!(refused(&text[..text.len() / 2]).contains("not valid"));
    let bad = |from: &str, to: &str| {
        let mut wire: Wire<Value> = serde_json::from_str(&text.replace(from, to)).unwrap();
        wire.revision = revision(&wire.tenant);
        refused(&serde_json::to_string(&wire).unwrap())
    };
    assert!(bad("acme.localhost", "ACME:80").contains("\"ACME:80\" is not a hostname"));
    assert!(bad("\"payments:read\"", "\"payments\"").contains("is not a permission"));
    assert!(bad("\"windowSeconds\": 60", "\"windowSeconds\": 0").contains("nonzero"));
}

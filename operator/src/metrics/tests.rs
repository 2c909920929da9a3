use crds::{
    Platform, Tenant,
    conditions::{self, READY},
};

use super::*;
use crate::replicas::Http;

fn render(metrics: &Metrics, stores: &Stores) -> String {
    let mut census = Census::default();
    census.count(&stores.tenants, |tenant| tenant.status.as_ref().unwrap().conditions.clone());
    census.name(&stores.platforms, |platform| platform.status.as_ref().unwrap().conditions.clone());
    metrics.render(stores, &census, &Replicas::new(Http::new().unwrap())).unwrap()
}

#[test]
fn a_reconcile_is_visible_while_it_runs_and_counted_when_it_ends() {
    let (metrics, stores) = (Metrics::default(), Stores::default());
    let running = metrics.begin(&Tenant::new_minimal("acme", "acme.example"));
    let text = render(&metrics, &stores);
    assert!(text.contains("reconcile_in_progress_seconds{kind=\"Tenant\",namespace=\"\",name=\"acme\"}"), "{text}");
    drop(running);
    let text = render(&metrics, &stores);
    assert!(!text.contains("name=\"acme\""), "{text}");
    assert!(text.contains("tenantry_operator_reconcile_duration_seconds_count{kind=\"Tenant\"} 1"), "{text}");
}

#[test]
fn what_alerts_count_is_there_before_it_first_happens() {
    // Read, not included: an image is built without the chart.
    let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/tenantry/files/alerts.yaml");
    let alerts = std::fs::read_to_string(alerts).unwrap();
    let first_scrape = render(&Metrics::default(), &Stores::default());
    let names = alerts.split("increase(").skip(1).map(|rest| rest.split(['[', '{']).next().unwrap());
    let names: Vec<_> = names.filter(|name| name.starts_with("tenantry_operator_")).collect();
    assert_eq!(names, ["tenantry_operator_reconcile_errors_total", "tenantry_operator_malformed_objects_total"]);
    for name in names {
        for kind in ["Platform", "Tenant", "RoleBinding", "PaymentProvider", "RateLimitPolicy"] {
            let begun = format!("{name}{{kind=\"{kind}\"");
            let lines: Vec<_> = first_scrape.lines().filter(|line| line.starts_with(&begun)).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(" 0")), "{begun}: {lines:?}");
        }
    }
}

#[test]
fn what_fails_is_named_until_it_succeeds_and_never_more_than_a_hundred() {
    let (metrics, stores) = (Metrics::default(), Stores::default());
    for number in 0..150 {
        metrics.failed::<Tenant>("shop", &format!("tenant-{number}"), "Forbidden");
    }
    metrics.recovered::<Tenant>("shop", "tenant-0");
    let text = render(&metrics, &stores);
    assert!(text.contains("tenantry_operator_reconcile_failing_objects{kind=\"Tenant\"} 149"), "{text}");
    assert_eq!(text.matches("tenantry_operator_reconcile_failing_seconds{").count(), NAMED);
    assert!(text.contains("reconcile_errors_total{kind=\"Tenant\",reason=\"Forbidden\"} 150"), "{text}");
}

#[test]
fn objects_are_counted_by_condition_and_those_that_are_not_ready_by_reason() {
    let (metrics, stores) = (Metrics::default(), Stores::default());
    for (name, generation, status, reason) in
        [("one", 1, "False", "Conflicted"), ("stale", 2, "True", "Ready"), ("well", 1, "True", "Ready")]
    {
        let mut tenant = Tenant::new_minimal(name, "acme.example");
        tenant.metadata.generation = Some(generation);
        let ready = serde_json::json!({ "conditions": [{
            "type": READY, "status": status, "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        tenant.status = Some(serde_json::from_value(ready).unwrap());
        stores.tenants.put(tenant);
    }
    let text = render(&metrics, &stores);
    for line in [
        "objects{kind=\"Tenant\",condition=\"Ready\",status=\"True\"} 2",
        "objects_not_ready{kind=\"Tenant\",reason=\"Conflicted\"} 1",
        "objects_not_ready{kind=\"Tenant\",reason=\"Reconciling\"} 1",
    ] {
        assert!(text.contains(&format!("tenantry_operator_{line}")), "{line} in {text}");
    }
    assert_eq!(text.matches("objects_not_ready{").count(), 2);
}

#[test]
fn a_platform_is_named_with_the_reason_of_each_condition_it_has_now() {
    let (metrics, stores) = (Metrics::default(), Stores::default());
    let mut platform = Platform::new_minimal("main", "postgres", "redis");
    for (status, reason) in [("True", "Paused"), ("False", "NotPaused")] {
        platform.status = Some(
            serde_json::from_value(serde_json::json!({ "conditions": [{
                "type": conditions::PAUSED, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] }))
            .unwrap(),
        );
        stores.platforms.put(platform.clone());
        let text = render(&metrics, &stores);
        let lines: Vec<_> = text.lines().filter(|line| line.contains("platform_condition{")).collect();
        let labels = format!("name=\"main\",condition=\"Paused\",status=\"{status}\",reason=\"{reason}\"");
        assert!(lines.len() == 1 && lines[0].contains(&labels) && lines[0].ends_with(" 1"), "{text}");
    }
}

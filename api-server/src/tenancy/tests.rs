use std::{collections::HashSet, pin::pin, time::Duration};

use contract::{Hostname, codec, tenant::TenantState};
use http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Found, cache::Cache, source_kube::start_from_cache};
use crate::{management, testing::TestApp};

fn found(tenant: &contract::TenantConfig) -> Found {
    let document = codec::encode(tenant).unwrap();
    Found { tenant: tenant.name.to_string(), revision: Some(document.revision.to_string()), text: document.text }
}

async fn manage(app: &TestApp, path: &str) -> (StatusCode, String) {
    let request = http::Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
    let response = management::router(app.app.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn holder(app: &TestApp, host: &str) -> Option<String> {
    app.app.tenants.by_host(host).map(|tenant| tenant.name.to_string())
}

#[tokio::test]
async fn a_bad_document_changes_nothing_and_says_why() {
    let app = TestApp::new().await;
    let good = app.app.tenants.by_name("acme").unwrap().revision.clone();
    let (mut misplaced, mut foreign) = (found(&app.tenant("beta")), app.tenant("acme"));
    misplaced.tenant = "acme".into();
    foreign.auth.signing_keys[0].key = app.tenant("beta").auth.signing_keys[0].key.clone();
    let edited = found(&app.tenant("acme")).text.replace("acme.test", "evil.test");
    let text =
        |text: &str| Found { tenant: "acme".into(), revision: Some("0123456789abcdef".into()), text: text.into() };
    for (bad, reason) in [
        (text(""), "not valid"),
        (text("{}"), "missing field"),
        (text(r#"{"contract":"v9","revision":"0123456789abcdef","tenant":{}}"#), "contract"),
        (text(&edited), "edited by hand"),
        (misplaced, "in the place of acme"),
        (found(&foreign), "does not open for this tenant"),
    ] {
        assert!(!app.app.tenants.apply(&bad));
        let report = app.app.tenants.report("acme").unwrap();
        assert_eq!(report.revision.as_ref(), Some(&good));
        let error = &report.rejected.as_ref().unwrap().error;
        assert!(error.contains(reason), "{error}");
        assert!(report.settles(bad.revision.as_deref().unwrap()));
    }
    assert_eq!(app.app.metrics.config_rejected.get(), 6);
    assert_eq!(holder(&app, "acme.test").as_deref(), Some("acme"));

    app.serve(&app.tenant("acme"));
    assert!(app.app.tenants.report("acme").unwrap().rejected.is_none());
}

#[tokio::test]
async fn a_host_goes_over_whichever_document_comes_first() {
    let app = TestApp::new().await;
    let host = |name: &str| vec![Hostname::new(name).unwrap()];
    let mut beta = app.tenant("beta");
    beta.hostnames = host("acme.test");
    // The new holder's document arrives first: the old one keeps the host until it lets go.
    app.serve(&beta);
    assert_eq!(holder(&app, "acme.test").as_deref(), Some("acme"));
    let mut acme = app.tenant("acme");
    acme.hostnames = host("moved.test");
    app.serve(&acme);
    assert_eq!(
        (holder(&app, "acme.test").as_deref(), holder(&app, "moved.test").as_deref()),
        (Some("beta"), Some("acme"))
    );
    app.app.tenants.remove("beta");
    assert_eq!((holder(&app, "acme.test"), app.app.tenants.by_name("beta").is_none()), (None, true));
}

#[tokio::test]
async fn a_complete_set_forgets_who_is_not_in_it() {
    let app = TestApp::new().await;
    assert!(!app.app.tenants.is_complete());
    app.app.tenants.replace(&[found(&app.tenant("beta")), found(&app.tenant("gamma"))]);
    assert!(app.app.tenants.is_complete());
    assert_eq!((holder(&app, "acme.test"), holder(&app, "beta.test").as_deref()), (None, Some("beta")));
    assert_eq!(app.app.metrics.tenants.get(), 2);
}

#[tokio::test]
async fn a_caller_waits_for_a_revision_until_it_is_served_or_refused() {
    let app = TestApp::new().await;
    let mut next = app.tenant("acme");
    next.state = TenantState::Suspended;
    let next = found(&next);
    let path = format!("/internal/config/acme?waitSeconds=30&revision={}", next.revision.as_deref().unwrap());
    let waiting = manage(&app, &path);
    let apply = async {
        tokio::task::yield_now().await;
        assert!(app.app.tenants.apply(&next));
    };
    let ((status, body), ()) = tokio::join!(waiting, apply);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["tenant"], &body["rejected"]), (StatusCode::OK, &json!("acme"), &Value::Null));
    assert_eq!(body["revision"].as_str(), next.revision.as_deref());

    // Late: what is held then is told.
    let (status, body) = manage(&app, "/internal/config/acme?waitSeconds=0&revision=ffffffffffffffff").await;
    assert!(status == StatusCode::OK && body.contains(next.revision.as_deref().unwrap()));
    assert_eq!(manage(&app, "/internal/config/nobody?revision=ffffffffffffffff").await.0, StatusCode::NOT_FOUND);
    let (_, all) = manage(&app, "/internal/config").await;
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["tenants"]["acme"]["revision"].as_str(), next.revision.as_deref());
}

#[tokio::test]
async fn a_refusal_ends_the_wait_as_well() {
    let app = TestApp::new().await;
    let bad = Found { tenant: "beta".into(), revision: Some("0123456789abcdef".into()), text: "{}".into() };
    assert!(!app.app.tenants.apply(&bad));
    let asked = manage(&app, "/internal/config/beta?waitSeconds=30&revision=0123456789abcdef");
    let (status, body) = tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &body["rejected"]["revision"], &body["revision"]),
        (StatusCode::OK, &json!("0123456789abcdef"), &Value::Null)
    );
}

#[tokio::test]
async fn one_question_tells_of_all_tenants_and_the_next_of_those_that_changed() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("beta"));
    let ask = async |question: &str| -> Value {
        let (status, body) = manage(&app, &format!("/internal/config{question}")).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str(&body).unwrap()
    };
    let names = |told: &Value| told["tenants"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let first = ask("").await;
    assert_eq!((&first["whole"], names(&first)), (&json!(true), vec!["acme".to_owned(), "beta".to_owned()]));
    let cursor = first["cursor"].as_str().unwrap().to_owned();

    let mut next = app.tenant("acme");
    next.state = TenantState::Suspended;
    let question = format!("?waitSeconds=30&since={cursor}");
    let apply = async {
        tokio::task::yield_now().await;
        assert!(app.app.tenants.apply(&found(&next)));
    };
    let (changed, ()) = tokio::join!(ask(&question), apply);
    assert_eq!((&changed["whole"], names(&changed)), (&json!(false), vec!["acme".to_owned()]));
    app.app.tenants.remove("beta");
    let since = changed["cursor"].as_str().unwrap();
    assert_eq!(ask(&format!("?since={since}")).await["gone"], json!(["beta"]));

    // Everything, where the cursor is another process's, is no cursor, or all may have changed since.
    let (_, change) = cursor.split_once('.').unwrap();
    let foreign = format!("00000000.{change}");
    app.app.tenants.replace(&[found(&next)]);
    for lost in [foreign.as_str(), "nonsense", since] {
        let told = ask(&format!("?since={lost}")).await;
        assert_eq!((&told["whole"], names(&told)), (&json!(true), vec!["acme".to_owned()]), "{lost}");
    }
}

#[tokio::test]
async fn readiness_names_what_it_waits_for() {
    let app = TestApp::new().await;
    let (status, body) = manage(&app, "/readyz").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains("tenants"), "{body}");
    app.app.tenants.replace(&[]);
    assert_eq!(manage(&app, "/readyz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(manage(&app, "/livez").await.0, StatusCode::OK);
    let (_, metrics) = manage(&app, "/metrics").await;
    for dependency in ["postgres", "redis"] {
        let up = format!("tenantry_api_dependency_up{{dependency=\"{dependency}\"}} 1\n");
        assert!(metrics.contains(&up), "{metrics}");
    }
    app.app.health.drain();
    let (status, body) = manage(&app, "/readyz").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains("stopping"), "{body}");
}

#[tokio::test]
async fn a_start_without_the_control_plane_serves_the_last_good_documents() {
    let (app, folder) = (TestApp::empty().await, tempfile::tempdir().unwrap());
    let cache = Cache::new(folder.path());
    start_from_cache(&app.app, &cache).await;
    assert!(!app.app.tenants.is_complete());
    cache.replace(&[found(&app.tenant("acme"))], &HashSet::new()).unwrap();
    start_from_cache(&app.app, &cache).await;
    assert!(app.app.tenants.is_complete());
    assert_eq!(holder(&app, "acme.test").as_deref(), Some("acme"));
}

#[tokio::test]
async fn a_document_never_shows_its_credentials() {
    let app = TestApp::new().await;
    let text = found(&app.tenant("acme")).text;
    assert!(!text.contains("PRIVATE KEY"));
    assert!(!format!("{:?}", app.app.tenants.by_name("acme").unwrap()).contains("PRIVATE KEY"));
}

#[test]
fn the_key_of_rfc_8037_has_the_thumbprint_of_rfc_8037() {
    use contract::auth::{SigningAlgorithm, SigningKey};
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let private = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
    let pem = contract::Secret::new(crate::testing::pkcs8_pem(&private));
    let tenant = contract::TenantId::derive("test", "acme");
    let key = contract::seal::SealingKey::new(&[1; 32]).unwrap().seal(tenant, "f", &pem).unwrap();
    let key = SigningKey { id: "key".into(), algorithm: SigningAlgorithm::EdDSA, key };
    let keys = super::keys::SigningKeys::compile(&[key], |_| Some(&pem)).unwrap();
    assert_eq!(keys.signing().unwrap().0, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let jwk = serde_json::to_value(&keys.jwks.keys[0]).unwrap();
    assert_eq!(jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(
        (&jwk["kty"], &jwk["crv"], &jwk["use"], &jwk["alg"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("sig"), &json!("EdDSA"))
    );
}

/// A control plane with one ConfigMap in its list and then these lines on its watch, which stays open.
fn control_plane(list: Value, watch: Vec<Value>) -> kube::Client {
    use bytes::Bytes;
    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;
    kube::Client::new(
        tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(
                query.contains("labelSelector=tenantry.dev%2Fcontract%3Dv1%2Ctenantry.dev%2Fplatform%3Dmain"),
                "{query}"
            );
            let lines = if query.contains("watch=true") {
                watch.iter().map(|event| format!("{event}\n")).collect()
            } else {
                vec![list.to_string()]
            };
            let open = query.contains("watch=true");
            let chunks = stream::iter(lines)
                .map(|line| Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(Bytes::from(line))));
            let rest = if open { stream::pending().boxed() } else { stream::empty().boxed() };
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(chunks.chain(rest)))) }
        }),
        "prod",
    )
}

fn config_map(tenant: &contract::TenantConfig, version: u32) -> Value {
    let document = found(tenant);
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": contract::names::config_map(tenant.name.as_str()), "namespace": "prod", "resourceVersion": version.to_string(),
            "labels": { "tenantry.dev/tenant": tenant.name, "tenantry.dev/contract": "v1", "tenantry.dev/platform": "main" },
            "annotations": { "tenantry.dev/revision": document.revision },
        },
        "data": { "tenant.json": document.text },
    })
}

#[tokio::test]
async fn documents_are_followed_as_they_come_change_and_go() {
    let (app, folder) = (TestApp::empty().await, tempfile::tempdir().unwrap());
    let list = json!({
        "apiVersion": "v1", "kind": "ConfigMapList", "metadata": { "resourceVersion": "5" },
        "items": [config_map(&app.tenant("acme"), 1), config_map(&app.tenant("gone"), 2)],
    });
    let mut suspended = app.tenant("acme");
    suspended.state = TenantState::Suspended;
    let watch = vec![
        json!({ "type": "DELETED", "object": config_map(&app.tenant("gone"), 6) }),
        json!({ "type": "ADDED", "object": config_map(&app.tenant("beta"), 7) }),
        json!({ "type": "MODIFIED", "object": config_map(&suspended, 8) }),
    ];
    let client = control_plane(list, watch);
    let following = super::source_kube::run(app.app.clone(), client, "prod", "main", Cache::new(folder.path()));
    let wanted = found(&suspended).revision.unwrap();
    tokio::select! {
        () = following => panic!("the watch ended"),
        done = tokio::time::timeout(Duration::from_secs(10), app.app.tenants.settled("acme", &wanted)) => done.unwrap(),
    }
    assert!(app.app.tenants.is_complete());
    assert!(app.app.tenants.by_name("acme").unwrap().is_suspended());
    assert_eq!((holder(&app, "beta.test").as_deref(), app.app.tenants.by_name("gone").is_none()), (Some("beta"), true));
    assert_eq!(app.app.metrics.config_source_up.get(), 1);
}

#[tokio::test]
async fn a_start_with_a_bad_document_serves_the_last_good_one_on_disk_and_keeps_it() {
    let (app, folder) = (TestApp::empty().await, tempfile::tempdir().unwrap());
    let (cache, good) = (Cache::new(folder.path()), found(&app.tenant("acme")));
    cache.replace(std::slice::from_ref(&good), &HashSet::new()).unwrap();
    let mut bad = config_map(&app.tenant("acme"), 1);
    bad["metadata"]["annotations"]["tenantry.dev/revision"] = "1111111111111111".into();
    bad["data"]["tenant.json"] = "{}".into();
    let list = json!({
        "apiVersion": "v1", "kind": "ConfigMapList", "metadata": { "resourceVersion": "5" },
        "items": [bad, config_map(&app.tenant("beta"), 2)],
    });
    // The end of the list is behind the fallback, so one more event tells that both are done.
    let watch = vec![json!({ "type": "ADDED", "object": config_map(&app.tenant("gamma"), 6) })];
    let client = control_plane(list, watch);
    let mut following = pin!(super::source_kube::run(app.app.clone(), client, "prod", "main", cache.clone()));
    let gamma = found(&app.tenant("gamma")).revision.unwrap();
    tokio::select! {
        () = &mut following => panic!("the watch ended"),
        done = tokio::time::timeout(Duration::from_secs(10), app.app.tenants.settled("gamma", &gamma)) => done.unwrap(),
    }
    let report = app.app.tenants.report("acme").unwrap();
    assert_eq!(report.revision.unwrap().to_string(), good.revision.unwrap());
    assert!(report.rejected.unwrap().error.contains("contract"));
    // The disk keeps beta, which came with it, and of acme what was good.
    let kept = async {
        while cache.get("beta").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = following => panic!("the watch ended"),
        done = tokio::time::timeout(Duration::from_secs(10), kept) => done.unwrap(),
    }
    assert_eq!(cache.get("acme").unwrap().text, good.text);
}

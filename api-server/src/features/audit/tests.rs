use http::StatusCode;
use serde_json::{Value, json};

use crate::testing::{PASSWORD, TestApp, seconds};

const LOGS: &str = "/api/v1/admin/audit-logs";

async fn entries(app: &TestApp, admin: &str, query: &str) -> Vec<Value> {
    let answer = app.get(&format!("{LOGS}{query}")).bearer(admin).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json["data"].as_array().cloned().unwrap()
}

async fn integrity(app: &TestApp, admin: &str) -> Value {
    app.get(&format!("{LOGS}/integrity")).bearer(admin).send().await.json["data"].clone()
}

async fn tamper(app: &TestApp, statement: &'static str) -> Result<(), sqlx::Error> {
    let mut tx = app.app.db.begin(app.tenant("acme").id).await?;
    sqlx::raw_sql(statement).execute(tx.conn()).await?;
    tx.commit().await
}

#[tokio::test]
async fn a_deed_is_found_by_who_what_and_how_it_ended() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    app.clock.advance(seconds(10));
    let wrong = json!({ "email": "ada@acme.test", "password": "Wrong-Horse-7" });
    app.post("/api/v1/auth/login", &wrong).header("x-request-id", "who-was-it").send().await;
    let nobody = json!({ "email": "nobody@acme.test", "password": PASSWORD });
    app.post("/api/v1/auth/login", &nobody).send().await;

    let failed = entries(&app, &admin, "?action=login&outcome=failure").await;
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert_eq!((&failed[0]["resourceId"], &failed[1]["resourceId"]), (&Value::Null, &ada["user"]["id"]));
    assert_eq!((&failed[1]["requestId"], &failed[1]["ipAddress"]), (&json!("who-was-it"), &json!("192.0.2.1")));
    let id = ada["user"]["id"].as_str().unwrap();
    let by_ada = entries(&app, &admin, &format!("?userId={id}")).await;
    assert_eq!(by_ada.iter().map(|e| e["action"].as_str().unwrap()).collect::<Vec<_>>(), ["REGISTER"]);
    let from = app.clock.now().to_string();
    assert_eq!(entries(&app, &admin, &format!("?from={from}")).await.len(), 2);
    assert_eq!(entries(&app, &admin, &format!("?to={from}&limit=1")).await.len(), 1);
    let text = app.get(LOGS).bearer(&admin).send().await.text;
    assert!(!text.contains("Horse") && !text.contains("argon2"), "{text}");
    for (query, field) in [("outcome=maybe", "outcome"), ("from=2026-01-01", "from"), ("action=%00", "action")] {
        let bad = app.get(&format!("{LOGS}?{query}")).bearer(&admin).send().await;
        assert_eq!((bad.status, bad.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"), "{query}");
        assert_eq!(bad.json["error"]["details"][0]["field"], field, "{}", bad.text);
    }
}

#[tokio::test]
async fn the_chain_shows_an_entry_that_was_changed_or_removed() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for n in 0..4 {
        app.register(&format!("user{n}@acme.test")).await;
    }
    let good = integrity(&app, &admin).await;
    assert_eq!((&good["intact"], &good["entries"]), (&json!(true), &json!(5)), "{good}");

    // As the API's own role nothing can be changed; whoever owns the table can, and it shows.
    let refused = tamper(&app, "UPDATE admin.audit_logs SET action = 'NOTHING' WHERE sequence = 2").await.unwrap_err();
    assert!(refused.to_string().contains("never changed"), "{refused}");
    let change = "ALTER TABLE admin.audit_logs DISABLE TRIGGER audit_append_only;
        UPDATE admin.audit_logs SET details = '{\"forged\": true}' WHERE sequence = 3;
        ALTER TABLE admin.audit_logs ENABLE TRIGGER audit_append_only";
    tamper(&app, change).await.unwrap();
    let changed = integrity(&app, &admin).await;
    assert_eq!((&changed["intact"], &changed["firstBroken"]), (&json!(false), &json!(3)), "{changed}");
    tamper(&app, "DELETE FROM admin.audit_logs WHERE sequence = 2").await.unwrap();
    assert_eq!(integrity(&app, &admin).await["firstBroken"], 3);
}

#[tokio::test]
async fn the_chain_shows_that_its_end_was_cut_off() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    app.register("ada@acme.test").await;
    tamper(&app, "DELETE FROM admin.audit_logs WHERE sequence = 2").await.unwrap();
    assert_eq!(integrity(&app, &admin).await["intact"], false);
}

#[tokio::test]
async fn deeds_of_the_same_moment_make_one_chain() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let wrong = async |n: usize| {
        let nobody = json!({ "email": format!("nobody{n}@acme.test"), "password": PASSWORD });
        app.post("/api/v1/auth/login", &nobody).send().await.status
    };
    let statuses = futures::future::join_all((0..8).map(wrong)).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::UNAUTHORIZED), "{statuses:?}");
    let found = integrity(&app, &admin).await;
    assert_eq!((&found["intact"], &found["entries"]), (&json!(true), &json!(9)), "{found}");
}

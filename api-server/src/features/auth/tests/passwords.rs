//! Passwords: changed, brought along, and tried in vain at the same cost.

use http::StatusCode;
use serde_json::json;

use super::{ME, token};
use crate::{
    features::auth::Cost,
    testing::{PASSWORD, TestApp},
};

/// Of `password`.
const SCRYPT: &str = "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$jU+wVnnRO8xMJ6kk2pn2W1IFgOT9r8PK+dHZ+HH3bt4";

#[tokio::test]
async fn a_changed_password_ends_all_other_sessions() {
    let app = TestApp::new().await;
    let first = app.register("ada@acme.test").await;
    let login = async |password: &str| {
        app.post("/api/v1/auth/login", &json!({ "email": "ada@acme.test", "password": password })).send().await
    };
    let second = login(PASSWORD).await.json["data"].clone();
    let change = async |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        let call = app.request(http::Method::PUT, "/api/v1/auth/password").json(&body);
        call.bearer(token(&second, "accessToken")).send().await
    };
    let wrong = change("Wrong-Horse-7", "Better-Horse-8").await;
    assert_eq!(
        (wrong.status, &wrong.json["error"]["details"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("currentPassword"))
    );
    assert_eq!(change(PASSWORD, "weak").await.code(), "VALIDATION_ERROR");
    assert_eq!(change(PASSWORD, PASSWORD).await.json["error"]["details"][0]["code"], "UNCHANGED");
    let changed = change(PASSWORD, "Better-Horse-8").await;
    assert_eq!(
        (changed.status, &changed.json["data"]["sessionsEnded"]),
        (StatusCode::OK, &json!(1)),
        "{}",
        changed.text
    );
    assert_eq!(app.get(ME).bearer(token(&first, "accessToken")).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.get(ME).bearer(token(&second, "accessToken")).send().await.status, StatusCode::OK);
    assert_eq!(login(PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login("Better-Horse-8").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_hash_of_another_system_signs_in_and_becomes_argon2id() {
    let app = TestApp::new().await;
    let stored = async || {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let hash: String = sqlx::query_scalar("SELECT password_hash FROM auth.users WHERE email = 'ada@acme.test'")
            .fetch_one(tx.conn())
            .await
            .unwrap();
        hash
    };
    app.register("ada@acme.test").await;
    for (hash, password) in [(bcrypt::hash(PASSWORD, 4).unwrap().as_str(), PASSWORD), (SCRYPT, "password")] {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        sqlx::query("UPDATE auth.users SET password_hash = $1").bind(hash).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        let login = async |password: &str| {
            let body = json!({ "email": "ada@acme.test", "password": password });
            app.post("/api/v1/auth/login", &body).send().await.status
        };
        assert_eq!(login("Wrong-Horse-7").await, StatusCode::UNAUTHORIZED);
        assert_eq!(stored().await, hash, "only who proves the password renews its hash");
        assert_eq!(login(password).await, StatusCode::OK);
        assert!(stored().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored().await);
        assert_eq!(login(password).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_unknown_account_costs_the_same_work_as_a_known_one() {
    let app = TestApp::new().await;
    app.register("ada@acme.test").await;
    app.register("banned@acme.test").await;
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let ban = "UPDATE auth.users SET is_active = false WHERE email = 'banned@acme.test'";
    sqlx::query(ban).execute(tx.conn()).await.unwrap();
    let without = "INSERT INTO auth.users (tenant_id, id, email, name, created_at, updated_at)
                   SELECT tenant_id, gen_random_uuid(), 'invited@acme.test', 'I', created_at, created_at FROM auth.users LIMIT 1";
    sqlx::query(without).execute(tx.conn()).await.unwrap();
    // Brought along from two other systems, and made with other parameters than the tenant's.
    let old = "$argon2id$v=19$m=19456,t=3,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
    let brought = [("bcrypt", &*bcrypt::hash(PASSWORD, 4).unwrap()), ("scrypt", SCRYPT), ("old", old)];
    for (who, hash) in brought {
        let insert = "INSERT INTO auth.users (tenant_id, id, email, name, password_hash, created_at, updated_at)
                      SELECT tenant_id, gen_random_uuid(), $1, 'I', $2, created_at, created_at FROM auth.users LIMIT 1";
        let email = format!("{who}@acme.test");
        sqlx::query(insert).bind(email).bind(hash).execute(tx.conn()).await.unwrap();
    }
    let banned = "UPDATE auth.users SET is_active = false WHERE email IN ('old@acme.test')";
    sqlx::query(banned).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let written = async || {
        let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
        let entries: i64 =
            sqlx::query_scalar("SELECT count(*) FROM admin.audit_logs").fetch_one(tx.conn()).await.unwrap();
        (app.app.metrics.hashes.get(), entries)
    };
    let mut printed = vec![];
    for (who, email) in [
        ("known", "ada@acme.test"),
        ("unknown", "nobody@acme.test"),
        ("banned", "banned@acme.test"),
        ("without a password", "invited@acme.test"),
        ("no address", "nobody"),
        ("of bcrypt", "bcrypt@acme.test"),
        ("of scrypt", "scrypt@acme.test"),
        ("banned, of other parameters", "old@acme.test"),
    ] {
        let mut took = vec![];
        for _ in 0..12 {
            let (hashes, entries) = written().await;
            let body = json!({ "email": email, "password": "Wrong-Horse-7" });
            let began = std::time::Instant::now();
            let answer = app.post("/api/v1/auth/login", &body).send().await;
            took.push(began.elapsed());
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{who}");
            assert_eq!(written().await, (hashes + 4, entries + 1), "{who}: a hash of each cost, and one entry");
            app.forget("tries").await;
        }
        took.sort();
        printed.push(format!("{who}: median {:?}, from {:?} to {:?}", took[6], took[0], took[11]));
    }
    println!("{}", printed.join("\n"));
    // With the accounts that have it a cost goes.
    let mut tx = app
        .hold("UPDATE auth.users SET password_hash = NULL WHERE email IN ('bcrypt@acme.test', 'old@acme.test')")
        .await;
    let costs = crate::features::users::repo::password_costs(&mut tx).await.unwrap();
    assert_eq!(costs, [Cost::of_argon2id(19_456, 2, 1), Cost::of(SCRYPT)]);
    tx.commit().await.unwrap();
    let (hashes, _) = written().await;
    let body = json!({ "email": "banned@acme.test", "password": PASSWORD });
    assert_eq!(app.post("/api/v1/auth/login", &body).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(written().await.0, hashes + 2, "also by the right password of who is banned");
}

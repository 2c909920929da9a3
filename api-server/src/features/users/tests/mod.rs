mod invitations;

use http::StatusCode;
use serde_json::json;

use crate::testing::{TestApp, binding, seconds};

#[tokio::test]
async fn an_admin_lists_users_page_by_page() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for n in 0..4 {
        app.clock.advance(seconds(1));
        app.register(&format!("user{n}@acme.test")).await;
    }
    let list = async |query: &str| app.get(&format!("/api/v1/admin/users{query}")).bearer(&admin).send().await.json;
    let emails = |page: &serde_json::Value| {
        let users = page["data"].as_array().cloned().unwrap_or_default();
        users
            .iter()
            .map(|user| user["email"].as_str().unwrap().split('@').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = list("?limit=3").await;
    assert_eq!(emails(&first), ["user3", "user2", "user1"]);
    let pagination = &first["meta"]["pagination"];
    assert_eq!(
        (&pagination["hasMore"], &pagination["limit"], pagination.get("total")),
        (&json!(true), &json!(3), None)
    );
    let second = list(&format!("?limit=3&cursor={}", pagination["nextCursor"].as_str().unwrap())).await;
    assert_eq!(
        (emails(&second), &second["meta"]["pagination"]["hasMore"]),
        (vec!["user0".into(), "admin".into()], &json!(false))
    );
    let page = list("?page=2&limit=2").await;
    assert_eq!(emails(&page), ["user1", "user0"]);
    assert_eq!((&page["meta"]["pagination"]["total"], &page["meta"]["pagination"]["page"]), (&json!(5), &json!(2)));
    assert_eq!(emails(&list("?limit=1&offset=1").await), ["user2"]);
    assert_eq!(emails(&list("?email=USER2").await), ["user2"]);
    assert_eq!(list("?limit=0").await["error"]["details"][0]["field"], "limit");
}

#[tokio::test]
async fn a_revoked_role_is_refused_at_the_next_request() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let list = || app.get("/api/v1/admin/users").bearer(&admin).send();
    assert_eq!(list().await.status, StatusCode::OK);
    app.serve(&app.tenant("acme"));
    let refused = list().await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "FORBIDDEN"));
    assert_eq!(refused.json["error"]["message"], "Insufficient permissions");
}

#[tokio::test]
async fn a_role_ends_when_its_binding_expires() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let mut acme = app.tenant("acme");
    let until = app.clock.now() + seconds(60);
    acme.bindings =
        vec![contract::access::Binding { expires_at: Some(until), ..binding("brief", "ADMIN", "admin@acme.test") }];
    app.serve(&acme);
    let list = || app.get("/api/v1/admin/users").bearer(&admin).send();
    assert_eq!(list().await.status, StatusCode::OK);
    app.clock.advance(seconds(60));
    assert_eq!(list().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn one_sees_oneself_and_an_admin_sees_all_of_their_own_tenant() {
    let app = TestApp::new().await;
    app.serve(&app.tenant("beta"));
    let admin = app.admin().await;
    let (ada, bob) = (app.register("ada@acme.test").await, app.register("bob@acme.test").await);
    let stranger = app.register_at("beta.test", "eve@beta.test").await;
    let look = async |token: &str, user: &serde_json::Value| {
        app.get(&format!("/api/v1/users/{}", user["user"]["id"].as_str().unwrap())).bearer(token).send().await.status
    };
    let ada_token = ada["accessToken"].as_str().unwrap();
    assert_eq!(look(ada_token, &ada).await, StatusCode::OK);
    assert_eq!(look(ada_token, &bob).await, StatusCode::FORBIDDEN);
    assert_eq!(look(&admin, &bob).await, StatusCode::OK);
    assert_eq!(look(&admin, &stranger).await, StatusCode::NOT_FOUND);
    let bad = app.get("/api/v1/users/1").bearer(&admin).send().await;
    assert_eq!((bad.status, bad.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"));
}

#[tokio::test]
async fn a_binding_with_a_condition_counts_for_requests_that_meet_it() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let status = async |when: &str| {
        let mut acme = app.tenant("acme");
        acme.bindings = vec![contract::access::Binding {
            when: Some(when.into()),
            ..binding("admins", "ADMIN", "admin@acme.test")
        }];
        app.serve(&acme);
        app.get("/api/v1/admin/users").bearer(&admin).send().await.status
    };
    assert_eq!(status("request.method == 'GET' && request.path == '/admin/users'").await, StatusCode::OK);
    assert_eq!(status("request.ip.startsWith('10.')").await, StatusCode::FORBIDDEN);
    assert_eq!(status("request.unknown == 1").await, StatusCode::FORBIDDEN);
}

fn id(session: &serde_json::Value) -> &str {
    session["user"]["id"].as_str().unwrap()
}

fn token(session: &serde_json::Value) -> &str {
    session["accessToken"].as_str().unwrap()
}

#[tokio::test]
async fn users_are_filtered_and_sorted() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for (name, path) in [("carol", "/api/v1/admin/users"), ("bob", "/api/users")] {
        let body = json!({ "email": format!("{name}@acme.test"), "name": name, "role": "vendor" });
        let made = app.post(path, &body).bearer(&admin).send().await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    }
    let names = async |query: &str| {
        let answer = app.get(&format!("/api/v1/users{query}")).bearer(&admin).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let users = answer.json["data"].as_array().cloned().unwrap();
        users.iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("?sort=name").await, ["Ada Lovelace", "bob", "carol"]);
    assert_eq!(names("?sort=-name&limit=1&offset=1").await, ["bob"]);
    assert_eq!(names("?sort=createdAt").await, ["Ada Lovelace", "carol", "bob"]);
    assert_eq!(names("?role=Vendor").await, ["bob", "carol"]);
    assert_eq!(names("?isActive=false").await, Vec::<String>::new());
    for (query, field) in [
        ("?sort=age", "sort"),
        ("?role=%20", "role"),
        ("?isActive=maybe", "isActive"),
        ("?limit=-1", "limit"),
        ("?limit=1&limit=2", "query"),
        ("?email=%00", "email"),
        ("/ada", "id"),
    ] {
        let bad = app.get(&format!("/api/v1/users{query}")).bearer(&admin).send().await;
        assert_eq!((bad.status, &bad.json["error"]["details"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)));
    }
}

#[tokio::test]
async fn one_changes_ones_own_name_and_an_admin_anybodys() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let (ada, bob) = (app.register("ada@acme.test").await, app.register("bob@acme.test").await);
    let change = async |token: &str, id: &str| {
        let body = json!({ "firstName": "Grace", "lastName": "Hopper" });
        app.request(http::Method::PUT, &format!("/api/v1/users/{id}")).json(&body).bearer(token).send().await
    };
    assert_eq!(change(token(&ada), id(&ada)).await.json["data"]["fullName"], "Grace Hopper");
    assert_eq!(change(token(&ada), id(&bob)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(change(&admin, id(&bob)).await.status, StatusCode::OK);
    let me = app.get("/api/v1/auth/me").bearer(token(&bob)).send().await;
    assert_eq!(me.json["data"]["name"], "Grace Hopper", "an open session has the new name at once");
}

#[tokio::test]
async fn a_role_is_felt_at_once_by_open_sessions_on_every_replica() {
    let app = TestApp::new().await;
    let other = app.replica();
    let admin = app.admin().await;
    let mut acme = app.tenant("acme");
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
    other.serve(&acme);
    let ada = app.register("ada@acme.test").await;
    let list = async |app: &TestApp| app.get("/api/v1/admin/users").bearer(token(&ada)).send().await;
    assert_eq!(list(&app).await.status, StatusCode::FORBIDDEN);
    assert_eq!(list(&other).await.status, StatusCode::FORBIDDEN);
    let path = format!("/api/v1/users/{}/roles", id(&ada));
    let given = app.post(&path, &json!({ "roleId": 2 })).bearer(&admin).send().await;
    assert_eq!(given.status, StatusCode::CREATED, "{}", given.text);
    assert_eq!(
        (&given.json["data"][1]["name"], &given.json["data"][1]["source"]),
        (&json!("SUPPORT"), &json!("Assigned"))
    );
    assert_eq!(list(&app).await.status, StatusCode::OK);
    app.clock.advance(seconds(1));
    assert_eq!(list(&other).await.status, StatusCode::OK);

    let taken = app.request(http::Method::DELETE, &format!("{path}/support")).bearer(&admin).send().await;
    assert_eq!((taken.status, taken.json["data"].as_array().unwrap().len()), (StatusCode::OK, 1), "{}", taken.text);
    assert_eq!(list(&app).await.status, StatusCode::FORBIDDEN);
    app.clock.advance(seconds(1));
    assert_eq!(list(&other).await.status, StatusCode::FORBIDDEN);
    let again = app.request(http::Method::DELETE, &format!("{path}/2")).bearer(&admin).send().await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_gives_or_touches_what_reaches_further_than_they_do() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let (ada, bob) = (app.register("ada@acme.test").await, app.register("bob@acme.test").await);
    let mut acme = app.tenant("acme");
    let role = contract::RoleName::new("OFFICE").unwrap();
    let permissions = ["roles:assign", "users:*", "payments:pay", "payments:cancel"].map(|p| p.parse().unwrap()).into();
    acme.bindings = vec![
        binding("admins", "ADMIN", "admin@acme.test"),
        contract::access::Binding { role, permissions, ..binding("office", "USER", "ada@acme.test") },
    ];
    app.serve(&acme);
    let put = async |token: &str, id: &str, body: serde_json::Value| {
        app.request(http::Method::PUT, &format!("/api/v1/admin/users/{id}")).json(&body).bearer(token).send().await
    };
    // Within reach: the office's own role, and the accounts of users.
    assert_eq!(put(token(&ada), id(&bob), json!({ "role": "office" })).await.status, StatusCode::OK);
    assert_eq!(put(token(&ada), id(&bob), json!({ "role": "ADMIN" })).await.status, StatusCode::FORBIDDEN);
    let path = format!("/api/v1/users/{}/roles", id(&ada));
    assert_eq!(
        app.post(&path, &json!({ "role": "ADMIN" })).bearer(token(&ada)).send().await.status,
        StatusCode::FORBIDDEN
    );
    let users = app.get("/api/v1/admin/users?email=admin@").bearer(&admin).send().await;
    let admin_id = users.json["data"][0]["id"].as_str().unwrap().to_owned();
    for body in [json!({ "isActive": false }), json!({ "email": "mine@acme.test" })] {
        assert_eq!(put(token(&ada), &admin_id, body).await.status, StatusCode::FORBIDDEN);
    }
    let delete = app.request(http::Method::DELETE, &format!("/api/v1/users/{admin_id}")).bearer(token(&ada)).send();
    assert_eq!(delete.await.status, StatusCode::FORBIDDEN);
    assert_eq!(put(&admin, &admin_id, json!({ "isActive": false })).await.code(), "ONESELF");
    let unknown = put(&admin, id(&bob), json!({ "role": "wizard" })).await;
    assert_eq!(
        (unknown.status, &unknown.json["error"]["details"][0]["code"]),
        (StatusCode::BAD_REQUEST, &json!("UNKNOWN"))
    );
}

#[tokio::test]
async fn what_a_role_binding_gives_is_shown_and_taken_only_there() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let roles = app.get("/api/v1/roles").bearer(&admin).send().await;
    let first = &roles.json["data"][0];
    assert_eq!((&first["id"], &first["name"], &first["managedBy"]), (&json!("1"), &json!("ADMIN"), &json!("BuiltIn")));
    let me = app.get("/api/v1/auth/me").bearer(&admin).send().await;
    let path = format!("/api/v1/users/{}/roles", me.json["data"]["id"].as_str().unwrap());
    let held = app.get(&path).bearer(&admin).send().await;
    let bound = &held.json["data"][1];
    assert_eq!(
        (&bound["binding"], &bound["readOnly"], &bound["name"]),
        (&json!("admins"), &json!(true), &json!("ADMIN"))
    );
    let taken = app.request(http::Method::DELETE, &format!("{path}/ADMIN")).bearer(&admin).send().await;
    assert_eq!((taken.status, taken.code()), (StatusCode::CONFLICT, "DECLARED_ROLE"));
    let primary = app.request(http::Method::DELETE, &format!("{path}/USER")).bearer(&admin).send().await;
    assert_eq!((primary.status, primary.code()), (StatusCode::CONFLICT, "PRIMARY_ROLE"));
}

#[tokio::test]
async fn a_banned_user_is_out_at_once_and_comes_back_only_when_allowed() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    let me = || app.get("/api/v1/auth/me").bearer(token(&ada)).send();
    assert_eq!(me().await.status, StatusCode::OK);
    let set = async |active: bool| {
        let path = format!("/api/v1/admin/users/{}", id(&ada));
        app.request(http::Method::PUT, &path).json(&json!({ "isActive": active })).bearer(&admin).send().await.status
    };
    assert_eq!(set(false).await, StatusCode::OK);
    assert_eq!(me().await.status, StatusCode::UNAUTHORIZED);
    let login = async || {
        let body = json!({ "email": "ada@acme.test", "password": crate::testing::PASSWORD });
        app.post("/api/v1/auth/login", &body).send().await.status
    };
    assert_eq!(login().await, StatusCode::UNAUTHORIZED);
    assert_eq!(set(true).await, StatusCode::OK);
    assert_eq!(me().await.status, StatusCode::UNAUTHORIZED, "an ended session does not come back");
    assert_eq!(login().await, StatusCode::OK);
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_personal_and_an_intact_audit() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let ada = app.register("ada@acme.test").await;
    let deleted =
        app.request(http::Method::DELETE, &format!("/api/v1/users/{}", id(&ada))).bearer(token(&ada)).send().await;
    assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.text);
    assert_eq!(app.get("/api/v1/auth/me").bearer(token(&ada)).send().await.status, StatusCode::UNAUTHORIZED);
    let look = app.get(&format!("/api/v1/admin/users/{}", id(&ada))).bearer(&admin).send().await;
    assert_eq!(look.status, StatusCode::NOT_FOUND);
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT to_jsonb(u)::text FROM auth.users u WHERE deleted_at IS NOT NULL
         UNION ALL SELECT to_jsonb(l)::text FROM admin.audit_logs l WHERE resource_id = $1",
    )
    .bind(id(&ada))
    .fetch_all(tx.conn())
    .await
    .unwrap();
    assert!(left.len() >= 3, "{left:?}");
    for row in &left {
        for personal in ["ada@", "Ada", "Lovelace", "192.0.2.1", "argon2"] {
            assert!(!row.contains(personal), "{personal}: {row}");
        }
    }
    tx.commit().await.unwrap();
    let integrity = app.get("/api/v1/admin/audit-logs/integrity").bearer(&admin).send().await;
    assert_eq!(integrity.json["data"]["intact"], true, "{}", integrity.text);
    // The address is free again.
    app.register("ada@acme.test").await;
}

#[tokio::test]
async fn accounts_of_another_system_come_with_their_hashes_row_by_row() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let old = bcrypt::hash("their-old-one", 4).unwrap();
    let import = async |token: &str, users: serde_json::Value| {
        app.post("/api/v1/admin/users/import", &json!({ "users": users })).bearer(token).send().await
    };
    let users = json!([
        { "email": "Grace@acme.test", "firstName": "Grace", "lastName": "Hopper", "passwordHash": old, "role": "vendor", "emailVerified": true },
        { "email": "admin@acme.test", "name": "Taken" },
        { "email": "nobody", "passwordHash": "$1$md5$hash", "role": "wizard" },
        { "email": "dear@acme.test", "name": "Dear", "passwordHash": old.replacen("$04$", "$31$", 1) },
        { "email": "grace@acme.test", "name": "Twice" },
        { "email": "later@acme.test", "name": "Later" },
    ]);
    let done = import(&admin, users.clone()).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let data = &done.json["data"];
    assert_eq!(
        (&data["created"], &data["exists"], &data["refused"]),
        (&json!(2), &json!(2), &json!(2)),
        "{}",
        done.text
    );
    let results: Vec<_> = data["rows"].as_array().unwrap().iter().map(|row| row["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["created", "exists", "refused", "refused", "exists", "created"]);
    let fields: Vec<_> =
        data["rows"][2]["details"].as_array().unwrap().iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["email", "name", "passwordHash", "role"]);
    assert!(!done.text.contains(&old), "a hash is in no answer");
    // Sent again, it finds what is there.
    assert_eq!(import(&admin, users).await.json["data"]["exists"], 4);

    let body = json!({ "email": "grace@acme.test", "password": "their-old-one" });
    let login = app.post("/api/v1/auth/login", &body).send().await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.text);
    let user = &login.json["data"]["user"];
    assert_eq!(
        (&user["role"], &user["emailVerified"], &user["lastName"]),
        (&json!("VENDOR"), &json!(true), &json!("Hopper"))
    );
    let logs = app.get("/api/v1/admin/audit-logs?action=import").bearer(&admin).send().await;
    assert_eq!(logs.json["data"].as_array().unwrap().len(), 2);
    assert!(!logs.text.contains("$2b$"));

    for bad in [json!([]), json!(vec![json!({ "email": "a@b.co", "name": "A" }); 501])] {
        assert_eq!(import(&admin, bad).await.code(), "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn an_import_gives_no_role_that_reaches_further_and_keeps_the_quota() {
    let app = TestApp::new().await;
    let office = app.register("office@acme.test").await;
    let mut acme = app.tenant("acme");
    let role = contract::RoleName::new("OFFICE").unwrap();
    let permissions = ["users:create", "payments:pay", "payments:cancel"].map(|p| p.parse().unwrap()).into();
    acme.bindings =
        vec![contract::access::Binding { role, permissions, ..binding("office", "USER", "office@acme.test") }];
    acme.quotas.users = Some(2);
    app.serve(&acme);
    let users = json!([
        { "email": "boss@acme.test", "name": "Boss", "role": "ADMIN" },
        { "email": "one@acme.test", "name": "One" },
        { "email": "two@acme.test", "name": "Two" },
    ]);
    let done = app.post("/api/v1/admin/users/import", &json!({ "users": users })).bearer(token(&office)).send().await;
    let rows = &done.json["data"]["rows"];
    assert_eq!(rows[0]["details"][0]["code"], "TOO_FAR", "{}", done.text);
    assert_eq!((&rows[1]["result"], &rows[2]["details"][0]["code"]), (&json!("created"), &json!("QUOTA_REACHED")));
}

/// Where a user's rows are, and whether an export shows them. A table that is not here fails the test below: show it in
/// `export.rs`, or say why it is kept back.
const TABLES_OF_USERS: [(&str, &str); 14] = [
    ("admin.audit_logs", "shown"),
    ("auth.api_keys", "shown"),
    ("auth.challenges", "kept back: hashes of tokens that live for minutes"),
    ("auth.identities", "shown"),
    ("auth.identity_flows", "kept back: sign-ins that last minutes"),
    ("auth.mailed_tokens", "kept back: hashes of tokens that live for days"),
    ("auth.passkeys", "shown as a second factor; the rest is public keys"),
    ("auth.recovery_codes", "shown as a second factor; the rest is hashes"),
    ("auth.sessions", "shown"),
    ("auth.totp", "shown as a second factor; the rest is sealed"),
    ("auth.user_roles", "shown"),
    ("mail.outbox", "shown, without what the mails say"),
    ("payments.idempotency_keys", "kept back: copies of answers about payments that are shown, for a day"),
    ("payments.payments", "shown"),
];

#[tokio::test]
async fn every_table_with_a_users_rows_is_thought_of_in_the_export() {
    let app = TestApp::new().await;
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_schema || '.' || table_name FROM information_schema.columns
         WHERE column_name = 'user_id' AND table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
    )
    .fetch_all(tx.conn())
    .await
    .unwrap();
    for table in &tables {
        let known = TABLES_OF_USERS.iter().any(|(name, _)| name == table);
        assert!(
            known,
            "{table} has rows of users: name it in TABLES_OF_USERS, and show it in features/users/export.rs"
        );
    }
}

#[tokio::test]
async fn one_takes_out_everything_that_is_kept_about_oneself() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let (ada, bob) = (app.register("ada@acme.test").await, app.register("bob@acme.test").await);
    let roles = format!("/api/v1/users/{}/roles", id(&ada));
    assert_eq!(app.post(&roles, &json!({ "role": "SUPPORT" })).bearer(&admin).send().await.status, StatusCode::CREATED);
    let mut tx = app.app.db.begin(app.tenant("acme").id).await.unwrap();
    sqlx::query(
        "INSERT INTO payments.payments (tenant_id, id, user_id, amount, currency, type, status, provider, return_url, created_at, updated_at)
         SELECT tenant_id, gen_random_uuid(), id, 12.5, 'EUR', 'payment', 'pending', 'stripe', '', now(), now() FROM auth.users",
    )
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let export = async |token: &str, of: &serde_json::Value| {
        app.get(&format!("/api/v1/users/{}/export", id(of))).bearer(token).send().await
    };
    let mine = export(token(&ada), &ada).await;
    assert_eq!(mine.status, StatusCode::OK, "{}", mine.text);
    assert!(mine.header("content-disposition").contains("export.json"));
    let data = &mine.json["data"];
    assert_eq!((&data["account"]["email"], &data["cutOff"]), (&json!("ada@acme.test"), &json!([])));
    let length = |part: &str| data[part].as_array().unwrap_or_else(|| panic!("{part}: {}", mine.text)).len();
    assert_eq!((length("roles"), length("sessions"), length("payments")), (2, 1, 1));
    assert!(data["mails"].as_array().unwrap().iter().all(|mail| mail["recipient"] == "ada@acme.test"), "{}", mine.text);
    assert_eq!(
        (&data["sessions"][0]["ipAddress"], &data["payments"][0]["amount"]),
        (&json!("192.0.2.1"), &json!(12.5))
    );
    let actions: Vec<_> = data["audit"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["ASSIGN_ROLE", "REGISTER"]);
    for secret in ["argon2", "bob@", "passwordHash", token(&ada)] {
        assert!(!mine.text.contains(secret), "{secret}");
    }
    assert_eq!(export(token(&bob), &ada).await.status, StatusCode::FORBIDDEN);
    assert_eq!(export(&admin, &ada).await.status, StatusCode::OK);
    let logs = app.get("/api/v1/admin/audit-logs?action=export").bearer(&admin).send().await;
    assert_eq!(logs.json["data"].as_array().unwrap().len(), 2);
}

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

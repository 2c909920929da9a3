//! What becomes of a user is told to their own open sockets, on every replica.

use http::Method;
use serde_json::{Value, json};

use super::{client::Client, look, text};
use crate::testing::{PASSWORD, TestApp, binding, seconds};

#[tokio::test]
async fn a_user_who_changed_hears_of_it_on_every_replica_and_once() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let replicas = [app.replica(), app.without_redis(), app];
    let [first, ..] = &replicas;
    let mut acme = first.tenant("acme");
    acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
    for replica in &replicas {
        replica.serve(&acme);
    }
    let ada = first.register("ada@acme.test").await;
    let bob = first.register("bob@acme.test").await;
    let (token, id) = (text(&ada, "accessToken"), text(&ada["user"], "id"));
    let room = format!("user:{id}");
    let mut clients = vec![];
    for replica in &replicas {
        let at = replica.listen().await;
        clients.push((Client::join(at, token).await, Client::join(at, text(&bob, "accessToken")).await));
    }
    let own = format!("/api/v1/users/{id}");
    let admins = format!("/api/v1/admin/users/{id}");
    for (method, path, by, body, field, value) in [
        (Method::PUT, own.clone(), token, json!({ "name": "Ada King" }), "name", json!("Ada King")),
        (Method::PUT, admins.clone(), &*admin, json!({ "email": "king@acme.test" }), "email", json!("king@acme.test")),
        (Method::PUT, format!("{admins}/role"), &admin, json!({ "role": "VENDOR" }), "role", json!("VENDOR")),
        (
            Method::POST,
            format!("{own}/roles"),
            &admin,
            json!({ "role": "SUPPORT" }),
            "roles",
            json!(["VENDOR", "SUPPORT"]),
        ),
        (Method::DELETE, format!("{own}/roles/SUPPORT"), &admin, json!({}), "roles", json!(["VENDOR"])),
    ] {
        let answer = first.request(method, &path).json(&body).bearer(by).send().await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        for (replica, (client, other)) in replicas.iter().zip(&mut clients) {
            look(&replica.app).await;
            look(&replica.app).await;
            assert_eq!(client.hear_of(&room).await[field], value, "{path}");
            client.answers().await;
            other.answers().await;
        }
    }
    // What the cluster declares is told as well. A further sign-in is no news.
    acme.bindings.push(binding("helpers", "SUPPORT", "king@acme.test"));
    let again = json!({ "email": "king@acme.test", "password": PASSWORD });
    assert!(first.post("/api/v1/auth/login", &again).send().await.status.is_success());
    for (replica, (client, other)) in replicas.iter().zip(&mut clients) {
        look(&replica.app).await;
        client.answers().await;
        replica.serve(&acme);
        look(&replica.app).await;
        let user: Value = client.hear_of(&room).await;
        assert_eq!(user["roles"], json!(["VENDOR", "SUPPORT"]));
        // What a replica remembers of a session lasts a second; what a socket is told is never so old.
        replica.clock.advance(seconds(1));
        let me = replica.get("/api/v1/auth/me").bearer(token).send().await;
        assert_eq!(user["roles"], me.json["data"]["roles"], "{}", me.text);
        other.answers().await;
    }
}

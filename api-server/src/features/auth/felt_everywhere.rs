//! What ends or changes a session is felt on each of three replicas within a second, one of them without Redis.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::testing::{PASSWORD, TestApp, binding, seconds};

const ME: &str = "/api/v1/auth/me";
const USERS: &str = "/api/v1/users";

struct Platform {
    replicas: [TestApp; 3],
    admin: String,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field}: {value}"))
}

impl Platform {
    async fn start() -> Self {
        let app = TestApp::new().await;
        let admin = app.admin().await;
        let replicas = [app.replica(), app.without_redis(), app];
        for replica in &replicas {
            let mut acme = replica.tenant("acme");
            acme.bindings = vec![binding("admins", "ADMIN", "admin@acme.test")];
            replica.serve(&acme);
        }
        Self { replicas, admin }
    }

    /// Asks every replica, so that each has an answer of its own that it might go on using.
    async fn expect(&self, path: &str, token: &str, status: StatusCode, what: &str) {
        for (at, replica) in self.replicas.iter().enumerate() {
            let answer = replica.get(path).bearer(token).send().await;
            assert_eq!(answer.status, status, "{what}, replica {at}: {}", answer.text);
        }
    }

    async fn act(&self, method: Method, path: &str, token: &str, body: Value) {
        let answer = self.replicas[0].request(method, path).json(&body).bearer(token).send().await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        // To the millisecond: a second later it is felt.
        self.replicas[0].clock.advance(seconds(1));
    }

    async fn login(&self, email: &str) -> Value {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.replicas[0].post("/api/v1/auth/login", &body).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json["data"].clone()
    }
}

#[tokio::test]
async fn every_end_of_a_session_is_felt_within_a_second() {
    let platform = Platform::start().await;
    for what in ["logout", "logout of all", "ban", "deletion", "end of one session", "password"] {
        let email = format!("{}@acme.test", what.replace(' ', "-"));
        let first = platform.replicas[0].register(&email).await;
        let second = platform.login(&email).await;
        let (victim, other, id) =
            (text(&first, "accessToken"), text(&second, "accessToken"), text(&first["user"], "id"));
        platform.expect(ME, victim, StatusCode::OK, what).await;
        platform.expect(ME, other, StatusCode::OK, what).await;
        let admin = &platform.admin;
        match what {
            "logout" => platform.act(Method::POST, "/api/v1/auth/logout", victim, json!({})).await,
            "logout of all" => {
                platform.act(Method::POST, "/api/v1/auth/logout", other, json!({ "scope": "all" })).await;
            }
            "ban" => {
                let path = format!("/api/v1/admin/users/{id}");
                platform.act(Method::PUT, &path, admin, json!({ "isActive": false })).await;
            }
            "deletion" => {
                platform.act(Method::DELETE, &format!("/api/v1/admin/users/{id}"), admin, json!({})).await;
            }
            "password" => {
                let body = json!({ "currentPassword": PASSWORD, "newPassword": "Better-Horse-8" });
                platform.act(Method::PUT, "/api/v1/auth/password", other, body).await;
            }
            _ => {
                let sessions = platform.replicas[0].get("/api/v1/auth/sessions").bearer(other).send().await;
                let all = sessions.json["data"].as_array().unwrap();
                let session = all.iter().find(|session| session["current"] == false).unwrap();
                let path = format!("/api/v1/auth/sessions/{}", text(session, "id"));
                platform.act(Method::DELETE, &path, other, json!({})).await;
            }
        }
        platform.expect(ME, victim, StatusCode::UNAUTHORIZED, what).await;
        let other_goes_on = matches!(what, "logout" | "password" | "end of one session");
        let expected = if other_goes_on { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        platform.expect(ME, other, expected, &format!("{what}, the other session")).await;
    }
}

#[tokio::test]
async fn a_role_that_is_given_and_taken_is_felt_within_a_second() {
    let platform = Platform::start().await;
    let ada = platform.replicas[0].register("ada@acme.test").await;
    let (token, id) = (text(&ada, "accessToken"), text(&ada["user"], "id"));
    let admin = &platform.admin;
    platform.expect(USERS, token, StatusCode::FORBIDDEN, "before").await;
    platform.act(Method::POST, &format!("{USERS}/{id}/roles"), admin, json!({ "role": "SUPPORT" })).await;
    platform.expect(USERS, token, StatusCode::OK, "given").await;
    platform.act(Method::DELETE, &format!("{USERS}/{id}/roles/SUPPORT"), admin, json!({})).await;
    platform.expect(USERS, token, StatusCode::FORBIDDEN, "taken").await;
    platform.act(Method::PUT, &format!("/api/v1/admin/users/{id}/role"), admin, json!({ "role": "SUPPORT" })).await;
    platform.expect(USERS, token, StatusCode::OK, "primary").await;
}

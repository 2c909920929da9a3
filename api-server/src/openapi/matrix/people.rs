//! The people of the matrix and what belongs to them, made without hashing a password for each.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contract::{codec, tenant::TenantState};
use jsonwebtoken::Header;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::tests::{document, operations},
    table::Row,
};
use crate::{
    tenancy::Found,
    testing::{Answer, TestApp},
};

/// Two tenants, acme and beta.
pub struct World {
    pub app: TestApp,
    /// What a token says; the names in it are exchanged for each person.
    claims: Value,
    operations: Vec<(String, http::Method, Value)>,
    numbers: AtomicU64,
}

pub struct Person {
    pub objects: Objects,
    pub token: String,
}

/// What belongs to one person.
#[derive(Clone, Copy)]
pub struct Objects {
    pub user: Uuid,
    pub session: Uuid,
    pub payment: Uuid,
    pub api_key: Uuid,
}

impl World {
    pub async fn new() -> Self {
        let app = TestApp::new().await;
        let found = ["acme", "beta"].map(|name| Found {
            tenant: name.into(),
            revision: None,
            text: codec::encode(&app.tenant(name)).unwrap().text,
        });
        // All there are: from now on the process calls itself healthy.
        app.app.tenants.replace(&found);
        let template = app.register("template@acme.test").await;
        let claims = template["accessToken"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        Self { app, claims, operations: operations(&document()), numbers: AtomicU64::new(0) }
    }

    pub async fn call(&self, row: &Row, host: &str, person: Option<&Person>, objects: &Objects) -> Answer {
        let operation =
            self.operations.iter().find(|(_, _, operation)| operation["operationId"] == row.operation.as_str());
        let (path, method, _) = operation.unwrap_or_else(|| panic!("{} is no operation", row.operation));
        let mut call = self.app.request(method.clone(), &objects.fill(path)).host(host);
        if !row.body.is_empty() {
            let body = row.body.replace("{n}", &self.number().to_string());
            call = call.header("content-type", "application/json").body(body);
        }
        match person {
            Some(person) => call.bearer(&person.token).send().await,
            None => call.send().await,
        }
    }

    /// Somebody of acme with this primary role, signed in.
    pub async fn person(&self, role: &str) -> Person {
        self.person_at("acme", role).await
    }

    pub async fn person_at(&self, tenant: &str, role: &str) -> Person {
        let objects = self.objects(tenant, role).await;
        let tenant = self.app.app.tenants.by_name(tenant).unwrap();
        let (kid, algorithm, key) = tenant.keys.signing().unwrap();
        let mut claims = self.claims.clone();
        let now = self.app.clock.now().as_second();
        for (name, value) in [
            ("iss", json!(tenant.issuer())),
            ("aud", json!(tenant.name)),
            ("tid", json!(tenant.id)),
            ("sub", json!(objects.user)),
            ("userId", json!(objects.user)),
            ("sid", json!(objects.session)),
            ("jti", json!(Uuid::now_v7())),
            ("role", json!(role)),
            ("roles", json!([role])),
            ("iat", json!(now)),
            ("nbf", json!(now)),
            ("exp", json!(now + 900)),
        ] {
            claims[name] = value;
        }
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
        Person { objects, token: jsonwebtoken::encode(&header, &claims, key).unwrap() }
    }

    pub async fn banned(&self, role: &str) -> Person {
        let person = self.person(role).await;
        self.ban(&person).await;
        person
    }

    pub async fn signed_out(&self, role: &str) -> Person {
        let person = self.person(role).await;
        self.run(
            "UPDATE auth.sessions SET revoked_at = now(), revoked_for = 'logout' WHERE id = $1",
            person.objects.session,
        )
        .await;
        person
    }

    /// A program that acts for this person, by a key for everything.
    pub async fn machine_of(&self, person: &Person) -> Person {
        let body = json!({ "name": format!("machine{}", self.number()), "scopes": ["*:*"] });
        let made = self.app.post("/api/v1/api-keys", &body).bearer(&person.token).send().await;
        let token = made.json["data"]["key"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned();
        let api_key = made.json["data"]["id"].as_str().unwrap().parse().unwrap();
        Person { objects: Objects { api_key, ..person.objects }, token }
    }

    /// Whether the document says that an operation takes keys.
    pub fn takes_keys(&self, row: &Row) -> bool {
        let operation =
            self.operations.iter().find(|(_, _, operation)| operation["operationId"] == row.operation.as_str());
        let security = operation.and_then(|(_, _, operation)| operation["security"].as_array());
        security.is_some_and(|all| all.iter().any(|one| one["apiKey"].is_array()))
    }

    pub async fn revoke(&self, machine: &Person) {
        self.run("UPDATE auth.api_keys SET revoked_at = now() WHERE id = $1", machine.objects.api_key).await;
    }

    pub async fn ban(&self, person: &Person) {
        self.run("UPDATE auth.users SET is_active = false WHERE id = $1", person.objects.user).await;
    }

    /// Of somebody who has a further role, so that there is one to take.
    pub async fn objects_of_another(&self) -> Objects {
        let objects = self.objects("acme", "USER").await;
        let statement = "INSERT INTO auth.user_roles (tenant_id, user_id, role, assigned_at)
                         SELECT tenant_id, id, 'VENDOR', created_at FROM auth.users WHERE id = $1";
        self.run(statement, objects.user).await;
        objects
    }

    pub fn suspend(&self, name: &str) {
        let mut tenant = self.app.tenant(name);
        tenant.state = TenantState::Suspended;
        self.app.serve(&tenant);
    }

    async fn run(&self, statement: &'static str, id: Uuid) {
        let mut tx = self.app.app.db.begin(self.app.tenant("acme").id).await.unwrap();
        let done = sqlx::query(statement).bind(id).execute(tx.conn()).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{statement}");
        tx.commit().await.unwrap();
    }

    /// An account with a session and a payment.
    async fn objects(&self, tenant: &str, role: &str) -> Objects {
        let objects =
            Objects { user: Uuid::now_v7(), session: Uuid::now_v7(), payment: Uuid::now_v7(), api_key: Uuid::now_v7() };
        let (tenant, n, now) = (self.app.tenant(tenant).id, self.number(), self.app.clock.now());
        let mut tx = self.app.app.db.begin(tenant).await.unwrap();
        let statement = format!(
            "WITH u AS (INSERT INTO auth.users (tenant_id, id, email, name, role, created_at, updated_at)
                        VALUES ($1, $2, 'p{n}@acme.test', 'Person {n}', $5, $6, $6)),
                  s AS (INSERT INTO auth.sessions (tenant_id, id, user_id, created_at, last_used_at, expires_at)
                        VALUES ($1, $3, $2, $6, $6, $6 + interval '7 days')),
                  k AS (INSERT INTO auth.api_keys (tenant_id, id, user_id, name, prefix, digest, scopes, created_at, expires_at)
                        VALUES ($1, $7, $2, 'key-{n}', 'tnt_', sha256($7::text::bytea), '{{}}', $6, $6 + interval '7 days'))
             INSERT INTO payments.payments (tenant_id, id, user_id, amount, currency, type, status, provider, return_url,
                                            created_at, updated_at)
             VALUES ($1, $4, $2, 1, 'USD', 'payment', 'pending', 'stripe', '', $6, $6)"
        );
        let now = jiff_sqlx::ToSqlx::to_sqlx(now);
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_uuid())
            .bind(objects.user)
            .bind(objects.session)
            .bind(objects.payment)
            .bind(role)
            .bind(now)
            .bind(objects.api_key)
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        objects
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

//! The room's promises, through the real router, with a Stripe that has bad days.

mod limits;
mod repeats;
pub mod stripe;
mod webhooks;

use contract::{
    Secret, TenantConfig,
    payments::{Account, Mode, Provider},
};
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use self::stripe::{Mood, Stripe};
use super::providers::stripe::signature::sign;
use crate::testing::{Answer, TestApp, binding, seconds};

/// acme with its Stripe account, and somebody who can pay.
struct Shop {
    app: TestApp,
    stripe: Stripe,
    customer: String,
}

pub const SIGNING_SECRET: &str = "whsec_acme_2";

impl Shop {
    async fn open() -> Self {
        let (app, stripe) = (TestApp::new().await, Stripe::start().await);
        app.serve(&with_stripe(&app, "acme", &stripe.url, &[SIGNING_SECRET, "whsec_acme_1"]));
        let customer = token(&app.register("cust@acme.test").await);
        Self { app, stripe, customer }
    }

    async fn pay(&self, body: &Value) -> Answer {
        self.app.post("/api/v1/payments", body).bearer(&self.customer).send().await
    }

    async fn pay_with_key(&self, key: &str, body: &Value) -> Answer {
        self.app.post("/api/v1/payments", body).bearer(&self.customer).header("idempotency-key", key).send().await
    }

    /// A payment of 100.00 USD that waits to be paid: its id, and its session at Stripe.
    async fn initiated(&self) -> (String, String) {
        let answer = self.pay(&hundred()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let id = answer.json["data"]["id"].as_str().unwrap().to_owned();
        let session = self.stripe.session_of(&id)["id"].as_str().unwrap().to_owned();
        (id, session)
    }

    async fn payment(&self, id: &str) -> Value {
        let answer = self.app.get(&format!("/api/v1/payments/{id}")).bearer(&self.customer).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json["data"].clone()
    }

    async fn cancel(&self, id: &str) -> Answer {
        self.app.request(Method::DELETE, &format!("/api/payments/{id}")).bearer(&self.customer).send().await
    }

    /// Stripe's word about a session, as it stands in its books now.
    async fn hears(&self, event: &str, kind: &str, payment: &str) -> Answer {
        self.receives(&event_body(event, kind, &self.stripe.session_of(payment))).await
    }

    async fn receives(&self, body: &str) -> Answer {
        let signature = sign(body.as_bytes(), SIGNING_SECRET, self.app.clock.now());
        let call = self.app.request(Method::POST, "/api/v1/payments/webhook").header("stripe-signature", &signature);
        call.body(body.to_owned()).send().await
    }

    /// One number from acme's rows.
    async fn count(&self, query: &'static str) -> i64 {
        let mut tx = self.app.app.db.begin(self.app.tenant("acme").id).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(tx.conn()).await.unwrap()
    }
}

fn token(registered: &Value) -> String {
    registered["accessToken"].as_str().unwrap().to_owned()
}

fn hundred() -> Value {
    json!({ "amount": 100.00, "currency": "USD", "description": "Payment for invoice #123", "type": "payment" })
}

pub fn event_body(id: &str, kind: &str, session: &Value) -> String {
    json!({ "id": id, "object": "event", "type": kind, "livemode": false, "data": { "object": session } }).to_string()
}

pub fn with_stripe(app: &TestApp, tenant: &str, url: &str, signing_secrets: &[&str]) -> TenantConfig {
    let mut tenant = app.tenant(tenant);
    let seal = |credential: &str, secret: &str| {
        app.key.seal(tenant.id, &Provider::seal_field("stripe", credential), &Secret::new(secret)).unwrap()
    };
    let webhook_signing_secrets = signing_secrets.iter().enumerate();
    let provider = Provider {
        name: "stripe".into(),
        mode: Mode::Test,
        default: true,
        currencies: vec![],
        enabled: true,
        request_timeout_seconds: 1,
        api_base_url: Some(url.into()),
        account: Account::Stripe {
            secret_key: seal("secretKey", "sk_test_acme"),
            webhook_signing_secrets: webhook_signing_secrets
                .map(|(at, secret)| seal(&format!("webhookSigningSecrets/{at}"), secret))
                .collect(),
            api_version: None,
            webhook_tolerance_seconds: 300,
        },
    };
    tenant.providers = vec![provider];
    tenant
}

#[tokio::test]
async fn a_customer_pays_and_the_providers_word_completes_it() {
    let shop = Shop::open().await;
    let made = shop.pay(&hundred()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let payment = &made.json["data"];
    let id = payment["id"].as_str().unwrap();
    assert_eq!(
        (&payment["status"], &payment["type"], &payment["currency"]),
        (&json!("initiated"), &json!("payment"), &json!("USD"))
    );
    assert!(made.text.contains(r#""amount":100.00,"amountMinor":"10000""#), "{}", made.text);
    assert!(payment["checkoutUrl"].as_str().unwrap().starts_with("https://checkout.stripe.test/cs_test_"));
    assert_eq!(payment["created_at"], payment["createdAt"]);
    assert_eq!(made.header("location"), format!("/api/v1/payments/{id}"));

    shop.stripe.pay("cs_test_1");
    let heard = shop.hears("evt_1", "checkout.session.completed", id).await;
    assert_eq!((heard.status, &heard.json["data"]["received"]), (StatusCode::OK, &json!(true)));
    let paid = shop.payment(id).await;
    assert_eq!((&paid["status"], &paid["checkoutUrl"]), (&json!("completed"), &Value::Null));
    assert_eq!(shop.count("SELECT count(*) FROM payments.payment_transactions").await, 3, "made, opened, paid");
    assert_eq!(shop.count("SELECT count(*) FROM admin.audit_logs WHERE resource_type = 'payment'").await, 3);
}

#[tokio::test]
async fn amounts_are_exact_in_every_currency_and_from_either_spelling() {
    let shop = Shop::open().await;
    for (amount, currency, literal, minor) in [
        (r#""100""#, "usd", "100.00", "10000"),
        ("0.1", "EUR", "0.10", "10"),
        ("1500", "JPY", "1500", "1500"),
        ("1.230", "KWD", "1.230", "1230"),
        ("90071992547409.93", "USD", "90071992547409.93", "9007199254740993"),
    ] {
        let body = format!(r#"{{"amount":{amount},"currency":"{currency}"}}"#);
        let call = shop.app.request(Method::POST, "/api/payments").bearer(&shop.customer);
        let made = call.header("content-type", "application/json").body(body).send().await;
        let expected = format!(r#""amount":{literal},"amountMinor":"{minor}""#);
        assert!(made.text.contains(&expected), "{amount} {currency}: {}", made.text);
        let id = made.json["data"]["id"].as_str().unwrap();
        let again = shop.app.get(&format!("/api/v1/payments/{id}")).bearer(&shop.customer).send().await;
        assert!(again.text.contains(&expected), "{}", again.text);
        assert_eq!(again.json["data"], made.json["data"], "as it was told, so it is kept");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_payment_is_named() {
    let shop = Shop::open().await;
    for (change, field) in [
        (json!({ "amount": 0 }), "amount"),
        (json!({ "amount": "1.001" }), "amount"),
        (json!({ "amount": "ten" }), "amount"),
        (json!({ "amount": null }), "amount"),
        (json!({ "currency": "XXL" }), "currency"),
        (json!({ "currency": "dollars and cents" }), "currency"),
        (json!({ "type": "gift" }), "type"),
        (json!({ "description": "x".repeat(501) }), "description"),
        (json!({ "description": "a\u{0}b" }), "description"),
    ] {
        let mut body = hundred();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = shop.pay(&body).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"), "{}", refused.text);
        assert_eq!(refused.json["error"]["details"][0]["field"], field, "{}", refused.text);
    }
    assert_eq!(shop.stripe.calls().len(), 0);
    assert_eq!(shop.count("SELECT count(*) FROM payments.payments").await, 0);
}

#[tokio::test]
async fn a_vendor_asks_and_a_customer_pays() {
    let shop = Shop::open().await;
    let vendor = token(&shop.app.register("vendor@acme.test").await);
    let mut acme = with_stripe(&shop.app, "acme", &shop.stripe.url, &[SIGNING_SECRET]);
    acme.bindings = vec![binding("vendors", "VENDOR", "vendor@acme.test")];
    shop.app.serve(&acme);
    let asking = json!({ "amount": 5, "currency": "EUR", "type": "initiate" });
    assert_eq!(shop.app.post("/api/v1/payments", &asking).bearer(&vendor).send().await.status, StatusCode::CREATED);
    let refused = shop.pay(&asking).await;
    assert_eq!(
        (refused.status, &refused.json["error"]["message"]),
        (StatusCode::FORBIDDEN, &json!("Insufficient permissions"))
    );
    assert_eq!(shop.app.post("/api/v1/payments", &asking).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn one_sees_ones_own_payments_and_a_vendor_sees_all_page_by_page() {
    let shop = Shop::open().await;
    let vendor = token(&shop.app.register("vendor@acme.test").await);
    let mut acme = with_stripe(&shop.app, "acme", &shop.stripe.url, &[SIGNING_SECRET]);
    acme.bindings = vec![binding("vendors", "VENDOR", "vendor@acme.test")];
    shop.app.serve(&acme);
    let (mut ids, other) = (vec![], json!({ "amount": 7, "currency": "EUR", "type": "initiate" }));
    for _ in 0..3 {
        shop.app.clock.advance(seconds(1));
        ids.insert(0, shop.initiated().await.0);
    }
    let others = shop.app.post("/api/v1/payments", &other).bearer(&vendor).send().await.json["data"]["id"].clone();
    let list = async |token: &str, query: &str| {
        let answer = shop.app.get(&format!("/api/v1/payments{query}")).bearer(token).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let found: Vec<_> =
            answer.json["data"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect();
        (found, answer.json["meta"]["pagination"].clone())
    };
    assert_eq!(list(&shop.customer, "").await.0, ids);
    assert_eq!(list(&vendor, "").await.0.len(), 4);
    assert_eq!(list(&vendor, "?type=INITIATE").await.0, [others.as_str().unwrap()]);
    assert_eq!(list(&vendor, "?status=Completed").await.0.len(), 0);

    let (first, pagination) = list(&shop.customer, "?limit=2").await;
    assert_eq!((first.as_slice(), &pagination["hasMore"]), (&ids[..2], &json!(true)));
    let cursor = pagination["nextCursor"].as_str().unwrap();
    assert_eq!(list(&shop.customer, &format!("?limit=2&cursor={cursor}")).await.0, ids[2..]);
    let (second, pagination) = list(&shop.customer, "?limit=2&page=2").await;
    assert_eq!((second.as_slice(), &pagination["total"]), (&ids[2..], &json!(3)));
    assert_eq!(list(&shop.customer, "?limit=1&offset=1").await.0, ids[1..2]);
    let refused = shop.app.get("/api/v1/payments?status=lost").bearer(&shop.customer).send().await;
    assert_eq!(refused.json["error"]["details"][0]["field"], "status");

    // Another's payment is there for the vendor, who may cancel it, and is not there for the customer.
    let theirs = format!("/api/v1/payments/{}", others.as_str().unwrap());
    assert_eq!(shop.app.get(&theirs).bearer(&shop.customer).send().await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        shop.app.request(Method::DELETE, &theirs).bearer(&shop.customer).send().await.status,
        StatusCode::NOT_FOUND
    );
    let mine = format!("/api/v1/payments/{}", ids[0]);
    assert_eq!(shop.app.request(Method::DELETE, &mine).bearer(&vendor).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_cancelled_payment_cannot_be_paid_any_more() {
    let shop = Shop::open().await;
    let (id, _) = shop.initiated().await;
    let cancelled = shop.cancel(&id).await;
    assert_eq!(
        (cancelled.status, &cancelled.json["data"]["status"]),
        (StatusCode::OK, &json!("cancelled")),
        "{}",
        cancelled.text
    );
    assert_eq!(shop.stripe.session_of(&id)["status"], "expired");
    assert_eq!(shop.payment(&id).await["checkoutUrl"], Value::Null);
    let again = shop.cancel(&id).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "ILLEGAL_TRANSITION"));
    assert_eq!(again.json["error"]["details"][0]["message"], "cancelled is final");
}

#[tokio::test]
async fn a_payment_that_was_paid_meanwhile_is_completed_and_not_cancelled() {
    let shop = Shop::open().await;
    let (id, session) = shop.initiated().await;
    shop.stripe.pay(&session);
    let refused = shop.cancel(&id).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "ILLEGAL_TRANSITION"), "{}", refused.text);
    assert_eq!(shop.payment(&id).await["status"], "completed");
}

#[tokio::test]
async fn two_tenants_cannot_see_each_others_payments() {
    let shop = Shop::open().await;
    shop.app.serve(&with_stripe(&shop.app, "beta", &shop.stripe.url, &["whsec_beta"]));
    let (id, _) = shop.initiated().await;
    let mut beta = with_stripe(&shop.app, "beta", &shop.stripe.url, &["whsec_beta"]);
    let spy = token(&shop.app.register_at("beta.test", "spy@beta.test").await);
    beta.bindings = vec![binding("admins", "ADMIN", "spy@beta.test")];
    shop.app.serve(&beta);
    for method in [Method::GET, Method::DELETE] {
        let look = async |id: &str| {
            let call = shop.app.request(method.clone(), &format!("/api/v1/payments/{id}"));
            let answer = call.host("beta.test").bearer(&spy).send().await;
            (answer.status, answer.json["error"].clone())
        };
        assert_eq!(look(&id).await, look(&Uuid::now_v7().to_string()).await);
        assert_eq!(look(&id).await.0, StatusCode::NOT_FOUND);
    }
    let list = shop.app.get("/api/v1/payments").host("beta.test").bearer(&spy).send().await;
    assert_eq!(list.json["data"], json!([]));
    assert_eq!(shop.app.get("/api/v1/payments").bearer(&spy).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_tenant_without_a_provider_for_the_currency_says_so() {
    let shop = Shop::open().await;
    let mut acme = with_stripe(&shop.app, "acme", &shop.stripe.url, &[SIGNING_SECRET]);
    acme.providers[0].currencies = vec![contract::Currency::new("EUR").unwrap()];
    shop.app.serve(&acme);
    let refused = shop.pay(&hundred()).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNPROCESSABLE_ENTITY, "NO_PROVIDER"));
    assert_eq!(refused.json["error"]["details"][0]["field"], "currency");
}

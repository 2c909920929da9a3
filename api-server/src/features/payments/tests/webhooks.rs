//! What providers tell us, and what others would like us to believe.

use super::*;

const COMPLETED: &str = "checkout.session.completed";

/// Sends `body` with `signature` wherever webhooks are taken.
async fn send(shop: &Shop, path: &str, signature: &str, body: &str) -> Answer {
    let call = shop.app.request(Method::POST, path).header("stripe-signature", signature);
    call.body(body.to_owned()).send().await
}

#[tokio::test]
async fn a_word_that_is_not_the_providers_changes_nothing() {
    let shop = Shop::open().await;
    let (id, session) = shop.initiated().await;
    shop.stripe.pay(&session);
    let (now, body) = (shop.app.clock.now(), event_body("evt_1", COMPLETED, &shop.stripe.session_of(&id)));
    let good = sign(body.as_bytes(), SIGNING_SECRET, now);
    let thin = body.replace(r#""object":"event""#, r#""object":"v2.core.event""#);
    let live = body.replace(r#""livemode":false"#, r#""livemode":true"#);
    for (signature, body, reason) in [
        (String::new(), &body, "missing"),
        ("nonsense".into(), &body, "missing"),
        (good.replace("v1=", "v0="), &body, "scheme v1"),
        (sign(body.as_bytes(), "whsec_beta", now), &body, "matches"),
        (good.clone(), &body.replace("paid", "paiD"), "matches"),
        (sign(body.as_bytes(), SIGNING_SECRET, now - seconds(301)), &body, "too far"),
        (sign(body.as_bytes(), SIGNING_SECRET, now + seconds(301)), &body, "too far"),
        (sign(thin.as_bytes(), SIGNING_SECRET, now), &thin, "v2.core.event"),
        (sign(live.as_bytes(), SIGNING_SECRET, now), &live, "other mode"),
        (sign(b"{", SIGNING_SECRET, now), &"{".to_owned(), "not an event"),
    ] {
        let refused = send(&shop, "/api/v1/payments/webhook", &signature, body).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "WEBHOOK_REFUSED"), "{signature}");
        assert!(refused.json["error"]["message"].as_str().unwrap().contains(reason), "{}", refused.text);
    }
    let huge = " ".repeat(300 * 1024);
    assert_eq!(send(&shop, "/api/v1/payments/webhook", &good, &huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(shop.payment(&id).await["status"], "initiated");
    assert_eq!(shop.count("SELECT count(*) FROM payments.provider_events").await, 0);
}

#[tokio::test]
async fn a_word_is_taken_at_every_address_of_the_tenant() {
    let shop = Shop::open().await;
    for (n, path) in
        ["/api/v1/payments/webhook", "/api/payments/webhook", "/webhooks/stripe/acme"].into_iter().enumerate()
    {
        let (id, session) = shop.initiated().await;
        shop.stripe.pay(&session);
        let body = event_body(&format!("evt_{n}"), COMPLETED, &shop.stripe.session_of(&id));
        let signature = sign(body.as_bytes(), SIGNING_SECRET, shop.app.clock.now());
        assert_eq!(send(&shop, path, &signature, &body).await.status, StatusCode::OK, "{path}");
        assert_eq!(shop.payment(&id).await["status"], "completed", "{path}");
    }
    let nobody = send(&shop, "/webhooks/stripe/nobody", "", "{}").await;
    assert_eq!((nobody.status, nobody.code()), (StatusCode::NOT_FOUND, "TENANT_NOT_FOUND"));
}

#[tokio::test]
async fn the_same_word_fifty_times_at_once_has_one_effect() {
    let shop = Shop::open().await;
    let (id, session) = shop.initiated().await;
    shop.stripe.pay(&session);
    let answers = join_all((0..50).map(|_| shop.hears("evt_1", COMPLETED, &id))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(shop.payment(&id).await["status"], "completed");
    let completed = "SELECT count(*) FROM payments.payment_transactions WHERE status = 'completed'";
    assert_eq!(shop.count(completed).await, 1);
    assert_eq!(shop.count("SELECT count(*) FROM payments.provider_events").await, 1);
    // Another event that tells the same thing.
    shop.hears("evt_2", COMPLETED, &id).await;
    assert_eq!(shop.count(completed).await, 1);
}

#[tokio::test]
async fn a_word_about_other_money_is_answered_and_not_believed() {
    let shop = Shop::open().await;
    let (id, session) = shop.initiated().await;
    shop.stripe.pay(&session);
    let paid = shop.stripe.session_of(&id);
    let other = Uuid::now_v7().to_string();
    for (n, change) in [
        json!({ "amount_total": 1 }),
        json!({ "amount_total": null }),
        json!({ "currency": "jpy" }),
        json!({ "id": "cs_test_other" }),
        json!({ "client_reference_id": other }),
        json!({ "id": "cs_test_other", "client_reference_id": other, "metadata": null }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut session = paid.clone();
        session.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = shop.receives(&event_body(&format!("evt_{n}"), COMPLETED, &session)).await;
        assert_eq!(answer.status, StatusCode::OK, "{change}");
        assert_eq!(shop.payment(&id).await["status"], "initiated", "{change}");
    }
    assert_eq!(shop.count("SELECT count(*) FROM payments.provider_events WHERE outcome = 'mismatch'").await, 5);
    assert_eq!(shop.count("SELECT count(*) FROM payments.provider_events WHERE outcome = 'unknown'").await, 1);
    shop.receives(&event_body("evt_true", COMPLETED, &paid)).await;
    assert_eq!(shop.payment(&id).await["status"], "completed", "the true word counts all the same");
}

#[tokio::test]
async fn another_tenants_account_has_no_say() {
    let shop = Shop::open().await;
    shop.app.serve(&with_stripe(&shop.app, "beta", &shop.stripe.url, &["whsec_beta"]));
    let (id, session) = shop.initiated().await;
    shop.stripe.pay(&session);
    let body = event_body("evt_1", COMPLETED, &shop.stripe.session_of(&id));
    let signature = sign(body.as_bytes(), "whsec_beta", shop.app.clock.now());
    assert_eq!(send(&shop, "/webhooks/stripe/acme", &signature, &body).await.status, StatusCode::BAD_REQUEST);
    // Properly signed at beta it is about a payment that beta does not have.
    assert_eq!(send(&shop, "/webhooks/stripe/beta", &signature, &body).await.status, StatusCode::OK);
    assert_eq!(shop.payment(&id).await["status"], "initiated");
}

#[tokio::test]
async fn order_does_not_matter_and_what_is_final_stays() {
    let shop = Shop::open().await;
    for (words, end) in [
        (["completed:paid", "expired:unpaid"], "completed"),
        (["expired:unpaid", "completed:paid"], "cancelled"),
        (["async_payment_succeeded:paid", "completed:unpaid"], "completed"),
        (["completed:unpaid", "async_payment_failed:unpaid"], "failed"),
        (["completed:unpaid", "async_payment_succeeded:paid"], "completed"),
        (["completed:unpaid", "expired:unpaid"], "processing"),
    ] {
        let (id, _) = shop.initiated().await;
        for word in words {
            let (kind, paid) = word.split_once(':').unwrap();
            let mut session = shop.stripe.session_of(&id);
            session["payment_status"] = json!(paid);
            let body = event_body(&Uuid::new_v4().to_string(), &format!("checkout.session.{kind}"), &session);
            assert_eq!(shop.receives(&body).await.status, StatusCode::OK);
        }
        assert_eq!(shop.payment(&id).await["status"], end, "{words:?}");
    }
    let unheard = json!({ "id": "evt_x", "object": "event", "type": "customer.created", "data": { "object": {} } });
    assert_eq!(shop.receives(&unheard.to_string()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_payment_completes_though_its_opening_was_never_heard_of() {
    let shop = Shop::open().await;
    shop.stripe.next(Mood::LosesItsAnswer);
    let lost = shop.pay_with_key("k", &hundred()).await;
    let id = lost.json["error"]["details"][0]["message"].as_str().unwrap();
    shop.stripe.pay("cs_test_1");
    shop.hears("evt_1", COMPLETED, id).await;
    assert_eq!(shop.payment(id).await["status"], "completed");
    let again = shop.pay_with_key("k", &hundred()).await;
    assert_eq!(
        (again.status, &again.json["data"]["status"]),
        (StatusCode::CREATED, &json!("completed")),
        "{}",
        again.text
    );
    assert_eq!(shop.stripe.sessions(), 1);
}

#[tokio::test]
async fn a_signing_secret_can_be_rotated() {
    let shop = Shop::open().await;
    let word = async |secret: &str| {
        let body = event_body(&Uuid::new_v4().to_string(), "customer.created", &json!({}));
        let signature = sign(body.as_bytes(), secret, shop.app.clock.now());
        send(&shop, "/api/v1/payments/webhook", &signature, &body).await.status
    };
    assert_eq!((word(SIGNING_SECRET).await, word("whsec_acme_1").await), (StatusCode::OK, StatusCode::OK));
    shop.app.serve(&with_stripe(&shop.app, "acme", &shop.stripe.url, &[SIGNING_SECRET]));
    assert_eq!((word(SIGNING_SECRET).await, word("whsec_acme_1").await), (StatusCode::OK, StatusCode::BAD_REQUEST));
}

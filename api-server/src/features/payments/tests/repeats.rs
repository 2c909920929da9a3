//! Answers that are lost, providers that have a bad day, and requests that come again.

use super::*;

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_charged_once() {
    let shop = Shop::open().await;
    shop.stripe.next(Mood::LosesItsAnswer);
    let lost = shop.pay_with_key("k1", &hundred()).await;
    assert_eq!((lost.status, lost.code()), (StatusCode::SERVICE_UNAVAILABLE, "PROVIDER_UNAVAILABLE"), "{}", lost.text);
    let id = lost.json["error"]["details"][0]["message"].as_str().unwrap();
    assert_eq!(shop.payment(id).await["status"], "pending");

    let made = shop.pay_with_key("k1", &hundred()).await;
    assert_eq!((made.status, &made.json["data"]["id"]), (StatusCode::CREATED, &json!(id)), "{}", made.text);
    assert_eq!(made.json["data"]["status"], "initiated");
    assert_eq!(shop.stripe.sessions(), 1);
    assert!(shop.stripe.calls().iter().all(|(_, key)| key == id));

    let replayed = shop.pay_with_key("k1", &hundred()).await;
    assert_eq!((replayed.status, &replayed.text), (StatusCode::CREATED, &made.text));
    assert_eq!((replayed.header("idempotent-replayed"), made.header("idempotent-replayed")), ("true", ""));
    assert_eq!(shop.count("SELECT count(*) FROM payments.payments").await, 1);
}

#[tokio::test]
async fn a_payment_whose_page_is_unknown_to_us_can_be_cancelled() {
    let shop = Shop::open().await;
    shop.stripe.next(Mood::LosesItsAnswer);
    let lost = shop.pay(&hundred()).await;
    let id = lost.json["error"]["details"][0]["message"].as_str().unwrap();
    assert_eq!(shop.cancel(id).await.json["data"]["status"], "cancelled");
    assert_eq!((shop.stripe.sessions(), &shop.stripe.session_of(id)["status"]), (1, &json!("expired")));
}

#[tokio::test]
async fn a_provider_in_trouble_is_asked_again_under_the_same_key() {
    let shop = Shop::open().await;
    shop.stripe.next(Mood::Says(500, json!({})));
    shop.stripe.next(Mood::Says(409, json!({})));
    let (id, _) = shop.initiated().await;
    assert_eq!(shop.stripe.calls(), vec![("/v1/checkout/sessions".to_owned(), id); 3]);
    for _ in 0..3 {
        shop.stripe.next(Mood::Says(503, json!({})));
    }
    assert_eq!(shop.pay(&hundred()).await.code(), "PROVIDER_UNAVAILABLE");
    shop.stripe.next(Mood::Says(401, json!({ "error": { "type": "invalid_request_error" } })));
    let refused = shop.pay(&hundred()).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::BAD_GATEWAY, "PROVIDER_ACCOUNT"));
}

#[tokio::test]
async fn what_the_provider_refuses_has_failed_and_stays_so() {
    let shop = Shop::open().await;
    let error = json!({ "error": { "type": "invalid_request_error", "code": "amount_too_small", "message": "At least 50 cents." } });
    shop.stripe.next(Mood::Says(400, error));
    for _ in 0..2 {
        let refused = shop.pay_with_key("k", &json!({ "amount": "0.01", "currency": "USD" })).await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::UNPROCESSABLE_ENTITY, "PAYMENT_REFUSED"),
            "{}",
            refused.text
        );
        assert_eq!(refused.json["error"]["details"][0]["message"], "At least 50 cents.");
        let id = refused.json["error"]["details"][1]["message"].as_str().unwrap();
        let failed = shop.payment(id).await;
        assert_eq!((&failed["status"], &failed["failure"]["code"]), (&json!("failed"), &json!("amount_too_small")));
    }
    assert_eq!(shop.stripe.calls().len(), 1);
}

#[tokio::test]
async fn a_key_means_one_request_of_one_user() {
    let shop = Shop::open().await;
    let first = shop.pay_with_key("k", &hundred()).await;
    let other = shop.pay_with_key("k", &json!({ "amount": 99, "currency": "USD" })).await;
    assert_eq!((other.status, other.code()), (StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"));
    // The same wish, written differently.
    let mut same = hundred();
    same["amount"] = json!("100");
    assert_eq!(shop.pay_with_key("k", &same).await.text, first.text);
    let somebody = token(&shop.app.register("else@acme.test").await);
    let theirs =
        shop.app.post("/api/v1/payments", &hundred()).bearer(&somebody).header("idempotency-key", "k").send().await;
    assert_ne!(theirs.json["data"]["id"], first.json["data"]["id"]);
    assert_eq!(shop.pay_with_key("", &hundred()).await.json["error"]["details"][0]["field"], "Idempotency-Key");
    shop.app.clock.advance(seconds(24 * 3_600));
    let next_day = shop
        .app
        .post("/api/v1/auth/login", &json!({ "email": "cust@acme.test", "password": crate::testing::PASSWORD }));
    let token = token(&next_day.send().await.json["data"]);
    let call = shop.app.post("/api/v1/payments", &hundred()).bearer(&token).header("idempotency-key", "k");
    assert_ne!(call.send().await.json["data"]["id"], first.json["data"]["id"], "a day later it is a new request");
    assert_eq!(shop.count("SELECT count(*) FROM payments.idempotency_keys").await, 1, "the old ones are gone");
}

#[tokio::test]
async fn a_process_that_died_in_the_middle_holds_nobody_up_for_long() {
    let shop = Shop::open().await;
    let made = shop.pay_with_key("k", &hundred()).await;
    // As it would stand if the process had died before it could note the answer.
    let mut tx = shop.app.app.db.begin(shop.app.tenant("acme").id).await.unwrap();
    for undo in [
        "UPDATE payments.idempotency_keys SET status = NULL, body = NULL",
        "UPDATE payments.payments SET status = 'pending', provider_reference = NULL, checkout_url = NULL",
    ] {
        sqlx::query(undo).execute(tx.conn()).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(shop.pay_with_key("k", &hundred()).await.code(), "IDEMPOTENCY_IN_PROGRESS");
    shop.app.clock.advance(seconds(11));
    let again = shop.pay_with_key("k", &hundred()).await;
    assert_eq!((again.status, &again.json["data"]["id"]), (StatusCode::CREATED, &made.json["data"]["id"]));
    assert_eq!(again.json["data"]["checkoutUrl"], made.json["data"]["checkoutUrl"]);
    assert_eq!(shop.stripe.sessions(), 1);
}

#[tokio::test]
async fn fifty_copies_at_once_make_one_payment() {
    let shop = Shop::open().await;
    let replica = shop.app.replica();
    replica.serve(&with_stripe(&replica, "acme", &shop.stripe.url, &[SIGNING_SECRET]));
    let answers = join_all((0..50).map(|n| {
        let app = if n % 2 == 0 { &shop.app } else { &replica };
        app.post("/api/v1/payments", &hundred()).bearer(&shop.customer).header("idempotency-key", "storm").send()
    }))
    .await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).collect();
    assert!(!made.is_empty() && made.iter().all(|answer| answer.text == made[0].text));
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        assert_eq!((answer.code(), answer.header("retry-after")), ("IDEMPOTENCY_IN_PROGRESS", "1"), "{}", answer.text);
    }
    assert_eq!(shop.count("SELECT count(*) FROM payments.payments").await, 1);
    assert_eq!((shop.stripe.sessions(), shop.stripe.calls().len()), (1, 1));
}

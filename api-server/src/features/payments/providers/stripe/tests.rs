use std::time::Duration;

use bytes::Bytes;
use contract::{Currency, Secret};
use http::Response;
use uuid::Uuid;

use super::*;

fn with_account<T>(check: impl FnOnce(&AccountView<'_>) -> T) -> T {
    let (key, signing) = (Secret::new("sk_test_1"), Secret::new("whsec_1"));
    check(&AccountView {
        name: "acme-stripe",
        mode: Mode::Test,
        timeout: Duration::from_secs(1),
        base_url: Some("http://stripe.test/"),
        api_version: None,
        secret_key: &key,
        webhook_secrets: vec![&signing],
        webhook_tolerance_seconds: 300,
    })
}

fn money(amount: &str, currency: &str) -> Money {
    Money::new(amount.parse().unwrap(), Currency::new(currency).unwrap()).unwrap()
}

fn answer(status: u16, body: &str) -> Answer {
    Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn event(kind: &str, livemode: bool, session: &str) -> Result<Event, WebhookError> {
    let body = format!(
        r#"{{"id":"evt_1","object":"event","type":"{kind}","livemode":{livemode},"data":{{"object":{session}}}}}"#
    );
    webhook(&body)
}

fn signed(body: &str, now: Timestamp) -> HeaderMap {
    let signature = signature::sign(body.as_bytes(), "whsec_1", now).parse().unwrap();
    HeaderMap::from_iter([(header::HeaderName::from_static("stripe-signature"), signature)])
}

fn webhook(body: &str) -> Result<Event, WebhookError> {
    let now = Timestamp::UNIX_EPOCH;
    let headers = signed(body, now);
    with_account(|account| Stripe.read_webhook(account, &headers, body.as_bytes(), now))
}

#[test]
fn an_intent_is_one_call_that_is_the_same_each_time() {
    let money = money("12.50", "EUR");
    let intent = Intent {
        payment: Uuid::from_u128(7),
        money: &money,
        description: "Tea & cake",
        return_url: "https://shop.example/back?x=1",
    };
    with_account(|account| {
        let call = Stripe.open_checkout(account, &intent).unwrap();
        assert_eq!(call.uri(), "http://stripe.test/v1/checkout/sessions");
        assert_eq!(call.headers()["authorization"], "Bearer sk_test_1");
        assert_eq!(call.headers()["stripe-version"], API_VERSION);
        assert_eq!(call.headers()["idempotency-key"], "00000000-0000-0000-0000-000000000007");
        let form: Vec<(String, String)> = form_urlencoded::parse(call.body().as_bytes()).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(field("line_items[0][price_data][unit_amount]"), Some("1250"));
        assert_eq!(field("line_items[0][price_data][currency]"), Some("eur"));
        assert_eq!(field("line_items[0][price_data][product_data][name]"), Some("Tea & cake"));
        assert_eq!(field("client_reference_id"), Some("00000000-0000-0000-0000-000000000007"));
        assert!(field("success_url").unwrap().starts_with("https://shop.example/back?x=1&payment="));
        assert_eq!(Stripe.open_checkout(account, &intent).unwrap().body(), call.body());
    });
}

#[test]
fn amounts_are_in_the_units_that_stripe_counts_in() {
    for (amount, currency, units) in [
        ("10", "USD", Some(1_000)),
        ("10", "JPY", Some(10)),
        ("1.234", "KWD", Some(1_234)),
        ("5", "ISK", Some(500)),
        ("5", "UGX", Some(500)),
        ("5", "MGA", Some(5)),
        ("5.20", "MGA", None),
    ] {
        assert_eq!(Stripe.units(&money(amount, currency)), units, "{amount} {currency}");
    }
}

#[test]
fn a_session_is_read_in_our_words_and_an_unknown_word_moves_nothing() {
    for (status, payment_status, ours) in [
        ("open", "unpaid", Status::Initiated),
        ("complete", "paid", Status::Completed),
        ("complete", "no_payment_required", Status::Completed),
        ("complete", "unpaid", Status::Processing),
        ("complete", "somehow", Status::Pending),
        ("expired", "unpaid", Status::Cancelled),
        ("on_the_moon", "paid", Status::Pending),
    ] {
        let body = format!(
            r#"{{"id":"cs_1","url":"https://pay/1","status":"{status}","payment_status":"{payment_status}","amount_total":10,"currency":"usd","client_reference_id":null,"metadata":{{"payment_id":"00000000-0000-0000-0000-000000000007"}}}}"#
        );
        let checkout = Stripe.read_checkout(&answer(200, &body)).unwrap();
        assert_eq!(checkout.status, ours, "{status}/{payment_status}");
        assert_eq!(checkout.payment, Some(Uuid::from_u128(7)));
        assert_eq!((checkout.amount, checkout.currency.as_deref()), (Some(10), Some("USD")));
    }
}

#[test]
fn an_error_says_whose_matter_it_is() {
    let read = |status, body: &str| Stripe.read_checkout(&answer(status, body)).unwrap_err();
    let error = |kind: &str, code: &str| format!(r#"{{"error":{{"type":"{kind}","code":"{code}","message":"No."}}}}"#);
    let refused = read(400, &error("invalid_request_error", "amount_too_small"));
    assert_eq!(refused, ProviderError::Refused { code: "amount_too_small".into(), message: "No.".into() });
    assert!(matches!(read(401, &error("invalid_request_error", "api_key_expired")), ProviderError::Account(_)));
    assert!(matches!(read(400, &error("idempotency_error", "")), ProviderError::Account(_)));
    for status in [409, 429, 500, 503] {
        assert!(matches!(read(status, "<html>busy</html>"), ProviderError::Unavailable(_)), "{status}");
    }
    assert!(matches!(read(200, "{}"), ProviderError::Unavailable(_)));
}

#[test]
fn stripe_says_itself_what_may_be_repeated() {
    let with = |status, should: Option<&'static str>| {
        let mut answer = answer(status, "");
        answer
            .headers_mut()
            .extend(should.map(|s| (header::HeaderName::from_static("stripe-should-retry"), s.parse().unwrap())));
        Stripe.may_retry(&answer)
    };
    assert!(with(409, None) && with(500, None) && with(400, Some("true")));
    assert!(!with(200, None) && !with(400, None) && !with(429, None) && !with(500, Some("false")));
}

#[test]
fn an_event_says_what_became_of_a_checkout() {
    let session = |paid: &str| format!(r#"{{"id":"cs_1","status":"complete","payment_status":"{paid}"}}"#);
    for (kind, session, status) in [
        ("checkout.session.completed", session("paid"), Status::Completed),
        ("checkout.session.completed", session("unpaid"), Status::Processing),
        ("checkout.session.async_payment_succeeded", session("paid"), Status::Completed),
        ("checkout.session.async_payment_failed", session("unpaid"), Status::Failed),
        ("checkout.session.expired", session("unpaid"), Status::Cancelled),
    ] {
        assert_eq!(event(kind, false, &session).unwrap().checkout.unwrap().status, status, "{kind}");
    }
    assert!(event("payment_intent.succeeded", false, "{}").unwrap().checkout.is_none());
}

#[test]
fn what_is_no_event_of_this_account_is_refused() {
    let thin = webhook(r#"{"id":"evt_1","object":"v2.core.event","type":"v1.billing.meter.error"}"#).unwrap_err();
    assert!(thin.to_string().contains("v2.core.event"), "{thin}");
    let live = event("checkout.session.completed", true, r#"{"id":"cs_1"}"#).unwrap_err();
    assert!(matches!(live, WebhookError::Mode(Mode::Test)));
    for body in ["", "{", "[]", "{\"id\":1}", "\u{feff}{}"] {
        assert!(matches!(webhook(body).unwrap_err(), WebhookError::Body(_)), "{body:?}");
    }
    assert!(matches!(event("checkout.session.completed", false, "[]").unwrap_err(), WebhookError::Body(_)));
}

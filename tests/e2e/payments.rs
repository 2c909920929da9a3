//! A customer pays, and Stripe tells us; so do people who are not Stripe.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use harness::{Platform, Tenant, User, actors::Answer, python, wait};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

const STRIPE: &str = "stripe==16.1.0";
/// Signs as Stripe's own library does, with its own code; prints the header.
const SIGN: &str = "import sys, stripe
payload, secret, age = sys.stdin.read(), sys.argv[1], int(sys.argv[2])
import time
t = int(time.time()) - age
v1 = stripe.WebhookSignature._compute_signature(f'{t}.{payload}', secret)
header = f't={t},v1={v1}'
if age == 0:
    stripe.Webhook.construct_event(payload, header, secret)
print(header)";

async fn signed_by_stripe(payload: &str, secret: &str, age_seconds: u32) -> Result<String> {
    let interpreter = python::with(&[STRIPE]).await?;
    let mut child = Command::new(interpreter)
        .args(["-c", SIGN, secret, &age_seconds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    tokio::io::AsyncWriteExt::write_all(&mut stdin, payload.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "the stripe library does not sign");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn webhook(tenant: &Tenant, payload: &str, signature: &str) -> Result<Answer> {
    let request = tenant.request(Method::POST, "/payments/webhook").header("stripe-signature", signature);
    Answer::of(request.header("content-type", "application/json").body(payload.to_owned())).await
}

async fn opens_a_payment(user: &User) -> Result<(String, String)> {
    let payment = user.pays(10, "EUR").await?;
    let text =
        |field: &str| payment[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {payment}"));
    let session = text("checkoutUrl")?.rsplit('/').next().unwrap_or_default().to_owned();
    Ok((text("id")?, session))
}

async fn status(user: &User, id: &str) -> Result<Value> {
    Ok(user.payment(id).await?["status"].clone())
}

#[tokio::test]
async fn a_webhook_signed_by_stripes_library_completes_the_payment_once() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let (id, session) = opens_a_payment(&alice).await?;
        ensure!(status(&alice, &id).await? == "initiated");

        let event = platform.provider.completed_event(&session)?.to_string();
        let header = signed_by_stripe(&event, "whsec_acme", 0).await?;
        webhook(&acme, &event, &header).await?.expect(StatusCode::OK)?;
        ensure!(status(&alice, &id).await? == "completed");
        let completed = alice.payment(&id).await?;

        for _ in 0..5 {
            webhook(&acme, &event, &header).await?.expect(StatusCode::OK)?;
        }
        ensure!(alice.payment(&id).await? == completed, "a replay changes nothing");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_forged_an_old_and_a_foreign_webhook_change_nothing() -> Result<()> {
    Platform::run(async |platform| {
        let (acme, globex) = (platform.tenant("acme").await?, platform.tenant("globex").await?);
        let alice = acme.user("alice");
        alice.registers().await?;
        let (id, session) = opens_a_payment(&alice).await?;
        let event = platform.provider.completed_event(&session)?.to_string();

        let forged = signed_by_stripe(&event, "whsec_guessed", 0).await?;
        let old = signed_by_stripe(&event, "whsec_acme", 3600).await?;
        let foreign = signed_by_stripe(&event, "whsec_globex", 0).await?;
        let good = signed_by_stripe(&event, "whsec_acme", 0).await?;
        let changed = event.replace("EUR", "USD").replace("eur", "usd");
        for (payload, header) in
            [(&event, &forged), (&event, &old), (&event, &foreign), (&changed, &good), (&event, &"nonsense".to_owned())]
        {
            let refused = webhook(&acme, payload, header).await?.expect(StatusCode::BAD_REQUEST)?;
            ensure!(!refused.text.contains("whsec_acme"), "{refused}");
        }
        // A true signature of another tenant, at that tenant's door, about our payment.
        let at_globex = signed_by_stripe(&event, "whsec_globex", 0).await?;
        ensure!(!webhook(&globex, &event, &at_globex).await?.status.is_server_error());
        ensure!(status(&alice, &id).await? == "initiated");

        webhook(&acme, &event, &good).await?.expect(StatusCode::OK)?;
        ensure!(status(&alice, &id).await? == "completed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rotated_provider_key_is_taken_up() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        alice.pays(10, "EUR").await?;

        let before = platform.objects.get("tenant/acme").await?["status"]["config"]["revision"].clone();
        platform.provider.accept_key("sk_test_rotated", None);
        platform.provider.revoke_key("sk_test_acme");
        let kubectl = platform.kubectl()?;
        kubectl
            .patch("secret/acme-stripe", &json!({"stringData": {"secret-key": "sk_test_rotated"}}).to_string())
            .await?;
        wait::until("the new key to be served", async || {
            let tenant = platform.objects.get("tenant/acme").await?;
            let config = &tenant["status"]["config"];
            Ok((config["revision"] != before && config["loadedReplicas"] == 2).then_some(()))
        })
        .await?;
        alice.pays(10, "EUR").await?;
        let last = platform.provider.seen().pop().context("the provider was asked")?;
        ensure!(last.key == "sk_test_rotated", "{last:?}");
        let credentials = platform.objects.get("paymentprovider/acme-stripe").await?["status"]["credentials"].clone();
        ensure!(
            credentials["secretName"] == "acme-stripe" && !credentials.to_string().contains("sk_test"),
            "{credentials}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_retry_after_a_lost_answer_charges_once() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let body = json!({"amount": "12.50", "currency": "EUR", "type": "payment"});
        let pay = async || {
            let request = alice.request(Method::POST, "/payments").header("idempotency-key", "order-7");
            Answer::of(request.json(&body)).await
        };
        platform.provider.mood(harness::provider::Mood::Down);
        pay().await?.expect(StatusCode::SERVICE_UNAVAILABLE)?;
        platform.provider.mood(harness::provider::Mood::Fine);
        let first = pay().await?.expect(StatusCode::CREATED)?;
        let again = pay().await?.expect(StatusCode::CREATED)?;
        ensure!(first.data() == again.data() && again.header("idempotent-replayed") == "true", "{first} {again}");
        let list = alice.get("/payments").await?.expect(StatusCode::OK)?;
        ensure!(list.data().as_array().map(Vec::len) == Some(1), "{list}");
        Ok(())
    })
    .await
}

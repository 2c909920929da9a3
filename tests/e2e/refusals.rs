//! What makes no sense is refused with a sentence; what points to nothing is said in conditions. Either way, the last
//! good configuration goes on serving.

use anyhow::{Result, ensure};
use harness::Platform;
use http::StatusCode;

#[tokio::test]
async fn a_bad_spec_is_refused_by_kubectl_with_a_sentence() -> Result<()> {
    Platform::run(async |platform| {
        platform.tenant("acme").await?;
        let kubectl = platform.kubectl()?;
        let of = |kind: &str, spec: &str| {
            format!("apiVersion: tenantry.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: bad}}\nspec: {spec}\n")
        };
        let cases = [
            (of("Tenant", "{hostnames: [API.acme.example]}"), "spec.hostnames[0]"),
            (of("Tenant", "{isolation: {database: Shared}}"), "Unsupported value: \"Shared\""),
            (of("Tenant", "{hostname: acme.example}"), "unknown field \"spec.hostname\""),
            (
                of("RateLimitPolicy", "{targetRef: {kind: Tenant, name: acme}}"),
                "exactly one of limits, defaults and overrides",
            ),
            (
                of(
                    "RateLimitPolicy",
                    "{targetRef: {kind: Tenant, name: acme}, limits: {a: {rates: [{limit: 0, window: 1m}]}}}",
                ),
                "spec.limits.a.rates[0].limit",
            ),
            (of("PaymentProvider", "{tenantRef: {name: acme}, type: Stripe, mode: Test}"), "stripe"),
            (of("RoleBinding", "{tenantRef: {name: acme}, roleRef: {name: admin}}"), "subjects"),
        ];
        for (yaml, sentence) in cases {
            let said = kubectl.is_refused(&yaml).await?;
            ensure!(said.contains(sentence), "expected {sentence:?} in\n{said}");
        }
        // What may not change, does not.
        let moved = r#"{"spec":{"tenantRef":{"name":"globex"}}}"#;
        let refused =
            kubectl.attempt(&["patch", "paymentprovider/acme-stripe", "--type=merge", "-p", moved], "").await?;
        ensure!(!refused.success && refused.stderr.contains("immutable"), "{}", refused.stderr);
        // What is protected is not deleted.
        let protect = |protected: bool| format!(r#"{{"spec":{{"deletionProtection":{protected}}}}}"#);
        kubectl.attempt(&["patch", "tenant/acme", "--type=merge", "-p", &protect(true)], "").await?;
        let refused = kubectl.attempt(&["delete", "tenant/acme"], "").await?;
        let sentence = "tenant acme is protected from deletion; set spec.deletionProtection to false first";
        ensure!(!refused.success && refused.stderr.contains(sentence), "{}", refused.stderr);
        kubectl.attempt(&["patch", "tenant/acme", "--type=merge", "-p", &protect(false)], "").await?;
        platform.objects.until("tenant/acme", "Ready", "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bad_reference_shows_in_conditions_while_the_last_good_config_serves() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let kubectl = platform.kubectl()?;

        kubectl.run("delete secret acme-stripe").await?;
        let provider = platform.objects.until("paymentprovider/acme-stripe", "ResolvedRefs", "False").await?;
        let said = provider["status"]["conditions"].to_string();
        ensure!(said.contains("SecretNotFound") && said.contains("acme-stripe"), "{said}");
        alice.pays(10, "EUR").await?;

        // A live key in a test provider is named, and not used.
        kubectl
            .apply(
                "apiVersion: v1
kind: Secret
metadata: {name: acme-stripe}
stringData: {secret-key: sk_live_mistake, webhook-signing-secret: whsec_acme}
",
            )
            .await?;
        let provider = harness::wait::until("the wrong mode to be noticed", async || {
            let provider = platform.objects.get("paymentprovider/acme-stripe").await?;
            Ok(provider["status"]["conditions"].to_string().contains("ModeMismatch").then_some(provider))
        })
        .await?;
        ensure!(!provider.to_string().contains("sk_live_mistake"), "no status repeats a key: {provider}");
        alice.pays(10, "EUR").await?;

        kubectl.patch("secret/acme-stripe", r#"{"stringData":{"secret-key":"sk_test_acme"}}"#).await?;
        platform.objects.until("paymentprovider/acme-stripe", "Ready", "True").await?;
        platform.objects.until("tenant/acme", "Ready", "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hostname_that_is_taken_stays_with_the_older_tenant() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        acme.user("alice").registers().await?;
        let kubectl = platform.kubectl()?;
        kubectl
            .apply(&format!(
                "apiVersion: tenantry.dev/v1alpha1
kind: Tenant
metadata: {{name: usurper}}
spec: {{hostnames: [{}]}}
",
                acme.hostname
            ))
            .await?;
        let loser = platform.objects.until("tenant/usurper", "Accepted", "False").await?;
        let said = loser["status"]["conditions"].to_string();
        ensure!(said.contains("Conflicted") && said.contains("acme"), "the winner is named: {said}");
        acme.user("alice").logs_in().await?;

        // When the holder goes, the other takes over by itself.
        kubectl.run("delete tenant acme").await?;
        platform.objects.until("tenant/usurper", "Accepted", "True").await?;
        platform.objects.until("tenant/usurper", "Programmed", "True").await?;
        acme.is_routed().await?;
        acme.user("alice").tries_to_log_in("Any-password-1").await?.expect(StatusCode::UNAUTHORIZED)?;
        Ok(())
    })
    .await
}

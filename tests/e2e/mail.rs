//! A platform engineer names a mail server, and people get in and back in by what is mailed to them.

use anyhow::{Context, Result, ensure};
use harness::{
    Platform, Tenant,
    objects::secret,
    platform::PLATFORM,
    smtp::{self, token},
};
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn people_get_in_and_back_in_by_what_is_mailed_to_them() -> Result<()> {
    Platform::run(async |platform| {
        let mut server = platform.start_mail_server().await?;
        let keys = [("username", smtp::USERNAME), ("password", smtp::PASSWORD), ("ca", &server.ca)];
        platform.objects.apply(&secret("main-smtp", &keys)).await?;
        let mut manifest = platform.manifest(2);
        manifest["spec"]["mail"] = json!({"smtp": {
            "host": "localhost", "port": server.port, "from": "Platform <no-reply@platform.example>",
            "secretRef": {"name": "main-smtp"},
        }});
        let kubectl = platform.kubectl()?;
        kubectl.apply(&manifest.to_string()).await?;
        let object = format!("platform/{PLATFORM}");
        platform.objects.until(&object, "Ready", "True").await?;
        let applied = platform.objects.until(&object, "Degraded", "False").await?;
        ensure!(!applied.to_string().contains("no mail is sent"), "{applied}");

        let hostname = format!("acme.{}.localhost", platform.namespace);
        let tenant = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"},
            "spec": {
                "platformRef": {"name": PLATFORM}, "hostnames": [hostname],
                "auth": {"emailVerification": "Required"},
                "branding": {"productName": "Acme Pay", "frontendUrl": "https://app.acme.example"},
            },
        });
        kubectl.apply(&tenant.to_string()).await?;
        platform.objects.until("tenant/acme", "Ready", "True").await?;
        let acme = Tenant::at(platform.ingress.address, "acme", &hostname)?;
        acme.is_routed().await?;

        // Nobody is let in before the address is shown to be theirs.
        let ada = acme.user("ada");
        let body = json!({"email": ada.email, "password": ada.password, "name": "Ada Lovelace"});
        let registered = acme.post("/auth/register", &body).await?.expect(StatusCode::CREATED)?;
        ensure!(registered.data()["verificationRequired"] == true, "{registered}");
        let refused = ada.tries_to_log_in(&ada.password).await?.expect(StatusCode::FORBIDDEN)?;
        ensure!(refused.code() == "EMAIL_NOT_VERIFIED", "{refused}");
        let mail = server.mail(&ada.email, "Verify your e-mail address for Acme Pay").await?;
        ensure!(mail["tls"] == true && mail["user"] == smtp::USERNAME, "{mail}");
        ensure!(mail["headers"]["From"] == "Acme Pay <no-reply@platform.example>", "{mail}");
        ensure!(
            mail["text"].as_str().is_some_and(|text| text.contains("https://app.acme.example/verify-email?token="))
        );
        acme.post("/auth/verify-email", &json!({"token": token(&mail)?})).await?.expect(StatusCode::OK)?;
        ada.logs_in().await?;
        server.mail(&ada.email, "Welcome to Acme Pay").await?;

        // What is asked for while the server is away arrives when it is back, and once.
        server.stop().await?;
        acme.post("/auth/forgot-password", &json!({"email": ada.email})).await?.expect(StatusCode::OK)?;
        server.run().await?;
        let mail = server.mail(&ada.email, "Reset your Acme Pay password").await?;
        let reset = json!({"token": token(&mail)?, "password": "Another-horse-8"});
        acme.post("/auth/reset-password", &reset).await?.expect(StatusCode::OK)?;
        ada.me().await?.expect(StatusCode::UNAUTHORIZED)?;
        ada.tries_to_log_in(&ada.password).await?.expect(StatusCode::UNAUTHORIZED)?;
        ada.tries_to_log_in("Another-horse-8").await?.expect(StatusCode::OK)?;
        server.mail(&ada.email, "Your Acme Pay password was changed").await?;

        let took = server.took()?;
        let mut ids: Vec<_> = took.iter().filter_map(|mail| mail["headers"]["Message-ID"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ensure!(ids.len() == took.len() && took.len() == 4, "each mail once: {took:?}");
        server.stop().await.context("the mail server does not stop")
    })
    .await
}

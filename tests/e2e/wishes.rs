//! What a Platform may have and may do without comes when it is wished for, and goes when it is not.

use anyhow::{Result, ensure};
use harness::{Kubectl, Platform, wait};
use http::StatusCode;
use serde_json::json;

async fn until_gone(kubectl: &Kubectl, object: &str) -> Result<()> {
    wait::until(&format!("{object} to go"), async || {
        let found = kubectl.attempt(&["get", object, "-o", "name"], "").await?;
        Ok((!found.success && found.stderr.contains("NotFound")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_ingress_goes_and_comes_with_the_wish_for_it() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let (kubectl, objects) = (platform.kubectl()?, &platform.objects);
        let url = async |wanted: &str| {
            wait::until_value(
                "the URL",
                async || kubectl.value("platform/main", "{.status.url}").await,
                |url| url == wanted,
            )
            .await
        };
        url(&format!("http://{}", acme.hostname)).await?;

        objects.merge("platform/main", &json!({"spec": {"ingress": null}})).await?;
        until_gone(&kubectl, "ingress/main-api").await?;
        url(&format!("http://main-api.{}.svc", platform.namespace)).await?;
        wait::until("nobody to be let in any more", async || {
            Ok((acme.get("//health").await?.status == StatusCode::NOT_FOUND).then_some(()))
        })
        .await?;

        // Somebody else's object of that name is not ours to remove.
        let foreign = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "main-api"},
            "spec": {"defaultBackend": {"service": {"name": "another", "port": {"number": 80}}}},
        });
        objects.apply(&foreign).await?;
        objects.merge("platform/main", &json!({"spec": {"replicas": 1}})).await?;
        objects.until("platform/main", "Ready", "True").await?;
        ensure!(kubectl.value("ingress/main-api", "{.spec.defaultBackend.service.name}").await? == "another");
        kubectl.run("delete ingress main-api").await?;

        objects.merge("platform/main", &json!({"spec": {"ingress": {}}})).await?;
        acme.is_routed().await
    })
    .await
}

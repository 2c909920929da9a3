//! A platform engineer gives a role and takes it back.

use anyhow::{Result, ensure};
use harness::Platform;
use http::StatusCode;

const SUPPORT: &str = "apiVersion: tenantry.dev/v1alpha1
kind: RoleBinding
metadata: {name: acme-support}
spec:
  tenantRef: {name: acme}
  roleRef: {name: support}
  subjects: [{kind: User, name: alice@acme.example}]
";

#[tokio::test]
async fn a_revoked_role_is_refused_at_the_next_request() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let (alice, bob) = (acme.user("alice"), acme.user("bob"));
        alice.registers().await?;
        bob.registers().await?;
        let refused = alice.get("/admin/users").await?.expect(StatusCode::FORBIDDEN)?;
        ensure!(refused.code() == "FORBIDDEN", "{refused}");

        let kubectl = platform.kubectl()?;
        kubectl.apply(SUPPORT).await?;
        platform.objects.until("rolebinding/acme-support", "Ready", "True").await?;
        let users = alice.get("/admin/users").await?.expect(StatusCode::OK)?;
        ensure!(users.text.contains(&bob.email), "{users}");
        bob.get("/admin/users").await?.expect(StatusCode::FORBIDDEN)?;

        let before = kubectl.value("tenant/acme", "{.status.config.revision}").await?;
        kubectl.run("delete rolebindings.tenantry.dev acme-support").await?;
        harness::wait::until("every replica to have heard of it", async || {
            let tenant = platform.objects.get("tenant/acme").await?;
            let programmed =
                tenant["status"]["conditions"].to_string().contains(r#""status":"True","type":"Programmed""#);
            Ok((programmed && tenant["status"]["config"]["revision"] != before).then_some(()))
        })
        .await?;
        // The same access token as before: rights are looked up, not carried.
        alice.get("/admin/users").await?.expect(StatusCode::FORBIDDEN)?;
        alice.me().await?.expect(StatusCode::OK)?;
        Ok(())
    })
    .await
}

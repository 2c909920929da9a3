//! The API as its callers have it: axios with interceptors, open sockets, a browser, somebody who sends everything that the document
//! allows and what it forbids, and a provider of identity that others have certified.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{Platform, Tenant, node_js, objects::secret, process::find_program, python, workdir::Workdir};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Where the provider sends people back to: a page of the tenant's frontend.
const BACK: &str = "https://shop.acme.example/signed-in";

/// Left out where one session is to last: ids of answers come back in later requests, one's own among them.
const ENDS_THE_SESSION: [&str; 6] =
    ["logout", "end_session", "delete_user", "admin_delete_user", "admin_update_user", "admin_remove_factors"];

#[tokio::test]
async fn axios_with_interceptors_stays_signed_in_and_signs_out() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let base = format!("http://{}", platform.ingress.address);
        let said = node_js::script("frontend.mjs", &[&base, &acme.hostname, "ada@acme.example"]).await?;
        ensure!(said.trim() == r#"{"refreshes":1,"signedOut":1}"#, "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn open_sockets_end_with_their_session_and_come_back_after_a_restart() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let base = format!("http://{}", platform.ingress.address);
        let home = node_js::clients().await?;
        let arguments = [&*base, &acme.hostname, "ada@acme.example"];
        let mut process = node_js::command(&home, "sockets.mjs", &arguments)?.stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
        let mut line = async || -> Result<String> {
            let line = timeout(Duration::from_mins(2), said.next_line()).await??;
            line.context("the client failed: its complaint is above")
        };
        let open = line().await?;
        ensure!(open == "open", "{open}");
        let kubectl = platform.kubectl()?;
        let deployments = kubectl.run("get deployments -l tenantry.dev/platform=main -o name").await?;
        let deployment = deployments.lines().next().context("there is no Deployment")?;
        kubectl.run(&format!("rollout restart {deployment}")).await?;
        let seen: Value = serde_json::from_str(&line().await?)?;
        ensure!(seen["ended"] == 4 && seen["cameBack"] == 4, "{seen}");
        eprintln!("sockets: {seen}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_reference_page_signs_in_and_calls_a_protected_route_in_a_browser() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        let chromium = find_program("chromium", &[]).context("no `chromium`: apt-get install chromium")?;
        let base = format!("http://{}", platform.ingress.address);
        let arguments = [&*chromium.display().to_string(), &base, &acme.hostname, &alice.email, &alice.password];
        let seen: Value = serde_json::from_str(&node_js::script("docs.mjs", &arguments).await?)?;
        ensure!(
            seen["status"] == "200" && seen["body"].as_str().is_some_and(|body| body.contains(&alice.email)),
            "{seen}"
        );
        ensure!(seen["faults"] == json!([]), "the page has no fault: {seen}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whatever_is_sent_the_answer_is_one_that_the_document_names() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let alice = acme.user("alice");
        alice.registers().await?;
        // Who may do everything gets past every door, so that what is behind them is tried too.
        let everything = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "RoleBinding", "metadata": {"name": "everything"},
            "spec": {
                "tenantRef": {"name": "acme"}, "roleRef": {"name": "ADMIN"},
                "subjects": [{"kind": "User", "name": alice.email}],
            },
        });
        platform.objects.apply(&everything).await?;
        platform.objects.until("rolebinding/everything", "Ready", "True").await?;
        let python = python::with(&["schemathesis==4.32.5"]).await?;
        let program = python.parent().context("an interpreter has a folder")?.join("schemathesis");
        let document = format!("http://{}/openapi.json", platform.ingress.address);
        let folder = Workdir::temporary()?;
        let output = Command::new(program)
            .current_dir(folder.path())
            .args(["run", &document, "--no-color", "--seed", "7", "--max-examples", "8", "--workers", "1"])
            .args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "30"])
            .args([
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            ])
            // A made-up key beside a good token would be refused everywhere.
            .args(["--generation-with-security-parameters", "false"])
            .args(ENDS_THE_SESSION.iter().flat_map(|operation| ["--exclude-operation-id", operation]))
            .args(["--header", &format!("Host: {}", acme.hostname)])
            .args(["--header", &format!("Authorization: Bearer {}", alice.tokens().access)])
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        // So it was heard as somebody to the end.
        alice.me().await?.expect(StatusCode::OK)?;
        Ok(())
    })
    .await
}

/// A certified provider, running.
struct IdentityProvider {
    issuer: String,
    // What it says later must have somewhere to go.
    _said: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl IdentityProvider {
    async fn start() -> Result<Self> {
        let home = node_js::clients().await?;
        let mut process = node_js::command(&home, "identity-provider.mjs", &[BACK])?.stdout(Stdio::piped()).spawn()?;
        let said = process.stdout.take().context("its output is piped")?;
        let mut said = BufReader::new(said).lines();
        let line = timeout(Duration::from_mins(1), said.next_line()).await??;
        Ok(Self { issuer: line.context("the provider ended before it listened")?, _said: said, _process: process })
    }
}

#[tokio::test]
async fn a_platform_engineer_names_a_provider_and_its_people_sign_in() -> Result<()> {
    Platform::run(async |platform| {
        let acme = platform.tenant("acme").await?;
        let corp = IdentityProvider::start().await?;
        let kubectl = platform.kubectl()?;
        let named = format!(
            "apiVersion: tenantry.dev/v1alpha1
kind: Tenant
metadata: {{name: acme}}
spec:
  platformRef: {{name: main}}
  hostnames: [{}]
  branding: {{frontendUrl: https://shop.acme.example}}
  auth:
    identityProviders:
      - name: corp
        displayName: Corp
        issuer: {}
        clientId: acme
        clientSecretRef: {{name: acme-corp, key: client-secret}}
",
            acme.hostname, corp.issuer
        );
        kubectl.apply(&named).await?;
        // The Secret is missing yet: said by name, and everything else is served.
        let waits = platform.objects.until("tenant/acme", "ResolvedRefs", "False").await?;
        ensure!(waits["status"]["conditions"].to_string().contains("acme-corp"), "{}", waits["status"]);
        platform.objects.apply(&secret("acme-corp", &[("client-secret", "acme secret: with + signs")])).await?;
        harness::wait::until("the tenant to offer the provider", async || {
            let offered = acme.get("/auth/providers").await?;
            Ok((offered.data() == &json!([{"name": "corp", "displayName": "Corp"}])).then_some(()))
        })
        .await?;

        let first = signs_in(&acme, "grace").await?;
        ensure!(first["user"]["email"] == "grace@corp.example" && first["user"]["name"] == "Grace Hopper", "{first}");
        let again = signs_in(&acme, "grace").await?;
        ensure!(again["user"]["id"] == first["user"]["id"], "{first} {again}");
        let token = again["accessToken"].as_str().context("an access token")?;
        let me = acme.request(Method::GET, "/auth/me").bearer_auth(token).send().await?;
        ensure!(me.status() == StatusCode::OK, "{}", me.status());

        // The client secret is in no object that others read.
        let document = kubectl.run("get configmaps --output yaml").await?;
        ensure!(!document.contains("with + signs"), "the secret is sealed in the document");
        Ok(())
    })
    .await
}

/// Signs in as a page of the frontend does it: begin, go to the provider, come back, finish.
async fn signs_in(acme: &Tenant, account: &str) -> Result<Value> {
    let begun = acme.post("/auth/providers/corp", &json!({"redirectUri": BACK})).await?.expect(StatusCode::OK)?;
    let url = begun.data()["authorizationUrl"].as_str().context("where to go")?.to_owned();
    let back = node_js::script("sign-in.mjs", &[&url, account, BACK]).await?;
    let mut body = json!({"flow": begun.data()["flow"]});
    for (name, value) in url::Url::parse(back.trim())?.query_pairs() {
        body[&*name] = json!(value);
    }
    let finished = acme.post("/auth/callback", &body).await?.expect(StatusCode::OK)?;
    Ok(finished.data().clone())
}

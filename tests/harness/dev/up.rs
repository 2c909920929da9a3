//! `cargo dev up`: the whole platform in one terminal.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use harness::{
    Platform, Tenant, User,
    binaries::repository,
    objects::{documents, secret},
    platform::{Options, PLATFORM},
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::setup;

const TENANT: &str = "acme";
const HOSTNAME: &str = "acme.localhost";
const STRIPE: &str = "acme-stripe";
/// Of the payment provider on this machine; no Stripe would take them.
const SECRET_KEY: &str = "sk_test_of_this_machine";
const SIGNING_SECRET: &str = "whsec_of_this_machine";

/// Run the whole platform on this machine: no cluster, no containers.
///
/// Installs PostgreSQL and Redis with apt-get where they are missing (as root; else names the command), builds, starts
/// private instances on free ports with their data under ./.dev, a Kubernetes API (real etcd and kube-apiserver where
/// KUBEBUILDER_ASSETS has them, else a stand-in), the operator, and the API's pods as local processes behind a local
/// ingress. Applies manifests/examples with a payment provider that lives on this machine, so that paying works offline.
/// Ctrl-C stops everything. A second start finds its data, your changes to objects included; `--fresh` forgets them.
#[derive(Args)]
pub struct Up {
    /// Pods of the API. [default at the first start: 2]
    #[arg(long)]
    replicas: Option<u32>,
    /// Port of the ingress; 0 takes a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Begin anew: forget the data of earlier starts.
    #[arg(long)]
    fresh: bool,
    /// Where data, logs and the kubeconfig are kept. [default: .dev of the checkout]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also a Prometheus that scrapes the API's pods and the operator, for rollouts that are analysed.
    #[arg(long)]
    prometheus: bool,
    /// Use the cluster of this kubeconfig context in place of a private Kubernetes API.
    #[arg(long, value_name = "CONTEXT")]
    cluster: Option<String>,
}

impl Up {
    pub async fn run(self) -> Result<()> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut asked_to_stop = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        // Dropping a half-started platform kills what runs of it.
        let platform = tokio::select! {
            started = self.start() => started?,
            () = asked_to_stop() => return Ok(()),
        };
        asked_to_stop().await;
        println!("\nStopping. The data stays in {}.", self.folder().display());
        tokio::select! {
            stopped = platform.stop() => stopped,
            () = asked_to_stop() => Ok(()), // impatient: everything is killed on the way out
        }
    }

    fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| repository().join(".dev"))
    }

    async fn start(&self) -> Result<Platform> {
        setup::ensure(&[setup::POSTGRES, setup::REDIS, setup::NAMES]).await?;
        setup::wish(setup::KUBECTL).await;
        if self.prometheus {
            setup::ensure(&[setup::PROMETHEUS]).await?;
        }
        if self.fresh && self.folder().exists() {
            fs::remove_dir_all(self.folder()).with_context(|| format!("cannot remove {}", self.folder().display()))?;
        }
        println!("Building the operator and the API server …");
        let mut platform = Platform::bare(Options {
            data: Some(self.folder()),
            namespace: Some("tenantry".into()),
            cluster: self.cluster.clone(),
            ingress_port: self.port,
            readable_logs: true,
            progress: Some(|step| println!("  {step}")),
            ..Options::default()
        })
        .await?;
        platform.provider.accept_key(SECRET_KEY, None);
        self.apply_examples(&platform).await?;
        let tenant = until_ready(&platform).await?;
        let users = [tenant.user("alice"), tenant.user("bob")];
        for user in &users {
            welcome(user).await?;
        }
        if self.prometheus {
            platform.start_prometheus().await?;
        }
        explain(&platform, &users);
        Ok(platform)
    }

    /// Only what isn't there yet: a person's changes survive a restart. What belongs to this machine is always written.
    async fn apply_examples(&self, platform: &Platform) -> Result<()> {
        let keys = [("secret-key", SECRET_KEY), ("webhook-signing-secret", SIGNING_SECRET)];
        platform.objects.apply(&secret(STRIPE, &keys)).await?;
        let folder = repository().join("manifests/examples");
        let mut files: Vec<_> =
            fs::read_dir(&folder).context("no examples")?.flatten().map(|file| file.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            for mut object in documents(&fs::read_to_string(file)?)? {
                let (kind, name) = (object["kind"].clone(), object["metadata"]["name"].clone());
                let (Some(kind), Some(name)) = (kind.as_str(), name.as_str()) else { continue };
                // Theirs are examples; ours work on this machine and are there already.
                if kind == "Secret" || kind == "Kustomization" {
                    continue;
                }
                let reference = format!("{kind}/{name}");
                let machine = self.of_this_machine(platform, kind);
                if platform.objects.get(&reference).await.is_ok() {
                    if let Some(spec) = machine {
                        platform.objects.merge(&reference, &json!({"spec": spec})).await?;
                    }
                } else {
                    for (field, value) in machine.iter().filter_map(Value::as_object).flatten() {
                        object["spec"][field] = value.clone();
                    }
                    platform.objects.apply(&object).await?;
                    println!("  applied {reference}");
                }
            }
        }
        Ok(())
    }

    fn of_this_machine(&self, platform: &Platform, kind: &str) -> Option<Value> {
        match kind {
            "PaymentProvider" => Some(json!({"apiBaseUrl": platform.provider.url})),
            "Platform" => self.replicas.map(|replicas| json!({"replicas": replicas})),
            _ => None,
        }
    }
}

/// The last words of a successful start.
fn explain(platform: &Platform, users: &[User; 2]) {
    let [alice, bob] = users;
    let base = format!("http://{HOSTNAME}:{}", platform.ingress.address.port());
    let kubeconfig = platform.control_plane.kubeconfig.display();
    let logs = platform.pod_logs();
    let prometheus = match &platform.prometheus {
        Some(prometheus) => format!("\n  prometheus {}", prometheus.url),
        None => String::new(),
    };
    println!(
        r#"
Tenantry is up.
  tenant     {base}            (as people and frontends reach it, through the ingress)
  docs       {base}/docs
  kubeconfig {kubeconfig}
  logs       {logs}{prometheus}
  users      {alice_email}  {alice_password}
             {bob_email}    {bob_password}

Try, in another terminal:
  export KUBECONFIG={kubeconfig}

1. Change a limit and watch it arrive, without a restart:
  kubectl patch ratelimitpolicy acme-limits --type=merge -p '{{"spec":{{"limits":{{"payments":{{"rates":[{{"limit":50,"window":"1m"}}]}}}}}}}}'
  kubectl wait --for=condition=Programmed ratelimitpolicy/acme-limits && kubectl get tenant acme -o wide

2. Log in and pay:
  TOKEN=$(curl -s {base}/api/v1/auth/login -H 'content-type: application/json' \
    -d '{{"email":"{alice_email}","password":"{alice_password}"}}' | sed 's/.*"accessToken":"\([^"]*\)".*/\1/')
  curl -si {base}/api/v1/payments -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \
    -d '{{"amount":10,"currency":"EUR","type":"payment"}}'
  (open the checkoutUrl to pay it, then GET /api/v1/payments shows it completed)

3. Read what the API can do: open {base}/docs

Ctrl-C stops everything; the data stays."#,
        alice_email = alice.email,
        alice_password = alice.password,
        bob_email = bob.email,
        bob_password = bob.password,
        logs = logs.display(),
    );
}

/// Platform, tenant and payments, with a word when each arrives; the payment provider learns where to send its events.
async fn until_ready(platform: &Platform) -> Result<Tenant> {
    let mut provider = Value::Null;
    for object in [format!("platform/{PLATFORM}"), format!("tenant/{TENANT}"), format!("paymentprovider/{STRIPE}")] {
        println!("  waiting for {object} …");
        match platform.objects.until(&object, "Ready", "True").await {
            Ok(ready) => provider = ready,
            Err(error) => return Err(platform.explain(error).await),
        }
    }
    let tenant = Tenant::at(platform.ingress.address, TENANT, HOSTNAME)?;
    tenant.is_routed().await?;
    platform.provider.accept_key(SECRET_KEY, Some(tenant.webhook_endpoint(&provider, SIGNING_SECRET)?));
    Ok(tenant)
}

/// Registers, or finds the account of an earlier start.
async fn welcome(user: &User) -> Result<()> {
    let known = user.tries_to_log_in(&user.password).await?;
    if known.status == StatusCode::OK {
        return Ok(());
    }
    user.registers().await.with_context(|| format!("{} cannot register", user.email))
}

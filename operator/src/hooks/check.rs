//! `helm test`: proves that the operator is ready, that the kinds are served, and that the API server takes a good Tenant
//! and refuses a bad one. Nothing stays behind: both are dry runs.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use contract::version;
use crds::Tenant;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
};

use super::{PAUSE, Patience};

/// One answer may take this long.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Base URL of the operator's Service, such as `http://tenantry-operator-metrics:8081`.
    #[arg(long)]
    pub url: String,

    #[command(flatten)]
    pub patience: Patience,
}

impl Check {
    /// What was found to be well, a sentence each; the first thing that is not is an error.
    pub async fn run(&self, client: Client, namespace: &str) -> Result<Vec<String>> {
        Ok(vec![
            self.operator_is_ready().await?,
            kinds_are_served(&client, namespace).await?,
            tenants_are_judged(&client, namespace).await?,
        ])
    }

    async fn operator_is_ready(&self) -> Result<String> {
        let http = reqwest::Client::builder().timeout(ANSWER).no_proxy().build()?;
        let url = format!("{}/readyz", self.url);
        let deadline = self.patience.deadline();
        loop {
            let seen = match http.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default().trim()),
                Err(error) => format!("{:#}", anyhow::Error::new(error)),
            };
            if tokio::time::Instant::now() >= deadline {
                bail!("the operator is not ready at {url}: {seen}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        let metrics = http.get(format!("{}/metrics", self.url)).send().await?.error_for_status()?.text().await?;
        let build = format!("tenantry_operator_build_info{{version=\"{}\"", version::VERSION);
        ensure!(metrics.contains(&build), "the operator that answers at {} is not {}", self.url, version::VERSION);
        Ok(format!("the operator is ready, and is version {}", version::VERSION))
    }
}

async fn kinds_are_served(client: &Client, namespace: &str) -> Result<String> {
    let mut kinds = Vec::new();
    for crd in crds::all_crds() {
        let names = crd.spec.names;
        let version =
            crd.spec.versions.into_iter().find(|version| version.storage).context("a CRD stores a version")?;
        let kind = GroupVersionKind::gvk(&crd.spec.group, &version.name, &names.kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, &names.plural));
        api.list(&ListParams::default().limit(1)).await.with_context(|| format!("{} is not served", names.kind))?;
        kinds.push(names.kind);
    }
    Ok(format!("{} are served", kinds.join(", ")))
}

async fn tenants_are_judged(client: &Client, namespace: &str) -> Result<String> {
    let api: Api<Tenant> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut tenant = Tenant::new_minimal("helm-test", "helm-test.example");
    api.create(&dry_run, &tenant).await.context("a Tenant that is well is refused")?;
    tenant.spec.hostnames = vec!["not a hostname".into()];
    match api.create(&dry_run, &tenant).await {
        Err(kube::Error::Api(status)) if status.is_invalid() => {
            Ok("a Tenant that is well is accepted, and one with a wrong hostname is refused".into())
        }
        Err(error) => Err(error).context("a Tenant with a wrong hostname is refused, but not for its hostname"),
        Ok(_) => bail!("a Tenant with a wrong hostname is accepted: the CRDs are not those of this version"),
    }
}

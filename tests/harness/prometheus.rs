//! A Prometheus for one world, Debian's own: it asks each of the API's pods every second, as a PodMonitor would have it, with the
//! colour and the release of each as labels; the operators too. Debian builds it without Kubernetes discovery, so a watch writes
//! down for it what is there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use contract::names::{API_NAME, LABEL_NAME, PORT_MANAGEMENT};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::{
    node::endpoints,
    operator::Operator,
    process::{Launch, Process, Signal, find_program, free_port},
    wait,
};

/// Label of a pod → label of its metrics.
const POD_LABELS: [(&str, &str); 3] =
    [("tenantry.dev/platform", "platform"), ("tenantry.dev/color", "color"), ("tenantry.dev/release", "release")];

#[derive(Debug)]
pub struct Prometheus {
    pub url: Url,
    client: reqwest::Client,
    operators: PathBuf,
    process: Process,
    _discovery: AbortOnDropHandle<()>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Value,
    #[serde(default)]
    error: String,
}

impl Prometheus {
    pub async fn start(folder: &Path, kubernetes: &Client, namespace: &str, operators: &[Operator]) -> Result<Self> {
        let program = program().context("no `prometheus` on this machine: apt-get install prometheus")?;
        fs::create_dir_all(folder)?;
        let (settings, pods, targets) =
            (folder.join("prometheus.json"), folder.join("pods.json"), folder.join("operators.json"));
        fs::write(&settings, configuration(&pods, &targets).to_string())?; // JSON is YAML
        write_operators(&targets, operators)?;
        write(&pods, &[])?;
        let discovery = tokio::spawn(discover(Api::namespaced(kubernetes.clone(), namespace), pods));
        let port = free_port()?;
        let mut process = Launch::new("prometheus", program, folder.join("prometheus.log"))
            .args([format!("--config.file={}", settings.display())])
            .args([format!("--storage.tsdb.path={}", folder.join("data").display())])
            .args([format!("--web.listen-address=127.0.0.1:{port}")])
            .args(["--log.level=warn", "--query.lookback-delta=10s"])
            .start()
            .await?;
        let url = Url::parse(&format!("http://127.0.0.1:{port}"))?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        wait::until("Prometheus to be ready", async || {
            process.check_alive()?;
            let ready = client.get(url.join("/-/ready")?).send().await;
            Ok(ready.ok().filter(|answer| answer.status().is_success()))
        })
        .await?;
        Ok(Self { url, client, operators: targets, process, _discovery: AbortOnDropHandle::new(discovery) })
    }

    /// Who is to be asked from now on.
    pub fn scrape(&self, operators: &[Operator]) -> Result<()> {
        write_operators(&self.operators, operators)
    }

    /// The numbers that an instant query yields; none where there are no series.
    pub async fn query(&self, query: &str) -> Result<Vec<f64>> {
        let url = Url::parse_with_params(self.url.join("/api/v1/query")?.as_str(), [("query", query)])?;
        let answer: Answer = self.client.get(url).send().await?.json().await?;
        if !answer.error.is_empty() {
            bail!("{query}: {}", answer.error);
        }
        let series = answer.data["result"].as_array().cloned().unwrap_or_default();
        series.iter().map(|one| Ok(one["value"][1].as_str().context("no value")?.parse()?)).collect()
    }

    /// It answers nobody, and is not gone: as a network that lost it.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    pub async fn stop(mut self) -> Result<()> {
        self.thaw();
        self.process.stop(Signal::TERM, Duration::from_secs(10)).await?;
        Ok(())
    }
}

pub fn program() -> Option<PathBuf> {
    find_program("prometheus", &[])
}

fn write_operators(path: &Path, operators: &[Operator]) -> Result<()> {
    let targets: Vec<_> = operators.iter().map(|operator| operator.url.trim_start_matches("http://")).collect();
    write(path, &[json!({ "targets": targets })])
}

/// In one step: Prometheus reads it when it changes.
fn write(path: &Path, groups: &[Value]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_string(groups)?)?;
    Ok(fs::rename(new, path)?)
}

/// Follows the pods of the API.
async fn discover(pods: Api<Pod>, path: PathBuf) {
    let (reader, writer) = reflector::store();
    let ours = watcher::Config::default().labels(&format!("{LABEL_NAME}={API_NAME}"));
    let events = reflector(writer, watcher(pods, ours)).default_backoff();
    events
        .for_each(async |_| {
            let groups: Vec<_> = reader.state().iter().filter_map(|pod| target(pod)).collect();
            if let Err(error) = write(&path, &groups) {
                tracing::warn!("Prometheus is not told of the pods: {error:#}");
            }
        })
        .await;
}

fn target(pod: &Pod) -> Option<Value> {
    let status = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Running"))?;
    let (address, port) = (status.pod_ip.as_ref()?, endpoints::named_port(pod, PORT_MANAGEMENT)?);
    let mut labels = json!({"namespace": pod.namespace(), "pod": pod.name_any()});
    for (label, name) in POD_LABELS {
        labels[name] = json!(pod.labels().get(label).cloned().unwrap_or_default());
    }
    Some(json!({"targets": [format!("{address}:{port}")], "labels": labels}))
}

fn configuration(pods: &Path, operators: &Path) -> Value {
    let job = |name: &str, file: &Path| json!({"job_name": name, "file_sd_configs": [{"files": [file], "refresh_interval": "1s"}]});
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [job("tenantry-api", pods), job("tenantry-operator", operators)],
    })
}

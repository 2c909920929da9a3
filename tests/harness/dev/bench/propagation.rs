//! How fast a change arrives: from just before `apply` until every replica of the API serves it.
//!
//! A policy's limit goes to and fro between two values, so the two revisions are known beforehand and each replica can be
//! asked, as the operator asks it, to answer in the moment that it serves the wanted one. Nobody polls.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contract::names;
use crds::{RateLimitPolicy, Tenant};
use futures::{StreamExt, future::try_join_all};
use harness::{Platform, platform::PLATFORM, scale::is_programmed, wait};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Amounts, figures::Sample};

const NAME: &str = "bench";
const LIMITS: [u32; 2] = [1000, 2000];
const WARM_UP: usize = 10;
/// Between two changes, so that each meets an idle platform.
const PAUSE: Duration = Duration::from_millis(20);

pub async fn run(amounts: &Amounts) -> Result<()> {
    let platform = Platform::with_replicas(amounts.replicas).await?;
    let arrivals = match changes(&platform, amounts).await {
        Ok(arrivals) => arrivals,
        Err(error) => return Err(platform.explain(error).await),
    };
    println!(
        "\nFrom apply to effective: {} changes of a RateLimitPolicy, {} replicas, one at a time, in ms",
        arrivals.len(),
        amounts.replicas
    );
    println!("{:44}{:>8}{:>8}{:>8}", "", "p50", "p99", "max");
    let row = |what, of: fn(&Arrival) -> Duration| {
        let sample: Sample = arrivals.iter().map(|arrival| of(arrival).as_secs_f64() * 1e3).collect();
        println!("{what:44}{:>8.1}{:>8.1}{:>8.1}", sample.percentile(50), sample.percentile(99), sample.max());
    };
    row("apply answered", |arrival| arrival.applied);
    row("the operator's document seen by a watch", |arrival| arrival.written);
    row("effective on every replica", |arrival| arrival.effective);
    row("Programmed with its revision in the status", |arrival| arrival.programmed);
    println!(
        "  Kubernetes API: {}.\n  Loopback; operator, replicas, control plane and this program share the machine's cores.",
        platform.control_plane
    );
    platform.stop().await
}

/// After the moment just before the apply.
struct Arrival {
    applied: Duration,
    written: Duration,
    effective: Duration,
    programmed: Duration,
}

async fn changes(platform: &Platform, amounts: &Amounts) -> Result<Vec<Arrival>> {
    let world = World::prepare(platform, amounts.replicas).await?;
    let mut revisions = Vec::new();
    for limit in LIMITS {
        world.policies.patch(NAME, &apply(), &Patch::Apply(policy(limit))).await?;
        platform.objects.until(&format!("ratelimitpolicy/{NAME}"), "Programmed", "True").await?;
        let tenant = platform.objects.get(&format!("tenant/{NAME}")).await?;
        revisions.push(tenant["status"]["config"]["revision"].as_str().context("no revision")?.to_owned());
    }
    ensure!(revisions[0] != revisions[1], "a changed limit left the revision as it was");

    let mut arrivals = Vec::new();
    for turn in 0..WARM_UP + amounts.changes.unwrap_or(200) {
        sleep(PAUSE).await;
        let arrival = world.change(LIMITS[turn % 2], &revisions[turn % 2]);
        let arrival = timeout(wait::limit(), arrival).await.context("a change does not arrive")?;
        arrivals.push(arrival.with_context(|| format!("change {turn}"))?);
    }
    Ok(arrivals.split_off(WARM_UP))
}

struct World {
    client: reqwest::Client,
    /// `/internal/config/<tenant>` of every replica.
    replicas: Vec<String>,
    policies: Api<RateLimitPolicy>,
    tenant: Followed<Tenant>,
    document: Followed<ConfigMap>,
}

impl World {
    async fn prepare(platform: &Platform, replicas: u32) -> Result<Self> {
        let (client, namespace) = (platform.control_plane.client.clone(), platform.namespace.as_str());
        let spec = json!({"platformRef": {"name": PLATFORM}, "hostnames": ["bench.localhost"]});
        platform.objects.apply(&object("Tenant", &spec)).await?;
        platform.objects.until(&format!("tenant/{NAME}"), "Programmed", "True").await?;
        let ours = ListParams::default().labels(&format!("{}={PLATFORM}", names::LABEL_PLATFORM));
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pods = pods.list(&ours).await?.items.into_iter().filter_map(|pod| {
            let status = pod.status?;
            // A migration's pod is done, and listens nowhere.
            (status.phase? == "Running").then_some(status.pod_ip?)
        });
        let pods: Vec<_> = pods.map(|ip| format!("http://{ip}:9090/internal/config/{NAME}")).collect();
        ensure!(pods.len() == replicas as usize, "{} pods run instead of {replicas}", pods.len());
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            replicas: pods,
            policies: Api::namespaced(client.clone(), namespace),
            tenant: Followed::new(Api::namespaced(client.clone(), namespace), NAME),
            document: Followed::new(Api::namespaced(client, namespace), &names::config_map(NAME)),
        })
    }

    async fn change(&self, limit: u32, revision: &str) -> Result<Arrival> {
        let (client, policies) = (&self.client, &self.policies);
        let effective = try_join_all(self.replicas.iter().map(|url| async move {
            let answer = client.get(format!("{url}?revision={revision}&waitSeconds=30")).send().await?;
            let arrived = Instant::now();
            let answer: Value = answer.error_for_status()?.json().await?;
            ensure!(answer["revision"] == revision, "{url} answers {answer} and not {revision}");
            Ok(arrived)
        }));
        let written =
            self.document.until(|d| d.annotations().get(names::ANNOTATION_REVISION).is_some_and(|r| r == revision));
        let programmed = self.tenant.until(|tenant| {
            let config = tenant.status.as_ref().and_then(|status| status.config.as_ref());
            let everywhere = config.is_some_and(|c| c.revision == revision && c.loaded_replicas == c.ready_replicas);
            everywhere && is_programmed(tenant)
        });
        let applied = async {
            // Everyone is asked before there is anything to tell.
            sleep(PAUSE).await;
            let began = Instant::now();
            policies.patch(NAME, &apply(), &Patch::Apply(policy(limit))).await?;
            Ok((began, Instant::now()))
        };
        let (effective, written, programmed, (began, applied)) =
            tokio::try_join!(effective, written, programmed, applied)?;
        let effective = effective.into_iter().max().context("no replicas")?;
        Ok(Arrival {
            applied: applied - began,
            written: written - began,
            effective: effective - began,
            programmed: programmed - began,
        })
    }
}

/// The newest state of one object, by a watch.
struct Followed<K> {
    newest: watch::Receiver<Option<K>>,
    _task: AbortOnDropHandle<()>,
}

impl<K> Followed<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn new(api: Api<K>, name: &str) -> Self {
        let (sender, newest) = watch::channel(None);
        let mut states = Box::pin(watcher::watch_object(api, name));
        let task = tokio::spawn(async move {
            while let Some(state) = states.next().await {
                match state {
                    Ok(state) => drop(sender.send_replace(state)),
                    Err(error) => tracing::warn!(%error, "a watch of the benchmark failed"),
                }
            }
        });
        Self { newest, _task: AbortOnDropHandle::new(task) }
    }

    /// When it was so.
    async fn until(&self, good: impl Fn(&K) -> bool) -> Result<Instant> {
        self.newest.clone().wait_for(|state| state.as_ref().is_some_and(&good)).await.context("the watch ended")?;
        Ok(Instant::now())
    }
}

fn apply() -> PatchParams {
    PatchParams::apply("bench").force()
}

fn policy(limit: u32) -> Value {
    let limits = json!({"everything": {"counters": ["Tenant"], "rates": [{"limit": limit, "window": "1m"}]}});
    object("RateLimitPolicy", &json!({"targetRef": {"kind": "Tenant", "name": NAME}, "limits": limits}))
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": {"name": NAME}, "spec": spec})
}

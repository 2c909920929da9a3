//! A platform with many tenants, and what it costs: requests to the Kubernetes API, time until a change is served by every
//! replica, time without a leader. For `cargo dev bench scale`; a journey does the same with a few tenants.

mod calls;
mod served;

use std::{
    collections::HashSet,
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use crds::{Tenant, conditions::PROGRAMMED};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

pub use self::calls::Calls;
use self::{calls::Scrape, served::Served};
use crate::{Platform, operator::Operator, platform::PLATFORM, wait};

/// Requests in flight, as a GitOps controller would have them.
pub const APPLIED_AT_ONCE: usize = 16;
/// How exactly a change of leader is seen.
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks at the metrics, which count all objects anew.
const PAUSE: Duration = Duration::from_millis(200);
/// How long nothing may have been asked before the operator counts as at rest.
const QUIET: Duration = Duration::from_secs(2);

/// The tenants of a platform, numbered.
pub struct Crowd<'a> {
    pub platform: &'a mut Platform,
    tenants: Api<Tenant>,
    count: usize,
    /// How many changes there were: each is another.
    changes: usize,
}

/// How long more tenants took.
#[derive(Debug, Clone, Copy)]
pub struct Grown {
    pub applied: Duration,
    pub programmed: Duration,
}

/// What changes cost.
#[derive(Debug, Clone)]
pub struct Changed {
    pub served: Vec<Took>,
    pub calls: Calls,
}

/// How long one change took, from just before it was sent.
#[derive(Debug, Clone)]
pub struct Took {
    pub sent: Instant,
    /// Until the Kubernetes API had answered.
    pub answered: Duration,
    /// Until each replica of the API served it.
    pub replicas: Vec<Duration>,
}

impl Took {
    /// Until every replica served it.
    pub fn everywhere(&self) -> Duration {
        self.replicas.iter().copied().max().unwrap_or_default()
    }
}

/// Where it waited: at the Kubernetes API, before the first replica, or before the last.
impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered after {:.0?}, replicas after", self.answered)?;
        self.replicas.iter().try_for_each(|after| write!(f, " {after:.0?}"))
    }
}

/// How a new operator takes up its work.
#[derive(Debug, Clone)]
pub struct Restarted {
    /// From its start until it knows every object.
    pub knows: Duration,
    /// From its start until it has looked at every tenant.
    pub looked: Duration,
    pub calls: Calls,
    /// Most requests to the Kubernetes API in one second.
    pub busiest_second: f64,
}

impl<'a> Crowd<'a> {
    pub fn of(platform: &'a mut Platform) -> Self {
        let tenants = Api::namespaced(platform.control_plane.client.clone(), &platform.namespace);
        Self { platform, tenants, count: 0, changes: 0 }
    }

    /// Applies tenants until there are so many, and waits until every replica serves all of them.
    pub async fn grow(&mut self, to: usize) -> Result<Grown> {
        let (from, began) = (self.count, Instant::now());
        let objects = self.tenants.clone();
        let programmed = async {
            let mut programmed = HashSet::new();
            let events = watcher(self.tenants.clone(), watcher::Config::default().page_size(500));
            let mut seen = pin!(events.default_backoff().applied_objects());
            while programmed.len() < to {
                let tenant = seen.try_next().await?.context("the watch ended")?;
                if is_programmed(&tenant) {
                    programmed.insert(tenant.name_any());
                }
            }
            anyhow::Ok(began.elapsed())
        };
        let applied = async {
            let applies = (from..to).map(|number| {
                let name = name(number);
                let spec = json!({"platformRef": {"name": PLATFORM}, "hostnames": [format!("{name}.localhost")]});
                let tenant = json!({
                    "apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": spec,
                });
                let objects = objects.clone();
                async move { objects.patch(&name, &PatchParams::apply("crowd"), &Patch::Apply(&tenant)).await }
            });
            stream::iter(applies).buffer_unordered(APPLIED_AT_ONCE).try_for_each(async |_| Ok(())).await?;
            anyhow::Ok(began.elapsed())
        };
        let (programmed, applied) = tokio::try_join!(programmed, applied)?;
        self.count = to;
        Ok(Grown { applied, programmed })
    }

    /// Waits until the leader asks nothing any more.
    pub async fn rests(&self) -> Result<()> {
        let mut last = (self.scrape().await?.calls, Instant::now());
        wait::within(Duration::from_mins(10), "the operator to rest", async || {
            sleep(PAUSE).await;
            let calls = self.scrape().await?.calls;
            if calls != last.0 {
                last = (calls, Instant::now());
            }
            Ok((last.1.elapsed() >= QUIET).then_some(()))
        })
        .await
    }

    /// What the leader asks in this time, while nobody changes anything.
    pub async fn at_rest(&self, time: Duration) -> Result<Calls> {
        let before = self.scrape().await?.calls;
        sleep(time).await;
        Ok(self.scrape().await?.calls - before)
    }

    /// Changes, each after the one before is served.
    pub async fn change_one_by_one(&mut self, changes: usize) -> Result<Changed> {
        let served = Served::follow(self.platform).await?;
        let before = self.scrape().await?.calls;
        let mut took = Vec::new();
        for number in 0..changes {
            self.changes += 1;
            took.push(change(&self.tenants, &served, number % self.count, self.changes).await?);
        }
        self.rests().await?;
        Ok(Changed { served: took, calls: self.scrape().await?.calls - before })
    }

    /// Changes at a fixed rate, each of another tenant, whatever becomes of those before.
    pub async fn change_at_rate(&mut self, changes: usize, per_second: u32) -> Result<Changed> {
        let served = Served::follow(self.platform).await?;
        let before = self.scrape().await?.calls;
        let mut clock = interval(Duration::from_secs(1) / per_second.max(1));
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut under_way = JoinSet::new();
        for number in 0..changes {
            clock.tick().await;
            self.changes += 1;
            let (tenants, served, tenant, turn) =
                (self.tenants.clone(), served.clone(), number % self.count, self.changes);
            under_way.spawn(async move { change(&tenants, &served, tenant, turn).await });
        }
        let mut took = Vec::new();
        while let Some(done) = under_way.join_next().await {
            took.push(done??);
        }
        self.rests().await?;
        Ok(Changed { served: took, calls: self.scrape().await?.calls - before })
    }

    /// The only operator stops and another one starts: how long it takes, and what it asks.
    pub async fn restart(&mut self) -> Result<Restarted> {
        for operator in std::mem::take(&mut self.platform.operators) {
            operator.stop().await?;
        }
        let began = Instant::now();
        self.platform.add_operator().await?;
        let knows = began.elapsed();
        let (mut busiest, mut second) = (0.0, (began, 0));
        let looked = wait::within(Duration::from_mins(15), "the operator to look at every tenant", async || {
            let now = self.scrape().await?;
            let (total, time) = (now.calls.reads() + now.calls.writes(), second.0.elapsed().as_secs_f64());
            if time >= 1.0 {
                #[expect(clippy::cast_precision_loss, reason = "they are few")]
                let rate = (total - second.1) as f64 / time;
                (busiest, second) = (rate.max(busiest), (Instant::now(), total));
            }
            let looked = (now.leads && now.visits >= self.count && now.waiting == 0).then(|| began.elapsed());
            if looked.is_none() {
                sleep(PAUSE).await;
            }
            Ok(looked)
        })
        .await?;
        self.rests().await?;
        Ok(Restarted { knows, looked, calls: self.scrape().await?.calls, busiest_second: busiest })
    }

    /// Until another operator holds the Lease after the leader was killed (`kill -9`), or stopped.
    pub async fn new_leader(&mut self, killed: bool) -> Result<Duration> {
        if self.platform.operators.len() < 2 {
            self.platform.add_operator().await?;
        }
        let leases: Api<Lease> = Api::namespaced(self.platform.control_plane.client.clone(), &self.platform.namespace);
        let holder = async || {
            let lease = leases.list(&ListParams::default()).await?.items.into_iter().next();
            anyhow::Ok(lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default())
        };
        let first = wait::until_value("a leader", holder, |holder| !holder.is_empty()).await?;
        // The identity is the pod's name and something of this one process.
        let leads = |operator: &Operator| first.strip_prefix(&operator.name).is_some_and(|rest| rest.starts_with('_'));
        let Some(at) = self.platform.operators.iter().position(leads) else {
            bail!("{first} leads, which is no operator of this world");
        };
        let leader = self.platform.operators.remove(at);
        let began = Instant::now();
        let ended = tokio::spawn(async move { if killed { leader.kill().await } else { leader.stop().await } });
        let taken = async {
            loop {
                let now = holder().await?;
                if !now.is_empty() && now != first {
                    return anyhow::Ok(began.elapsed());
                }
                sleep(LOOK).await;
            }
        };
        let taken = timeout(wait::limit(), taken).await.context("nobody takes over")??;
        ended.await??;
        Ok(taken)
    }

    /// The process of the only operator.
    pub fn operator(&self) -> Result<u32> {
        ensure!(self.platform.operators.len() == 1, "{} operators run", self.platform.operators.len());
        Ok(self.platform.operators[0].pid())
    }

    async fn scrape(&self) -> Result<Scrape> {
        let operator = self.platform.operators.first().context("no operator")?;
        Scrape::of(&operator.url).await
    }
}

/// Changes one tenant, and waits until every replica serves it.
async fn change(tenants: &Api<Tenant>, served: &Served, number: usize, turn: usize) -> Result<Took> {
    let name = name(number);
    let patch = json!({"spec": {"displayName": format!("Change {turn}")}});
    let everywhere = served.next(&name);
    let sent = Instant::now();
    tenants.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let answered = sent.elapsed();
    let arrived = timeout(wait::limit(), everywhere).await;
    let arrived = arrived.with_context(|| format!("the change of {name} does not arrive"))??;
    Ok(Took { sent, answered, replicas: arrived.into_values().map(|at| at - sent).collect() })
}

fn name(number: usize) -> String {
    format!("tenant-{number:05}")
}

/// Whether every replica serves the tenant as it is declared now.
pub fn is_programmed(tenant: &Tenant) -> bool {
    let conditions = tenant.status.iter().flat_map(|status| &status.conditions);
    let generation = tenant.metadata.generation;
    conditions.into_iter().any(|c| c.type_ == PROGRAMMED && c.status == "True" && c.observed_generation == generation)
}

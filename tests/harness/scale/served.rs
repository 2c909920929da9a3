//! When every replica serves something new of a tenant: each is asked as the operator asks it, and answers in the moment.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contract::names;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Platform, platform::PLATFORM, wait};

/// How long a replica keeps the question.
const WAIT_SECONDS: u64 = 20;
/// After an answer that did not come.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows all replicas for as long as a clone of it is there.
#[derive(Clone)]
pub struct Served {
    waiting: Waiting,
    replicas: usize,
    _followers: Arc<JoinSet<()>>,
}

/// By tenant: which replicas are still awaited, and who waits.
type Waiting = Arc<Mutex<HashMap<String, (BTreeSet<usize>, oneshot::Sender<Instant>)>>>;

#[derive(Deserialize)]
struct Answer {
    cursor: Option<String>,
    tenants: HashMap<String, Tells>,
}

#[derive(Deserialize)]
struct Tells {
    revision: String,
}

impl Served {
    /// Follows the replicas that run now; returns when each has told what it serves.
    pub async fn follow(platform: &Platform) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(platform.control_plane.client.clone(), &platform.namespace);
        let ours = ListParams::default().labels(&format!("{}={PLATFORM}", names::LABEL_PLATFORM));
        let running = pods.list(&ours).await?.items.into_iter().filter_map(|pod| {
            let status = pod.status?;
            // A migration's pod is done, and listens nowhere.
            (status.phase? == "Running").then_some(status.pod_ip?)
        });
        let urls: Vec<_> = running.map(|ip| format!("http://{ip}:9090/internal/config")).collect();
        ensure!(!urls.is_empty(), "no replica runs");
        let (client, waiting) = (reqwest::Client::builder().no_proxy().build()?, Waiting::default());
        let (replicas, mut followers, mut began) = (urls.len(), JoinSet::new(), Vec::new());
        for (number, url) in urls.into_iter().enumerate() {
            let (first, told) = oneshot::channel();
            followers.spawn(follow(client.clone(), url, number, waiting.clone(), first));
            began.push(told);
        }
        for told in began {
            timeout(wait::limit(), told).await.context("a replica does not say what it serves")??;
        }
        Ok(Self { waiting, replicas, _followers: Arc::new(followers) })
    }

    /// When every replica has told of another revision of this tenant than it serves now.
    pub fn next(&self, tenant: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(tenant.to_owned(), ((0..self.replicas).collect(), sender));
        receiver
    }
}

async fn follow(client: reqwest::Client, url: String, number: usize, waiting: Waiting, first: oneshot::Sender<()>) {
    let (mut first, mut cursor, mut serves) = (Some(first), None::<String>, HashMap::<String, String>::new());
    loop {
        let question = match &cursor {
            Some(cursor) => format!("{url}?since={cursor}&waitSeconds={WAIT_SECONDS}"),
            None => url.clone(),
        };
        let answer = async {
            let answer = client.get(question).send().await?.error_for_status()?;
            let arrived = Instant::now();
            Ok::<_, reqwest::Error>((answer.json::<Answer>().await?, arrived))
        };
        let Ok((answer, arrived)) = answer.await else {
            sleep(PAUSE).await;
            continue;
        };
        cursor = answer.cursor;
        for (tenant, Tells { revision }) in answer.tenants {
            if serves.insert(tenant.clone(), revision.clone()).is_some_and(|before| before != revision) {
                tell(&waiting, number, &tenant, arrived);
            }
        }
        if let Some(first) = first.take() {
            // Whoever waits for it may have given up.
            let _ = first.send(());
        }
    }
}

fn tell(waiting: &Waiting, number: usize, tenant: &str, arrived: Instant) {
    let mut waiting = waiting.lock();
    let Some((awaited, _)) = waiting.get_mut(tenant) else { return };
    awaited.remove(&number);
    if awaited.is_empty()
        && let Some((_, sender)) = waiting.remove(tenant)
    {
        let _ = sender.send(arrived);
    }
}

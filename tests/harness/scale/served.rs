//! When every replica serves something new of a tenant: each is asked as the operator asks it, and answers in the moment.

use std::{
    collections::{BTreeMap, HashMap},
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
    _followers: Arc<JoinSet<()>>,
}

/// When each replica told, by its number.
type Arrivals = BTreeMap<usize, Instant>;

/// By tenant: which replicas have told so far, and who waits for all of them.
type Waiting = Arc<Mutex<HashMap<String, (Arrivals, oneshot::Sender<Arrivals>)>>>;

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
            let tell = Tell { waiting: waiting.clone(), number, replicas };
            followers.spawn(follow(client.clone(), url, tell, first));
            began.push(told);
        }
        for told in began {
            timeout(wait::limit(), told).await.context("a replica does not say what it serves")??;
        }
        Ok(Self { waiting, _followers: Arc::new(followers) })
    }

    /// When each replica told of another revision of this tenant than it serves now; given when all of them have.
    pub fn next(&self, tenant: &str) -> oneshot::Receiver<Arrivals> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(tenant.to_owned(), (Arrivals::new(), sender));
        receiver
    }
}

async fn follow(client: reqwest::Client, url: String, tell: Tell, first: oneshot::Sender<()>) {
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
                tell.arrived(&tenant, arrived);
            }
        }
        if let Some(first) = first.take() {
            // Whoever waits for it may have given up.
            let _ = first.send(());
        }
    }
}

/// One replica of so many, and who waits for what it tells.
struct Tell {
    waiting: Waiting,
    number: usize,
    replicas: usize,
}

impl Tell {
    fn arrived(&self, tenant: &str, at: Instant) {
        let mut waiting = self.waiting.lock();
        let Some((arrivals, _)) = waiting.get_mut(tenant) else { return };
        arrivals.entry(self.number).or_insert(at);
        if arrivals.len() == self.replicas
            && let Some((arrivals, sender)) = waiting.remove(tenant)
        {
            // Whoever waited for it may have given up.
            let _ = sender.send(arrivals);
        }
    }
}

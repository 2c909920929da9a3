//! What the API's pods say about the configuration they serve: the proof behind `Programmed`.
//!
//! Each ready pod is followed by one long poll, which tells of all tenants at first and then of those that changed
//! ([`source`]). What they said is kept ([`fleet`]), so that a verdict on a tenant costs no request, ten thousand tenants
//! cost one poll a pod, and only those tenants are looked at again whose verdict may be another.
//!
//! Pods are followed while this process leads: [`Replicas::open`], [`Replicas::close`].

mod fleet;
mod source;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use contract::{
    Revision,
    names::{API_NAME, LABEL_NAME, LABEL_PLATFORM, PORT_MANAGEMENT},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use self::fleet::Fleet;
pub use self::{
    fleet::{Loaded, Rejection},
    source::{Http, Report, Source},
};

/// How long a pod may keep a question when nothing changes.
const WAIT: Duration = Duration::from_secs(20);
/// What it may need on top of the wait that it was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// The first pause after a question that was not answered, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a pod is asked that cannot keep a question: one of the version before.
const UNHURRIED: Duration = Duration::from_secs(1);

/// Namespace and name of a Platform.
pub type PlatformKey = (String, String);

/// Whose verdict may be another.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// A pod loaded or refused something.
    Tenants { platform: PlatformKey, names: Vec<String> },
    /// A pod came, went, or fell silent before it said anything.
    Everybody { platform: PlatformKey },
}

/// The pods that serve, and what they said.
pub struct Replicas(Arc<Inner>);

struct Inner {
    source: Box<dyn Source>,
    fleets: Mutex<HashMap<PlatformKey, Fleet>>,
    following: Mutex<Following>,
    /// Raised with every answer, for those who wait for one.
    answers: watch::Sender<u64>,
    news: Mutex<Option<mpsc::UnboundedSender<News>>>,
}

#[derive(Default)]
struct Following {
    open: bool,
    /// By namespace and name of the pod.
    pods: HashMap<(String, String), (Followed, AbortHandle)>,
    tasks: JoinSet<()>,
}

/// A pod as it is followed: when this changes, it is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Followed {
    platform: PlatformKey,
    pod: String,
    uid: Option<String>,
    address: String,
}

impl Replicas {
    pub fn new(source: impl Source) -> Self {
        Self(Arc::new(Inner {
            source: Box::new(source),
            fleets: Mutex::default(),
            following: Mutex::default(),
            answers: watch::Sender::new(0),
            news: Mutex::new(None),
        }))
    }

    /// What is new from now on. There is one listener: who wires the controllers.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<News> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.news.lock() = Some(sender);
        receiver
    }

    /// Follows the pods there are, and from now on those that [`Self::see`] tells of.
    pub fn open(&self, pods: impl FnOnce() -> Vec<Arc<Pod>>) {
        // Held throughout: of a pod that goes after it was found among them, `see` tells when it is followed already.
        let mut following = self.0.following.lock();
        self.forget(&mut following);
        following.open = true;
        for pod in pods() {
            self.see_one(&mut following, Some(&pod), &pod);
        }
    }

    /// Follows nobody any more, and forgets what was said.
    pub fn close(&self) {
        self.forget(&mut self.0.following.lock());
    }

    fn forget(&self, following: &mut Following) {
        *following = Following::default();
        self.0.fleets.lock().clear();
    }

    /// A pod as it is now, `None` when it is gone; `known` says which.
    pub fn see(&self, now: Option<&Pod>, known: &Pod) {
        self.see_one(&mut self.0.following.lock(), now, known);
    }

    fn see_one(&self, following: &mut Following, now: Option<&Pod>, known: &Pod) {
        let id = (known.namespace().unwrap_or_default(), known.name_any());
        let now = now.and_then(followed);
        if !following.open || following.pods.get(&id).map(|(followed, _)| followed) == now.as_ref() {
            return;
        }
        if let Some((gone, task)) = following.pods.remove(&id) {
            task.abort();
            self.0.leave(&gone);
        }
        if let Some(pod) = now {
            self.0.fleets.lock().entry(pod.platform.clone()).or_default().join(&pod.pod);
            let task = following.tasks.spawn(follow(self.0.clone(), pod.clone()));
            following.pods.insert(id, (pod, task));
        }
        while following.tasks.try_join_next().is_some() {}
    }

    /// What is known now of one tenant.
    pub fn loaded(&self, platform: &PlatformKey, tenant: &str, revision: &Revision) -> Loaded {
        self.0.fleets.lock().get(platform).map(|fleet| fleet.loaded(tenant, revision)).unwrap_or_default()
    }

    /// What is known of one tenant when every replica that answers has dealt with the revision, or when `wait` is over.
    pub async fn settled(&self, platform: &PlatformKey, tenant: &str, revision: &Revision, wait: Duration) -> Loaded {
        let mut answers = self.0.answers.subscribe();
        let settles = || {
            let fleets = self.0.fleets.lock();
            fleets.get(platform).is_none_or(|fleet| fleet.is_settled(tenant, revision))
        };
        let wait_for_it = async { while !settles() && answers.changed().await.is_ok() {} };
        // Late or not, what is known then counts.
        let _ = timeout(wait, wait_for_it).await;
        self.loaded(platform, tenant, revision)
    }

    /// The revision of every tenant that the pod at this address serves, ready or not; `None` when it does not say.
    pub async fn held(&self, address: &str) -> Option<BTreeMap<String, String>> {
        let report = timeout(GRACE, self.0.source.ask(address, None, Duration::ZERO)).await.ok()?.ok()?;
        Some(report.tenants.into_iter().collect())
    }

    /// How many pods are followed, and how many of them do not answer.
    pub fn count(&self) -> (usize, usize) {
        let fleets = self.0.fleets.lock();
        fleets.values().map(Fleet::count).fold((0, 0), |(all, silent), (more, quiet)| (all + more, silent + quiet))
    }
}

impl Inner {
    fn leave(&self, Followed { platform, pod, .. }: &Followed) {
        let mut fleets = self.fleets.lock();
        if let Some(fleet) = fleets.get_mut(platform) {
            fleet.leave(pod);
            if fleet.is_empty() {
                fleets.remove(platform);
            }
        }
        drop(fleets);
        self.tell(News::Everybody { platform: platform.clone() });
    }

    fn hear(&self, Followed { platform, pod, .. }: &Followed, report: Report) {
        let Some(said) = self.fleets.lock().get_mut(platform).and_then(|fleet| fleet.hear(pod, report)) else {
            return;
        };
        self.tell(match said {
            fleet::Said::Everything => News::Everybody { platform: platform.clone() },
            fleet::Said::About(names) => News::Tenants { platform: platform.clone(), names },
        });
    }

    fn miss(&self, Followed { platform, pod, .. }: &Followed) {
        if self.fleets.lock().get_mut(platform).is_some_and(|fleet| fleet.miss(pod)) {
            self.tell(News::Everybody { platform: platform.clone() });
        }
    }

    fn tell(&self, news: News) {
        self.answers.send_modify(|answers| *answers = answers.wrapping_add(1));
        if let Some(listener) = self.news.lock().as_ref() {
            // A closed receiver means that the process is stopping.
            let _ = listener.send(news);
        }
    }
}

/// Asks one pod, for as long as it is followed.
async fn follow(replicas: Arc<Inner>, pod: Followed) {
    let mut cursor: Option<String> = None;
    let mut pause = PAUSES.0;
    loop {
        // The first answer, and the first after a silence, is wanted at once.
        let wait = if cursor.is_some() && pause == PAUSES.0 { WAIT } else { Duration::ZERO };
        match timeout(wait + GRACE, replicas.source.ask(&pod.address, cursor.as_deref(), wait)).await {
            Ok(Ok(report)) => {
                let unhurried = report.cursor.is_none();
                (cursor, pause) = (report.cursor.clone(), PAUSES.0);
                replicas.hear(&pod, report);
                if unhurried {
                    sleep(UNHURRIED).await;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(pod = pod.pod, error, "a replica did not answer");
                replicas.miss(&pod);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(_) => {
                tracing::debug!(pod = pod.pod, "a replica did not answer in time");
                replicas.miss(&pod);
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

fn followed(pod: &Pod) -> Option<Followed> {
    let namespace = pod.namespace().unwrap_or_default();
    let platform = (namespace, pod.labels().get(LABEL_PLATFORM)?.clone());
    Some(Followed { platform, pod: pod.name_any(), uid: pod.uid(), address: management_address(pod)? })
}

/// Where a pod of the API that takes requests answers questions; `None` for one that is not ready or on its way out.
pub fn management_address(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() || pod.labels().get(LABEL_NAME).is_none_or(|name| name != API_NAME) {
        return None;
    }
    let status = pod.status.as_ref()?;
    status.conditions.iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True")?;
    let ip = status.pod_ip.as_deref().filter(|ip| !ip.is_empty())?;
    let ports = pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = ports.into_iter().find(|port| port.name.as_deref() == Some(PORT_MANAGEMENT))?.container_port;
    Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
}

#[cfg(test)]
mod tests;

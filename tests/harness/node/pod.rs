//! One pod's life: volumes, init containers, containers with their probes and restarts, and a graceful end.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Settings, addresses, clock, probes,
    status::{ContainerState, PodState},
    template::{self, Sources, Within},
    volumes::{self, Mounts},
};
use crate::process::{Launch, Process, Signal};

/// Of restarts after a crash, as the kubelet's, on a developer's scale.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);
/// A container that ran this long has earned a quick restart again.
const FORGIVEN_AFTER: i64 = 60;

/// A pod while it lives; its state is read by the node, which writes the object's status.
pub struct Life {
    pub pod: Pod,
    pub settings: Settings,
    pub state: Arc<Mutex<PodState>>,
    pub changed: Arc<Notify>,
    /// The pod is to end, gracefully.
    pub end: CancellationToken,
}

impl Life {
    /// Returns when nothing runs any more.
    pub async fn run(self) {
        let Some(spec) = self.pod.spec.clone() else { return };
        let folder = volumes::folder(&self.settings, &self.pod);
        if let Some(sources) = self.prepare(&folder).await {
            let restart = Restart::of(spec.restart_policy.as_deref());
            if self.initialise(spec.init_containers.unwrap_or_default(), &sources, restart).await {
                join_all(spec.containers.iter().map(|container| self.keep_running(container, &sources, restart))).await;
            }
        }
        let _ = std::fs::remove_dir_all(folder);
        self.change(|state| state.finished = true);
    }

    /// An address and the volumes; `None` when the pod is to end before it has them.
    async fn prepare(&self, folder: &Path) -> Option<Sources<'_>> {
        let address = loop {
            match self.address() {
                Ok(address) => break address,
                Err(error) => self.not_yet(error).await?,
            }
        };
        let namespace = self.pod.namespace().unwrap_or_default();
        let sources = Sources { settings: &self.settings, namespace, address };
        while let Err(error) = volumes::materialise(&self.pod, &sources, folder).await {
            self.not_yet(error).await?;
        }
        Some(sources)
    }

    fn address(&self) -> Result<Ipv4Addr> {
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let ports: Vec<_> = ports.filter_map(|port| u16::try_from(port.container_port).ok()).collect();
        let address = addresses::allocate(&ports)?;
        self.change(|state| state.address = Some(address));
        Ok(address)
    }

    /// What is missing may come (a Secret, a free port): says what it is and rests. `None` when the pod is to end.
    async fn not_yet(&self, error: anyhow::Error) -> Option<()> {
        self.change(|state| state.waiting_for_all("CreateContainerConfigError", &error));
        self.rest(FIRST_BACKOFF).await
    }

    async fn rest(&self, pause: Duration) -> Option<()> {
        tokio::select! {
            () = self.end.cancelled() => None,
            () = sleep(pause) => Some(()),
        }
    }

    /// One after the other; a pod that never restarts fails with its first failing one.
    async fn initialise(&self, containers: Vec<Container>, sources: &Sources<'_>, restart: Restart) -> bool {
        for container in containers {
            let restart = if restart == Restart::Never { Restart::Never } else { Restart::OnFailure };
            if self.keep_running(&container, sources, restart).await != Some(0) {
                return false;
            }
        }
        true
    }

    /// Runs the container for as long as its restart policy says; yields the last exit code, `None` at the pod's end.
    async fn keep_running(&self, container: &Container, sources: &Sources<'_>, restart: Restart) -> Option<i32> {
        let name = &container.name;
        let mounts = loop {
            match self.mounts(container) {
                Ok(mounts) => break mounts,
                Err(error) => self.not_yet(error).await?,
            }
        };
        let within = Within { settings: &self.settings, mounts: &mounts, address: sources.address };
        let mut backoff = FIRST_BACKOFF;
        let mut known = None;
        loop {
            let (process, launch) = loop {
                match self.launch(container, sources, &mounts, &mut known).await {
                    Ok(started) => break started,
                    Err(error) => self.not_yet(error).await?,
                }
            };
            let started = clock::seconds();
            let pid = process.pid();
            self.change(|state| state.container(name).state = ContainerState::Running { since: started, pid });
            let ready = |ready| self.change(|state| state.container(name).ready = ready);
            let (code, reason) = self.one_run(process, container, &launch, within, ready).await;
            self.change(|state| {
                let container = state.container(name);
                container.ready = false;
                container.state = ContainerState::Terminated { code, reason, started, finished: clock::seconds() };
            });
            if self.end.is_cancelled() {
                return None;
            }
            if !restart.after(code) {
                return Some(code);
            }
            if clock::now().duration_since(started).as_secs() > FORGIVEN_AFTER {
                backoff = FIRST_BACKOFF;
            }
            self.rest(backoff).await?;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            self.change(|state| state.container(name).restarts += 1);
        }
    }

    fn mounts(&self, container: &Container) -> Result<Mounts> {
        let image = self.settings.images.find(container.image.as_deref().unwrap_or_default())?;
        Mounts::new(container, image, &volumes::folder(&self.settings, &self.pod))
    }

    /// Resolved anew each time; where that fails (the control plane is down), as it was resolved last. The kubelet, too,
    /// restarts containers from what it knows.
    async fn launch(
        &self,
        container: &Container,
        sources: &Sources<'_>,
        mounts: &Mounts,
        known: &mut Option<Launch>,
    ) -> Result<(Process, Launch)> {
        let launch = match (template::launch(&self.pod, container, sources, mounts).await, &*known) {
            (Ok(launch), _) => launch,
            (Err(_), Some(known)) => known.clone(),
            (Err(error), None) => return Err(error),
        };
        let launch = known.insert(launch).clone();
        Ok((launch.clone().start().await?, launch))
    }

    /// From start to exit, by itself, by a failed probe or by the pod's end.
    async fn one_run(
        &self,
        mut process: Process,
        container: &Container,
        launch: &Launch,
        within: Within<'_>,
        ready: impl Fn(bool),
    ) -> (i32, String) {
        tokio::select! {
            status = process.wait() => {
                let code = status.map_or(1, exit_code);
                return (code, if code == 0 { "Completed" } else { "Error" }.into());
            }
            failure = probes::watch(container, launch, within, &ready) => {
                tracing::warn!("pod {}: {}: {failure}", self.pod.name_any(), container.name);
            }
            () = self.end.cancelled() => {}
        }
        ready(false);
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()?.sleep.as_ref());
        if let Some(hook) = hook {
            sleep(Duration::from_secs(hook.seconds.unsigned_abs())).await;
        }
        let image = self.settings.images.find(container.image.as_deref().unwrap_or_default());
        let signal = image.ok().and_then(|image| image.stop_signal).unwrap_or(Signal::TERM);
        let code = process.stop(signal, self.grace()).await.map_or(137, exit_code);
        (code, if code == 137 { "Killed" } else { "Completed" }.into())
    }

    fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(spec.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
    }

    fn change(&self, change: impl FnOnce(&mut PodState)) {
        change(&mut self.state.lock());
        self.changed.notify_one();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    fn of(policy: Option<&str>) -> Self {
        match policy {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn after(self, code: i32) -> bool {
        self == Self::Always || (self == Self::OnFailure && code != 0)
    }
}

/// As containers report it: 128 + signal.
fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

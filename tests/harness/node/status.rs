//! What a pod's life looks like in its object's status.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::clock;

#[derive(Debug, Default)]
pub struct PodState {
    pub address: Option<Ipv4Addr>,
    pub started: Option<Timestamp>,
    /// Nothing runs any more, and nothing will.
    pub finished: bool,
    containers: BTreeMap<String, ContainerStatus>,
    waiting: Option<(String, String)>,
    /// When the Ready condition changed last, and to what.
    ready_since: Option<(bool, Timestamp)>,
}

#[derive(Debug, Default)]
pub struct ContainerStatus {
    pub state: ContainerState,
    pub ready: bool,
    pub restarts: u32,
}

#[derive(Debug, Default, Clone)]
pub enum ContainerState {
    #[default]
    Waiting,
    Running {
        since: Timestamp,
        pid: u32,
    },
    Terminated {
        code: i32,
        reason: String,
        started: Timestamp,
        finished: Timestamp,
    },
}

impl PodState {
    pub fn container(&mut self, name: &str) -> &mut ContainerStatus {
        self.waiting = None;
        self.containers.entry(name.into()).or_default()
    }

    pub fn pids(&self) -> Vec<u32> {
        let running = self.containers.values().filter_map(|container| match container.state {
            ContainerState::Running { pid, .. } => Some(pid),
            _ => None,
        });
        running.collect()
    }

    pub fn waiting_for_all(&mut self, reason: &str, error: &anyhow::Error) {
        self.waiting = Some((reason.into(), format!("{error:#}")));
    }

    /// The status subresource, whole.
    pub fn render(&mut self, pod: &Pod) -> Value {
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let ready = pod.metadata.deletion_timestamp.is_none()
            && spec
                .containers
                .iter()
                .all(|container| self.containers.get(&container.name).is_some_and(|known| known.ready));
        if self.ready_since.is_none_or(|(before, _)| before != ready) {
            self.ready_since = Some((ready, clock::seconds()));
        }
        let since = self.ready_since.map(|(_, since)| since);
        let started = *self.started.get_or_insert_with(clock::seconds);
        let condition = |kind: &str, is: bool, since: Option<Timestamp>| {
            let reason = if is { None } else { Some("ContainersNotReady") };
            json!({"type": kind, "status": if is { "True" } else { "False" }, "reason": reason, "lastTransitionTime": since})
        };
        let initialised = init.iter().all(|container| matches!(self.exit_code(&container.name), Some(0)));
        json!({
            "phase": self.phase(&spec.containers, &init, spec.restart_policy.as_deref()),
            "podIP": self.address.map(|address| address.to_string()),
            "podIPs": self.address.map(|address| vec![json!({"ip": address.to_string()})]),
            "hostIP": "127.0.0.1",
            "startTime": started,
            "conditions": [
                condition("PodScheduled", true, Some(started)),
                condition("Initialized", initialised, Some(started)),
                condition("ContainersReady", ready, since),
                condition("Ready", ready, since),
            ],
            "initContainerStatuses": init.iter().map(|container| self.describe(container)).collect::<Vec<_>>(),
            "containerStatuses": spec.containers.iter().map(|container| self.describe(container)).collect::<Vec<_>>(),
        })
    }

    fn exit_code(&self, name: &str) -> Option<i32> {
        match self.containers.get(name)?.state {
            ContainerState::Terminated { code, .. } => Some(code),
            _ => None,
        }
    }

    fn phase(&self, containers: &[Container], init: &[Container], policy: Option<&str>) -> &'static str {
        let codes: Vec<_> = containers.iter().map(|container| self.exit_code(&container.name)).collect();
        let init_failed = init.iter().any(|container| self.exit_code(&container.name).is_some_and(|code| code != 0));
        if self.finished && init_failed {
            "Failed"
        } else if self.finished && policy.is_some_and(|policy| policy != "Always") && codes.iter().all(Option::is_some)
        {
            if codes.iter().all(|code| *code == Some(0)) { "Succeeded" } else { "Failed" }
        } else if containers.iter().any(|container| self.containers.contains_key(&container.name)) {
            "Running"
        } else {
            "Pending"
        }
    }

    fn describe(&self, container: &Container) -> Value {
        let known = self.containers.get(&container.name);
        let state = match known.map(|known| &known.state) {
            Some(ContainerState::Running { since, .. }) => json!({"running": {"startedAt": since}}),
            Some(ContainerState::Terminated { code, reason, started, finished }) => json!({"terminated": {
                "exitCode": code, "reason": reason, "startedAt": started, "finishedAt": finished,
            }}),
            None | Some(ContainerState::Waiting) => {
                let (reason, message) =
                    self.waiting.clone().unwrap_or_else(|| ("ContainerCreating".into(), String::new()));
                json!({"waiting": {"reason": reason, "message": message}})
            }
        };
        json!({
            "name": container.name,
            "image": container.image,
            "imageID": "",
            "ready": known.is_some_and(|known| known.ready),
            "started": matches!(known.map(|known| &known.state), Some(ContainerState::Running { .. })),
            "restartCount": known.map_or(0, |known| known.restarts),
            "state": state,
        })
    }
}

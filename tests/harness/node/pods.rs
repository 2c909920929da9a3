//! The kubelet's book: which pods live here, and what was last said about them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use anyhow::Result;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Settings, autoscalers::Processes, owned, pod::Life, status::PodState};

pub struct Pods {
    settings: Settings,
    changed: Arc<Notify>,
    /// By uid: a pod that came back under its name is another pod.
    living: HashMap<String, Living>,
}

struct Living {
    state: Arc<Mutex<PodState>>,
    end: CancellationToken,
    task: AbortOnDropHandle<()>,
    written: Value,
}

impl Pods {
    pub fn new(settings: Settings, changed: Arc<Notify>) -> Self {
        Self { settings, changed, living: HashMap::new() }
    }

    /// Starts what is new, ends what is going, and writes down what has changed.
    pub async fn sync(&mut self, pods: &[Pod]) -> Result<()> {
        for pod in pods {
            let uid = pod.uid().unwrap_or_default();
            let going = pod.metadata.deletion_timestamp.is_some();
            let over = matches!(owned::phase(pod), "Succeeded" | "Failed");
            if !going && !over && !self.living.contains_key(&uid) {
                self.living.insert(uid.clone(), self.begin(pod));
            }
            if let Some(living) = self.living.get_mut(&uid) {
                if going {
                    living.end.cancel();
                }
                let status = living.state.lock().render(pod);
                if status != living.written {
                    owned::write_status(&self.settings, pod, status.clone()).await?;
                    living.written = status;
                }
            }
            if going && self.living.get(&uid).is_none_or(|living| living.task.is_finished()) {
                owned::forget(&self.settings, pod).await?;
            }
        }
        let known: HashSet<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        // Removed by force: the object is gone, and the process follows with its usual grace.
        for (_, living) in self.living.iter().filter(|(uid, _)| !known.contains(*uid)) {
            living.end.cancel();
        }
        self.living.retain(|uid, living| known.contains(uid) || !living.task.is_finished());
        Ok(())
    }

    fn begin(&self, pod: &Pod) -> Living {
        let state = Arc::new(Mutex::new(PodState::default()));
        let end = CancellationToken::new();
        let life = Life {
            pod: pod.clone(),
            settings: self.settings.clone(),
            state: state.clone(),
            changed: self.changed.clone(),
            end: end.clone(),
        };
        let changed = self.changed.clone();
        let task = tokio::spawn(async move {
            Box::pin(life.run()).await;
            changed.notify_one();
        });
        Living { state, end, task: AbortOnDropHandle::new(task), written: Value::Null }
    }

    /// All at once, as a machine that shuts down.
    pub async fn stop(self) {
        for living in self.living.values() {
            living.end.cancel();
        }
        join_all(self.living.into_values().map(|living| living.task)).await;
    }
}

impl Processes for Pods {
    fn pids(&self, pod: &Pod) -> Vec<u32> {
        let living = pod.uid().and_then(|uid| self.living.get(&uid));
        living.map(|living| living.state.lock().pids()).unwrap_or_default()
    }
}

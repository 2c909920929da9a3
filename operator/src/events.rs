//! Kubernetes events on transitions, with specific reasons. An event is a courtesy: publishing never fails or delays a
//! reconcile.

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Longest note that the API server accepts.
const NOTE_BYTES: usize = 1024;

/// Events that may wait to be published; more are dropped and counted.
const WAITING: usize = 1024;
/// Events under way at once: they are to leave room for what matters more.
const AT_ONCE: usize = 4;
/// A recorder remembers what it published, to fold what is repeated into a series; ten thousand Tenants that become ready
/// would fill it. After this many it begins anew.
const REMEMBERED: usize = 256;

/// Takes events for the [`Publisher`].
#[derive(Clone)]
pub struct Events {
    waiting: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Metrics,
}

/// Publishes what [`Events`] takes, one process's for all of its reconcilers.
pub struct Publisher {
    client: Client,
    reporter: Reporter,
    waiting: mpsc::Receiver<(Event, ObjectReference)>,
}

impl Publisher {
    /// For ever.
    pub async fn run(mut self) {
        let mut under_way = FuturesUnordered::new();
        let mut recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let mut published = 0;
        loop {
            tokio::select! {
                Some(()) = under_way.next() => {}
                Some((event, about)) = self.waiting.recv(), if under_way.len() < AT_ONCE => {
                    if published == REMEMBERED {
                        (recorder, published) = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
                    }
                    published += 1;
                    under_way.push(publish(recorder.clone(), event, about));
                }
                else => return,
            }
        }
    }
}

async fn publish(recorder: Recorder, event: Event, about: ObjectReference) {
    if let Err(error) = recorder.publish(&event, &about).await {
        tracing::debug!(reason = event.reason, error = %error, "an event could not be published");
    }
}

impl Events {
    /// Records as `controller`, naming this pod as the instance.
    pub fn new(client: Client, controller: &str, pod: &str, metrics: Metrics) -> (Self, Publisher) {
        let reporter = Reporter { controller: controller.into(), instance: Some(pod.into()) };
        let (sender, waiting) = mpsc::channel(WAITING);
        (Self { waiting: sender, metrics }, Publisher { client, reporter, waiting })
    }

    /// Tells of something that went as wished. `reason` is CamelCase and specific (`ConfigApplied`), `action` the verb.
    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(EventType::Normal, object.object_ref(&()), reason, action, note.into());
    }

    /// Tells of something that a person should look at.
    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(EventType::Warning, object.object_ref(&()), reason, action, note.into());
    }

    fn publish(&self, type_: EventType, about: ObjectReference, reason: &str, action: &str, mut note: String) {
        note.truncate(note.floor_char_boundary(NOTE_BYTES));
        let event = Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None };
        if self.waiting.try_send((event, about)).is_err() {
            self.metrics.event_dropped();
        }
    }
}

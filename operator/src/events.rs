//! Kubernetes events on transitions, with specific reasons. An event is a courtesy: publishing never fails or delays a
//! reconcile.

use std::collections::HashMap;

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
/// What is repeated word for word is folded into a series; ten thousand Tenants that become ready would fill the memory of
/// it. After this many it begins anew.
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
        // A recorder folds by reason and would keep the first note: another note is another event, which is told anew.
        let mut told = HashMap::<(Option<String>, String), (Option<String>, Recorder)>::new();
        loop {
            tokio::select! {
                Some(()) = under_way.next() => {}
                Some((event, about)) = self.waiting.recv(), if under_way.len() < AT_ONCE => {
                    if told.len() >= REMEMBERED {
                        told.clear();
                    }
                    let fresh = || (event.note.clone(), Recorder::new(self.client.clone(), self.reporter.clone()));
                    let known = told.entry((about.uid.clone(), event.reason.clone())).or_insert_with(fresh);
                    if known.0 != event.note {
                        *known = fresh();
                    }
                    under_way.push(publish(known.1.clone(), event, about));
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

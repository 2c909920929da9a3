//! Kubernetes events on transitions, with specific reasons. An event is a courtesy: publishing never fails or delays a
//! reconcile.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Longest note that the API server accepts.
const NOTE_BYTES: usize = 1024;

/// The one recorder of the process: it folds repeated events into a series.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Records as `controller`, naming this pod as the instance.
    pub fn new(client: Client, controller: &str, pod: &str) -> Self {
        Self(Recorder::new(client, Reporter { controller: controller.into(), instance: Some(pod.into()) }))
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
        let recorder = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::debug!(reason = event.reason, error = %error, "an event could not be published");
            }
        });
    }
}

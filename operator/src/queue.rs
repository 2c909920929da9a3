//! Objects that wait to be reconciled: each at most once, however many reasons it has.

use std::collections::HashSet;

use futures::Stream;
use kube::{
    Resource,
    runtime::{controller::ReconcileRequest, reflector::ObjectRef},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{metrics::Metrics, stores::Kept};

/// The queue of one kind. It is open while this process leads; what is pushed on a closed queue is dropped, because
/// whoever opens it begins with everything.
pub struct Queue<K: Kept> {
    inner: Mutex<Inner<K>>,
    metrics: Metrics,
}

struct Inner<K: Kept> {
    sender: Option<mpsc::UnboundedSender<ReconcileRequest<K>>>,
    /// Pushed and not begun yet. Keeps the channel no longer than there are objects, and a busy object from being
    /// debounced for ever.
    waiting: HashSet<(String, String)>,
}

impl<K: Kept> Queue<K> {
    pub fn new(metrics: Metrics) -> Self {
        Self { inner: Mutex::new(Inner { sender: None, waiting: HashSet::new() }), metrics }
    }

    /// Asks for a visit of this object.
    pub fn push(&self, namespace: &str, name: &str) {
        let mut inner = self.inner.lock();
        let Some(sender) = inner.sender.clone() else { return };
        if inner.waiting.insert((namespace.to_owned(), name.to_owned())) {
            // A closed receiver means that the controller is stopping.
            let _ = sender.send(ReconcileRequest::from(ObjectRef::new(name).within(namespace)));
            self.metrics.queued(&K::kind(&()), inner.waiting.len());
        }
    }

    pub fn push_ref(&self, object: &impl Resource) {
        let meta = object.meta();
        self.push(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    }

    pub fn push_all<'o, O: Resource + 'o>(&self, objects: impl IntoIterator<Item = &'o std::sync::Arc<O>>) {
        objects.into_iter().for_each(|object| self.push_ref(object.as_ref()));
    }

    /// Opens the queue: from now on pushes arrive at the stream.
    pub fn open(&self) -> impl Stream<Item = ReconcileRequest<K>> + use<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.inner.lock() = Inner { sender: Some(sender), waiting: HashSet::new() };
        UnboundedReceiverStream::new(receiver)
    }

    /// Ends the stream; what is being reconciled may finish.
    pub fn close(&self) {
        *self.inner.lock() = Inner { sender: None, waiting: HashSet::new() };
        self.metrics.queued(&K::kind(&()), 0);
    }

    /// The visit begins: a push from now on asks for another one.
    pub fn begun(&self, namespace: &str, name: &str) {
        let mut inner = self.inner.lock();
        inner.waiting.remove(&(namespace.to_owned(), name.to_owned()));
        self.metrics.queued(&K::kind(&()), inner.waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use crds::Tenant;
    use futures::StreamExt;

    use super::*;

    fn drain(stream: impl Stream<Item = ReconcileRequest<Tenant>>) -> Vec<String> {
        let mut names = Vec::new();
        let mut stream = std::pin::pin!(stream);
        while let Some(Some(request)) = futures::FutureExt::now_or_never(stream.next()) {
            names.push(request.obj_ref.name);
        }
        names
    }

    #[test]
    fn an_object_waits_once_until_its_visit_begins() {
        let queue = Queue::<Tenant>::new(Metrics::default());
        let stream = queue.open();
        queue.push("shop", "acme");
        queue.push("shop", "acme");
        queue.begun("shop", "acme");
        queue.push("shop", "acme");
        assert_eq!(drain(stream), ["acme", "acme"]);
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_a_reopened_one_starts_afresh() {
        let queue = Queue::<Tenant>::new(Metrics::default());
        queue.push("shop", "lost");
        let first = queue.open();
        queue.push("shop", "acme");
        queue.close();
        assert_eq!(drain(first), ["acme"]);
        let second = queue.open();
        queue.push("shop", "acme");
        assert_eq!(drain(second), ["acme"]);
    }
}

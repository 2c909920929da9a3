//! Objects of one kind that wait to be reconciled, and the visits under way.

mod schedule;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::schedule::Schedule;
pub use self::schedule::{Id, Lane, Visit};
use crate::{metrics::Metrics, stores::Kept};

/// When an object that was reconciled is looked at again although nothing was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    pub again: Option<Duration>,
}

impl Action {
    /// After this time, at the latest.
    pub const fn requeue(after: Duration) -> Self {
        Self { again: Some(after) }
    }

    /// When something changes.
    pub const fn await_change() -> Self {
        Self { again: None }
    }
}

/// The queue of one kind. It is open while this process leads; what is pushed on a closed queue is dropped, because
/// whoever opens it begins with everything.
pub struct Queue<K> {
    /// `None` while it is closed.
    schedule: Mutex<Option<Schedule>>,
    changed: Notify,
    metrics: Metrics,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kept> Queue<K> {
    pub fn new(metrics: Metrics) -> Self {
        Self { schedule: Mutex::new(None), changed: Notify::new(), metrics, kind: PhantomData }
    }

    /// Asks for a visit of this object, now.
    pub fn push(&self, namespace: &str, name: &str) {
        self.ask(namespace, name, Visit::Whole, Lane::Urgent);
    }

    pub fn push_ref(&self, object: &impl Kept) {
        let (namespace, name) = object.id();
        self.push(namespace, name);
    }

    pub fn push_all<'o, O: Kept>(&self, objects: impl IntoIterator<Item = &'o Arc<O>>) {
        objects.into_iter().for_each(|object| self.push_ref(object.as_ref()));
    }

    /// Asks for visits when nothing more urgent is to be done: of all whom one change concerns.
    pub fn push_later<'o, O: Kept>(&self, objects: impl IntoIterator<Item = &'o Arc<O>>) {
        for object in objects {
            let (namespace, name) = object.id();
            self.ask(namespace, name, Visit::Whole, Lane::Background);
        }
    }

    /// Asks for a visit of this much, in this lane.
    pub fn ask(&self, namespace: &str, name: &str, visit: Visit, lane: Lane) {
        self.change(|schedule| schedule.push((namespace.to_owned(), name.to_owned()), visit, lane));
    }

    /// Asks for one visit for whatever else asks within this time.
    pub fn push_within(&self, namespace: &str, name: &str, time: Duration) {
        let at = Instant::now() + time;
        self.change(|schedule| schedule.push_at((namespace.to_owned(), name.to_owned()), at));
    }

    /// From now on pushes are kept.
    pub fn open(&self) {
        *self.schedule.lock() = Some(Schedule::default());
    }

    /// Ends [`Self::run`]; what is being reconciled may finish.
    pub fn close(&self) {
        *self.schedule.lock() = None;
        self.changed.notify_one();
        self.metrics.queued(&K::kind_name(), 0);
    }

    /// Visits whoever waits, at most `limit` at once, until the queue is closed and the last visit is over. `visit` gives
    /// the time after which it wants to be called again.
    pub async fn run<F: Future<Output = Option<Duration>>>(&self, limit: usize, visit: impl Fn(Id, Visit) -> F) {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < limit
                && let Some((id, depth)) = self.next()
            {
                let visit = visit(id.clone(), depth);
                running.push(async move { (id, visit.await) });
            }
            let wake = match &*self.schedule.lock() {
                None if running.is_empty() => return,
                // A full house is woken by who leaves.
                Some(schedule) if running.len() < limit => schedule.wake(),
                _ => None,
            };
            let sleep = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((id, again)) = running.next() => {
                    let again = again.map(|wait| Instant::now() + wait);
                    self.change(|schedule| schedule.done(&id, again));
                }
                () = self.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn next(&self) -> Option<(Id, Visit)> {
        let mut schedule = self.schedule.lock();
        let schedule = schedule.as_mut()?;
        let next = schedule.next(Instant::now());
        self.metrics.queued(&K::kind_name(), schedule.depth());
        next
    }

    fn change(&self, change: impl FnOnce(&mut Schedule)) {
        if let Some(schedule) = &mut *self.schedule.lock() {
            change(schedule);
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::Tenant;

    use super::*;

    /// Visits until the queue is closed by the last of `names`; says who was visited.
    async fn visited(queue: &Queue<Tenant>, last: &str) -> Vec<String> {
        let seen = Mutex::new(Vec::new());
        queue
            .run(2, async |(_, name), _| {
                if name == last {
                    queue.close();
                }
                seen.lock().push(name);
                None
            })
            .await;
        seen.into_inner()
    }

    #[tokio::test]
    async fn a_closed_queue_takes_nothing_and_a_reopened_one_starts_afresh() {
        let queue = Queue::<Tenant>::new(Metrics::default());
        queue.push("shop", "lost");
        queue.open();
        queue.push("shop", "acme");
        assert_eq!(visited(&queue, "acme").await, ["acme"]);
        queue.push("shop", "lost");
        queue.open();
        queue.push("shop", "beta");
        assert_eq!(visited(&queue, "beta").await, ["beta"]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_within_a_time_is_visited_once() {
        let queue = Queue::<Tenant>::new(Metrics::default());
        queue.open();
        let began = Instant::now();
        for _ in 0..3 {
            queue.push_within("shop", "acme", Duration::from_secs(1));
        }
        assert_eq!(visited(&queue, "acme").await, ["acme"]);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}

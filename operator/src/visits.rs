//! The leader's work: each kind's objects are visited as their queue says, while this process leads.

use std::{collections::HashMap, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    context::Ctx,
    controllers::Queues,
    error::ReconcileError,
    payment_provider, platform,
    queue::{Action, Id, Lane, Queue, Visit},
    rate_limit_policy, role_binding,
    statuses::{Judged, OPENING},
    stores::{Kept, Shelf, Stores},
    tenant,
};

/// Objects of one kind that are visited at once. A Tenant's visit mostly waits for the replicas to load what it wrote.
const CONCURRENCY: usize = 64;
/// A visit that takes longer hangs, and is begun anew.
const LONGEST: Duration = Duration::from_mins(2);
/// How long what has begun may take after the process was asked to stop.
const FINISH: Duration = Duration::from_secs(10);

/// Reconciles until `stop`, then finishes what it has begun. Dropping it stops at once.
pub async fn run(ctx: Arc<Ctx>, queues: Arc<Queues>, stop: impl Future<Output = ()>) {
    // Another leader's verdicts may be newer than ours of an earlier term.
    ctx.outcomes.clear();
    ctx.replicas.open(|| ctx.stores.pods.all());
    let _term = Term { ctx: &ctx, queues: &queues };
    let mut running = JoinSet::new();
    running.spawn(control(&ctx, &queues, |q| &q.platforms, |s| &s.platforms, whole(platform::reconcile)));
    running.spawn(control(&ctx, &queues, |q| &q.tenants, |s| &s.tenants, tenant::visit));
    running.spawn(control(&ctx, &queues, |q| &q.role_bindings, |s| &s.role_bindings, whole(role_binding::reconcile)));
    let (providers, policies) = (whole(payment_provider::reconcile), whole(rate_limit_policy::reconcile));
    running.spawn(control(&ctx, &queues, |q| &q.payment_providers, |s| &s.payment_providers, providers));
    running.spawn(control(&ctx, &queues, |q| &q.rate_limit_policies, |s| &s.rate_limit_policies, policies));
    tokio::select! {
        () = ctx.malformed.run(&ctx.client, || ctx.now()) => {}
        () = stop => {}
    }
    queues.close();
    // What hangs is cut off: the Lease is to be released before the kubelet loses its patience.
    let _ = timeout(FINISH, running.join_all()).await;
}

/// The end of a term, also of one that is cut off.
struct Term<'a> {
    ctx: &'a Ctx,
    queues: &'a Queues,
}

impl Drop for Term<'_> {
    fn drop(&mut self) {
        self.queues.close();
        self.ctx.replicas.close();
    }
}

/// A reconciler that knows whole visits only.
fn whole<K, F>(reconcile: fn(Arc<K>, Arc<Ctx>) -> F) -> impl Fn(Arc<K>, Visit, Arc<Ctx>) -> F {
    move |object, _, ctx| reconcile(object, ctx)
}

/// One kind's controller: everything once, then whatever is pushed, each object never twice at once.
fn control<K, F>(
    ctx: &Arc<Ctx>,
    queues: &Arc<Queues>,
    queue: fn(&Queues) -> &Queue<K>,
    shelf: fn(&Stores) -> &Shelf<K>,
    reconcile: impl Fn(Arc<K>, Visit, Arc<Ctx>) -> F + Send + Sync + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    K: Judged + Kept,
    F: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    queue(queues).open();
    begin(ctx, queue(queues), shelf(&ctx.stores));
    let (ctx, queues) = (ctx.clone(), queues.clone());
    async move {
        let (failures, reconcile) = (Mutex::new(HashMap::<Id, u32>::new()), &reconcile);
        let visit = |id: Id, visit: Visit| {
            let (ctx, failures) = (&ctx, &failures);
            async move {
                let (namespace, name) = &id;
                let Some(object) = shelf(&ctx.stores).get(namespace, name) else {
                    failures.lock().remove(&id);
                    ctx.metrics.recovered::<K>(namespace, name);
                    return None;
                };
                match work(ctx, object.as_ref(), reconcile(object.clone(), visit, ctx.clone())).await {
                    Ok(action) => {
                        ctx.metrics.succeeded(&K::kind_name(), ctx.now());
                        if failures.lock().remove(&id).is_some() {
                            ctx.metrics.recovered::<K>(namespace, name);
                        }
                        action.again
                    }
                    Err(error) => {
                        let count = *failures.lock().entry(id.clone()).and_modify(|count| *count += 1).or_insert(1);
                        failed(ctx, object.as_ref(), &error, count).await
                    }
                }
            }
            .boxed()
        };
        queue(&queues).run(CONCURRENCY, visit).await;
    }
}

/// A new leader looks at everything: at once where something changed while nobody led, and else when nothing is urgent.
fn begin<K: Judged + Kept>(ctx: &Ctx, queue: &Queue<K>, shelf: &Shelf<K>) {
    shelf.each(|object| {
        let meta = object.meta();
        let settled = K::observed(&K::statuses(ctx).of(object)) == meta.generation && meta.deletion_timestamp.is_none();
        let (namespace, name) = object.id();
        queue.ask(namespace, name, Visit::Whole, if settled { Lane::Background } else { Lane::Urgent });
    });
}

/// One visit. Where it takes its time, the object says that it is being worked on.
async fn work<K: Judged + Kept>(
    ctx: &Ctx,
    object: &K,
    work: impl Future<Output = Result<Action, ReconcileError>>,
) -> Result<Action, ReconcileError> {
    let _timer = ctx.metrics.begin(object);
    // An object that breaks our code must not stop the others.
    let mut work = pin!(timeout(LONGEST, AssertUnwindSafe(work).catch_unwind()));
    let done = tokio::select! {
        biased;
        done = &mut work => done,
        () = sleep(OPENING) => {
            if let Err(error) = K::statuses(ctx).open(&ctx.client, object, None, ctx.now()).await {
                tracing::debug!(error = %error, "a status could not be opened");
            }
            work.await
        }
    };
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(ReconcileError::waiting("Panicked", "the reconciler panicked; its log has the place")),
        Err(_) => Err(ReconcileError::waiting("TimedOut", format!("gave up after {LONGEST:?}"))),
    }
}

/// Says that a visit failed, for the `count`th time in a row, and when the next one is.
async fn failed<K: Judged + Kept>(ctx: &Ctx, object: &K, error: &ReconcileError, count: u32) -> Option<Duration> {
    let (namespace, name) = object.id();
    let delay = error.retry().delay(count, rand::random());
    ctx.metrics.failed::<K>(namespace, name, error.reason());
    tracing::warn!(
        kind = %K::kind_name(), namespace, name, reason = error.reason(), failures = count, retry_in = ?delay, error = %error,
        "a reconcile failed",
    );
    if let Err(error) = K::statuses(ctx).open(&ctx.client, object, Some(error), ctx.now()).await {
        tracing::debug!(error = %error, "a status could not be opened");
    }
    delay
}

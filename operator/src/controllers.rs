//! The wiring page: what is watched, and who looks again when it changes.
//!
//! Watches run on every replica, so that a new leader begins with full shelves; reconcilers run on the leader only.

use std::{collections::HashMap, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use contract::names::{
    API_NAME, CONTRACT_VERSION, LABEL_CONTRACT, LABEL_MANAGED_BY, LABEL_NAME, LABEL_PLATFORM, LABEL_TENANT, MANAGED_BY,
    sealing_key_secret,
};
use crds::{PaymentProvider, Platform, RateLimitPolicy, RoleBinding, TargetKind, Tenant};
use futures::{FutureExt, Stream, StreamExt};
use kube::{
    Api, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::{DeserializeGuard, NamespaceResourceScope, error_boundary::InvalidObject},
    runtime::{
        controller::{self, Action, Config, applier},
        reflector::ObjectRef,
        watcher::{self, Event},
    },
};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    context::Ctx,
    error::ReconcileError,
    metrics::Metrics,
    payment_provider,
    peers::PodMonitor,
    platform::{self, scaling},
    queue::Queue,
    rate_limit_policy,
    readiness::Readiness,
    replicas::management_address,
    role_binding,
    stores::{Kept, Key, Shelf, Stores},
    tenant,
    watch::{self, Change, Told},
};

/// How long the first of several triggers waits for the others.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// Objects of one kind that are reconciled at once. High, because a Tenant mostly waits for its replicas' answers; what
/// the API server has to bear is bounded in the client.
const CONCURRENCY: u16 = 256;

/// A reconcile that takes longer hangs, and is begun anew.
const LONGEST: Duration = Duration::from_mins(2);
/// How long what has begun may take after the process was asked to stop.
const FINISH: Duration = Duration::from_secs(10);

/// Who waits to be looked at.
pub struct Queues {
    pub platforms: Queue<Platform>,
    pub tenants: Queue<Tenant>,
    pub role_bindings: Queue<RoleBinding>,
    pub payment_providers: Queue<PaymentProvider>,
    pub rate_limit_policies: Queue<RateLimitPolicy>,
}

impl Queues {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            platforms: Queue::new(metrics.clone()),
            tenants: Queue::new(metrics.clone()),
            role_bindings: Queue::new(metrics.clone()),
            payment_providers: Queue::new(metrics.clone()),
            rate_limit_policies: Queue::new(metrics.clone()),
        }
    }
}

/// Starts every watch. They end with the set.
pub fn watch_all(ctx: &Arc<Ctx>, queues: &Arc<Queues>, readiness: &Readiness) -> JoinSet<()> {
    let mut watches = Watches { ctx, queues, readiness, tasks: JoinSet::new() };
    let every = watcher::Config::default();
    let ours = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));

    // A Platform concerns itself; the Tenants of its namespace, which may be served by it from now on or no longer; and
    // the policies, whose target it may be.
    watches.whole(
        |s| &s.platforms,
        &every,
        |change, ctx, queues| {
            if !change.is_intent() {
                return;
            }
            for platform in change.both() {
                let namespace = platform.namespace().unwrap_or_default();
                queues.platforms.push_ref(platform.as_ref());
                queues.tenants.push_all(&ctx.stores.tenants.within(&namespace));
                queues.rate_limit_policies.push_all(&ctx.stores.rate_limit_policies.within(&namespace));
            }
        },
    );

    // A Tenant concerns itself, whoever claims the same hostnames, what is attached to it, and its Platform, which
    // counts it and routes its hostnames.
    watches.whole(
        |s| &s.tenants,
        &every,
        |change, ctx, queues| {
            for tenant in change.both().filter(|_| change.is_intent()) {
                queues.tenants.push_ref(tenant.as_ref());
                for hostname in &tenant.spec.hostnames {
                    queues.tenants.push_all(&ctx.stores.tenants.find(&Key::Hostname(hostname.clone())));
                }
                judged(tenant, ctx, queues);
            }
            let routed = |tenant: &Arc<Tenant>| (platform::validate::held(tenant), tenant.spec.platform_ref.clone());
            if change.before.as_ref().map(routed) != change.after.as_ref().map(routed) {
                let platforms =
                    change.both().flat_map(|t| ctx.stores.platforms.within(&t.namespace().unwrap_or_default()));
                queues.platforms.push_all(&platforms.collect::<Vec<_>>());
            }
        },
    );

    // A RoleBinding concerns itself and its Tenant.
    watches.whole(
        |s| &s.role_bindings,
        &every,
        |change, _, queues| {
            for binding in change.both().filter(|_| change.is_intent()) {
                queues.role_bindings.push_ref(binding.as_ref());
                queues.tenants.push(&binding.namespace().unwrap_or_default(), &binding.spec.tenant_ref.name);
            }
        },
    );

    // A PaymentProvider concerns itself, its Tenant, and the Tenant's other providers: only one is the default.
    watches.whole(
        |s| &s.payment_providers,
        &every,
        |change, ctx, queues| {
            for provider in change.both().filter(|_| change.is_intent()) {
                let (namespace, tenant) = (provider.namespace().unwrap_or_default(), &provider.spec.tenant_ref.name);
                queues.payment_providers.push_ref(provider.as_ref());
                queues
                    .payment_providers
                    .push_all(&ctx.stores.payment_providers.find(&Key::Tenant(namespace.clone(), tenant.clone())));
                queues.tenants.push(&namespace, tenant);
            }
        },
    );

    // A RateLimitPolicy concerns itself, the Tenants it limits, and the policies that it may override or yield to.
    watches.whole(
        |s| &s.rate_limit_policies,
        &every,
        |change, ctx, queues| {
            for policy in change.both().filter(|_| change.is_intent()) {
                let (namespace, target) = (policy.namespace().unwrap_or_default(), &policy.spec.target_ref);
                queues.rate_limit_policies.push_all(&ctx.stores.rate_limit_policies.within(&namespace));
                queues.rate_limit_policies.push_ref(policy.as_ref());
                match target.kind {
                    TargetKind::Tenant => queues.tenants.push(&namespace, &target.name),
                    TargetKind::Platform => queues.tenants.push_all(&ctx.stores.tenants.within(&namespace)),
                }
            }
        },
    );

    // A Secret concerns whoever names it; ours say by label whose they are.
    watches.metadata(
        |s| &s.secrets,
        &every,
        |change, ctx, queues| {
            for secret in change.both() {
                let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                let key = Key::Secret(namespace.clone(), name.clone());
                let providers = ctx.stores.payment_providers.find(&key);
                for provider in &providers {
                    queues.tenants.push(&namespace, &provider.spec.tenant_ref.name);
                }
                queues.payment_providers.push_all(&providers);
                queues.tenants.push_all(&ctx.stores.tenants.find(&key));
                queues.platforms.push_all(&ctx.stores.platforms.find(&key));
                if let Some(tenant) = secret.labels().get(LABEL_TENANT) {
                    queues.tenants.push(&namespace, tenant);
                } else if let Some(platform) = secret.labels().get(LABEL_PLATFORM) {
                    queues.platforms.push(&namespace, platform);
                    if name == sealing_key_secret(platform) {
                        queues.tenants.push_all(&ctx.stores.tenants.within(&namespace));
                    }
                }
            }
        },
    );

    // A document that somebody touched concerns its Tenant; the echo of our own write does not.
    let documents = watcher::Config::default().labels(&format!("{LABEL_CONTRACT}={CONTRACT_VERSION}"));
    watches.metadata(
        |s| &s.documents,
        &documents,
        |change, ctx, queues| {
            if change.after.as_ref().is_some_and(|document| ctx.outcomes.wrote(document.as_ref())) {
                return;
            }
            for document in change.both() {
                if let Some(tenant) = document.labels().get(LABEL_TENANT) {
                    queues.tenants.push(&document.namespace().unwrap_or_default(), tenant);
                }
            }
        },
    );

    // A pod of the API that became ready, or ceased to be, concerns its Platform and what its Tenants can claim.
    let pods = watcher::Config::default().labels(&format!("{LABEL_NAME}={API_NAME}"));
    watches.whole(
        |s| &s.pods,
        &pods,
        |change, ctx, queues| {
            let answers = |pod: &Option<Arc<_>>| pod.as_ref().and_then(|pod| management_address(pod));
            if answers(&change.before) != answers(&change.after) {
                for pod in change.both() {
                    let namespace = pod.namespace().unwrap_or_default();
                    pod.labels()
                        .get(LABEL_PLATFORM)
                        .into_iter()
                        .for_each(|name| queues.platforms.push(&namespace, name));
                    queues.tenants.push_all(&ctx.stores.tenants.within(&namespace));
                }
            }
        },
    );

    // What a Platform is made of concerns it: progress as well as drift.
    watches.whole(|s| &s.deployments, &ours, owned);
    watches.whole(|s| &s.jobs, &ours, owned);
    watches.metadata(|s| &s.services, &ours, owned);
    watches.metadata(|s| &s.service_accounts, &ours, owned);
    watches.metadata(|s| &s.roles, &ours, owned);
    watches.metadata(|s| &s.grants, &ours, owned);
    watches.metadata(|s| &s.ingresses, &ours, owned);
    watches.metadata(|s| &s.disruption_budgets, &ours, owned);
    // An autoscaler writes its measurements every few seconds; what it can do and what was declared change seldom.
    watches.whole(
        |s| &s.autoscalers,
        &ours,
        |change, ctx, queues| {
            if change.differs(|autoscaler| (autoscaler.spec.clone(), scaling::ability(autoscaler))) {
                owned(change, ctx, queues);
            }
        },
    );

    // Kinds of other projects: when one is installed or removed, whoever wants one looks again.
    watches.discovery();
    watches.peer(|s| &s.routes, &ours, watch::whole, owned);
    watches.peer(|s| &s.scaled_objects, &ours, watch::whole, owned);
    watches.peer(|s| &s.pod_monitors, &ours, watch::metadata::<PodMonitor>, owned);

    // What a Tenant's reconcile made of the objects around it concerns them, and the policies of its Platform.
    let (ctx, queues, mut news) = (ctx.clone(), queues.clone(), ctx.outcomes.listen());
    watches.tasks.spawn(async move {
        while let Some((namespace, name)) = news.recv().await {
            let stores = &ctx.stores;
            let key = Key::Tenant(namespace.clone(), name.clone());
            queues.role_bindings.push_all(&stores.role_bindings.find(&key));
            queues.payment_providers.push_all(&stores.payment_providers.find(&key));
            queues.rate_limit_policies.push_all(&stores.rate_limit_policies.find(&key));
            let platform = stores.tenants.get(&namespace, &name).and_then(|tenant| stores.platform_of(&tenant));
            if let Some(platform) = platform {
                let key = Key::Platform(namespace, platform.name_any());
                queues.rate_limit_policies.push_all(&stores.rate_limit_policies.find(&key));
            }
        }
    });
    watches.tasks
}

fn owned<K: Kept>(change: &Change<K>, _: &Ctx, queues: &Queues) {
    for object in change.both() {
        let (namespace, labels) = (object.namespace().unwrap_or_default(), object.labels());
        if let Some(tenant) = labels.get(LABEL_TENANT) {
            queues.tenants.push(&namespace, tenant);
        } else if let Some(platform) = labels.get(LABEL_PLATFORM) {
            queues.platforms.push(&namespace, platform);
        }
    }
}

struct Watches<'a> {
    ctx: &'a Arc<Ctx>,
    queues: &'a Arc<Queues>,
    readiness: &'a Readiness,
    tasks: JoinSet<()>,
}

type OnChange<K> = fn(&Change<K>, &Ctx, &Queues);

impl Watches<'_> {
    fn whole<K>(&mut self, kept: fn(&Stores) -> &Shelf<K>, config: &watcher::Config, on: OnChange<K>)
    where
        K: Kept + watch::Watched,
    {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            self.start(scope, watch::whole(api, config.clone()), kept, on);
        }
    }

    fn metadata<K: watch::Watched>(
        &mut self,
        kept: fn(&Stores) -> &Shelf<PartialObjectMeta<K>>,
        config: &watcher::Config,
        on: OnChange<PartialObjectMeta<K>>,
    ) {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            self.start(scope, watch::metadata::<K>(api, config.clone()), kept, on);
        }
    }

    /// Looks for the kinds of other projects. Nobody reconciles before the first look: a kind that is only not known yet
    /// must not be reported as missing.
    fn discovery(&mut self) {
        let (ctx, queues) = (self.ctx.clone(), self.queues.clone());
        let looked = self.readiness.waits_for("the list of installed kinds");
        self.tasks.spawn(async move {
            let tell = || {
                looked.done();
                queues.platforms.push_all(&ctx.stores.platforms.all());
            };
            ctx.installed.follow(&ctx.client, tell).await;
        });
    }

    /// A kind of another project: watched while it is installed, and without anybody waiting for its list.
    fn peer<K, A, S>(
        &mut self,
        kept: fn(&Stores) -> &Shelf<K>,
        config: &watcher::Config,
        events: fn(Api<A>, watcher::Config) -> S,
        on: OnChange<K>,
    ) where
        K: watch::Watched + Kept,
        A: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Send + Sync + 'static,
        S: Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send + 'static,
    {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            let (ctx, queues, config) = (self.ctx.clone(), self.queues.clone(), config.clone());
            self.tasks.spawn(async move {
                let tell = |told| match told {
                    Told::Changed(change) => on(&change, &ctx, &queues),
                    Told::Unreadable(object) => unreadable::<K>(&ctx, *object),
                    Told::Synced => {}
                };
                loop {
                    ctx.installed.until::<K>(true).await;
                    let (scope, shelf) = (scope.as_deref(), kept(&ctx.stores));
                    let watching = watch::keep(scope, events(api.clone(), config.clone()), shelf, tell);
                    tokio::select! {
                        () = watching => {}
                        () = ctx.installed.until::<K>(false) => {}
                    }
                    // The objects went with their kind.
                    watch::clear(scope, shelf, tell);
                }
            });
        }
    }

    fn start<K: Kept>(
        &mut self,
        scope: Option<String>,
        events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send + 'static,
        kept: fn(&Stores) -> &Shelf<K>,
        on: OnChange<K>,
    ) {
        let (ctx, queues) = (self.ctx.clone(), self.queues.clone());
        let listed = self.readiness.waits_for(&format!("the list of {}", K::plural(&())));
        self.tasks.spawn(async move {
            let tell = |told| match told {
                Told::Changed(change) => on(&change, &ctx, &queues),
                Told::Unreadable(object) => unreadable::<K>(&ctx, *object),
                Told::Synced => listed.done(),
            };
            watch::keep(scope.as_deref(), events, kept(&ctx.stores), tell).await;
        });
    }
}

/// The object's own status cannot say it, because nobody knows what else stands there.
fn unreadable<K: Kept>(ctx: &Ctx, object: InvalidObject) {
    let (kind, meta) = (K::kind(&()), &object.metadata);
    ctx.metrics.malformed(&kind);
    tracing::warn!(
        %kind, namespace = meta.namespace, name = meta.name, error = object.error,
        "an object cannot be read as its kind and is left as it was",
    );
    let note = format!("this {kind} cannot be read and its last good version stays in force: {}", object.error);
    ctx.events.warning(&DeserializeGuard::<K>(Err(object)), "Malformed", "Read", note);
}

/// Reconciles until `stop`, then finishes what it has begun. Dropping it stops at once.
pub async fn run(ctx: Arc<Ctx>, queues: Arc<Queues>, stop: impl Future<Output = ()>) {
    let stores = &ctx.stores;
    let visit_tenant = {
        let queues = queues.clone();
        move |tenant: Arc<Tenant>, ctx: Arc<Ctx>| {
            let queues = queues.clone();
            async move {
                let done = tenant::reconcile(tenant.clone(), ctx.clone()).await;
                judged(&tenant, &ctx, &queues);
                done
            }
        }
    };
    let mut running = JoinSet::new();
    running.spawn(control(&ctx, &queues, |q| &q.platforms, &stores.platforms, platform::reconcile));
    running.spawn(control(&ctx, &queues, |q| &q.tenants, &stores.tenants, visit_tenant));
    running.spawn(control(&ctx, &queues, |q| &q.role_bindings, &stores.role_bindings, role_binding::reconcile));
    let (providers, policies) = (&stores.payment_providers, &stores.rate_limit_policies);
    running.spawn(control(&ctx, &queues, |q| &q.payment_providers, providers, payment_provider::reconcile));
    running.spawn(control(&ctx, &queues, |q| &q.rate_limit_policies, policies, rate_limit_policy::reconcile));
    stop.await;
    queues.platforms.close();
    queues.tenants.close();
    queues.role_bindings.close();
    queues.payment_providers.close();
    queues.rate_limit_policies.close();
    // What hangs is cut off: the Lease is to be released before the kubelet loses its patience.
    let _ = timeout(FINISH, running.join_all()).await;
}

/// A Tenant's visit leaves a verdict on everything that is attached to it, which the statuses of those repeat.
fn judged(tenant: &Tenant, ctx: &Ctx, queues: &Queues) {
    let (namespace, stores) = (tenant.namespace().unwrap_or_default(), &ctx.stores);
    let key = Key::Tenant(namespace.clone(), tenant.name_any());
    queues.role_bindings.push_all(&stores.role_bindings.find(&key));
    queues.payment_providers.push_all(&stores.payment_providers.find(&key));
    queues.rate_limit_policies.push_all(&stores.rate_limit_policies.find(&key));
    if let Some(platform) = stores.platform_of(tenant) {
        let key = Key::Platform(namespace, platform.name_any());
        queues.rate_limit_policies.push_all(&stores.rate_limit_policies.find(&key));
    }
}

/// One kind's controller: everything once, then whatever is pushed, each object never twice at once.
fn control<K, F>(
    ctx: &Arc<Ctx>,
    queues: &Arc<Queues>,
    queue: fn(&Queues) -> &Queue<K>,
    shelf: &Shelf<K>,
    reconcile: impl Fn(Arc<K>, Arc<Ctx>) -> F + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    K: Kept + std::fmt::Debug,
    F: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let (stream, store) = (queue(queues).open(), shelf.store());
    queue(queues).push_all(&shelf.all());
    let failures = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let (ctx, queues) = (ctx.clone(), queues.clone());
    async move {
        let visit = {
            let (queues, failures, store) = (queues.clone(), failures.clone(), store.clone());
            move |object: Arc<K>, ctx: Arc<Ctx>| {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                queue(&queues).begun(&namespace, &name);
                // Read anew: a change that came between the applier's look and `begun` was not queued again.
                let object = store.get(&ObjectRef::from_obj(object.as_ref())).unwrap_or(object);
                let (failures, work) = (failures.clone(), reconcile(object.clone(), ctx.clone()));
                async move {
                    let timer = ctx.metrics.begin(object.as_ref());
                    // An object that breaks our code must not stop the others.
                    let done = match timeout(LONGEST, AssertUnwindSafe(work).catch_unwind()).await {
                        Ok(Ok(done)) => done,
                        Ok(Err(_)) => {
                            Err(ReconcileError::waiting("Panicked", "the reconciler panicked; its log has the place"))
                        }
                        Err(_) => Err(ReconcileError::waiting("TimedOut", format!("gave up after {LONGEST:?}"))),
                    };
                    drop(timer);
                    if done.is_ok() {
                        ctx.metrics.succeeded(&K::kind(&()), ctx.now());
                        failures.lock().remove(&format!("{namespace}/{name}"));
                    }
                    done
                }
                .boxed()
            }
        };
        let retry = move |object: Arc<K>, error: &ReconcileError, ctx: Arc<Ctx>| {
            let id = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            let count = *failures.lock().entry(id.clone()).and_modify(|count| *count += 1).or_insert(1);
            let delay = error.retry().delay(count, rand::random());
            ctx.metrics.failed(&K::kind(&()), error.reason());
            tracing::warn!(
                kind = %K::kind(&()), object = id, reason = error.reason(), failures = count, retry_in = ?delay, error = %error,
                "a reconcile failed",
            );
            delay.map_or_else(Action::await_change, Action::requeue)
        };
        let config = Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY);
        let requests = stream.map(Ok::<_, std::convert::Infallible>);
        applier(visit, retry, ctx, store, requests, config)
            .for_each(|done| {
                // Pushed and deleted before its turn came: it must be possible to push its successor.
                if let Err(controller::Error::ObjectNotFound(object)) = done {
                    queue(&queues).begun(object.namespace.as_deref().unwrap_or_default(), &object.name);
                }
                std::future::ready(())
            })
            .await;
    }
}

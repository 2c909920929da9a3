//! The wiring page: what is watched, and who looks again when it changes.
//!
//! Watches run on every replica, so that a new leader begins with full shelves; reconcilers run on the leader only.

use std::{sync::Arc, time::Duration};

use contract::names::{
    API_NAME, CONTRACT_VERSION, LABEL_CONTRACT, LABEL_MANAGED_BY, LABEL_NAME, LABEL_PLATFORM, LABEL_TENANT, MANAGED_BY,
    sealing_key_secret,
};
use crds::{PaymentProvider, Platform, RateLimitPolicy, RoleBinding, TargetKind, Tenant, conditions::reasons};
use futures::Stream;
use kube::{
    Api, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::{DeserializeGuard, NamespaceResourceScope, error_boundary::InvalidObject},
    runtime::watcher::{self, Event},
};
use tokio::task::JoinSet;

use crate::{
    context::Ctx,
    kube_ext::Namespaced,
    metrics::Metrics,
    peers::PodMonitor,
    platform::{self, scaling},
    queue::{Lane, Queue, Visit},
    readiness::Readiness,
    replicas::News,
    statuses::Judged,
    stores::{Kept, Key, Shelf, Stores},
    watch::{self, Change, Told},
};

/// What many Tenants ask of their one Platform at once, a look at all of them, is done once in this time.
const TOGETHER: Duration = Duration::from_millis(250);

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

    /// Takes nothing more; what is being reconciled may finish.
    pub fn close(&self) {
        let Self { platforms, tenants, role_bindings, payment_providers, rate_limit_policies } = self;
        platforms.close();
        tenants.close();
        role_bindings.close();
        payment_providers.close();
        rate_limit_policies.close();
    }
}

/// Starts every watch. They end with the set.
pub fn watch_all(ctx: &Arc<Ctx>, queues: &Arc<Queues>, readiness: &Readiness) -> JoinSet<()> {
    let mut watches = Watches { ctx, queues, readiness, tasks: JoinSet::new() };
    let every = watcher::Config::default();
    let ours = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));

    // A Platform concerns itself; the Tenants of its namespace, which may be served by it from now on or no longer; and
    // the policies, whose target it may be.
    watches.judged(
        |s| &s.platforms,
        &every,
        |change, ctx, queues| {
            if !change.is_intent() {
                return;
            }
            for platform in change.both() {
                let (namespace, _) = platform.id();
                queues.platforms.push_ref(platform.as_ref());
                // Or it sends mail from now on, or no longer, which some of them need.
                if change.differs(|platform| platform.spec.mail.is_some()) {
                    queues.tenants.push_later(&ctx.stores.tenants.within(namespace));
                }
                if change.before.is_none() || change.after.is_none() {
                    queues.rate_limit_policies.push_all(&ctx.stores.rate_limit_policies.within(namespace));
                }
                // Their webhooks' addresses follow the ingress.
                queues.payment_providers.push_later(&ctx.stores.payment_providers.within(namespace));
            }
        },
    );

    // A Tenant concerns itself, whoever claims the same hostnames, what is attached to it, and its Platform, which
    // counts it and routes its hostnames.
    watches.judged(
        |s| &s.tenants,
        &every,
        |change, ctx, queues| {
            for tenant in change.both().filter(|_| change.is_intent()) {
                queues.tenants.push_ref(tenant.as_ref());
                for hostname in &tenant.spec.hostnames {
                    queues.tenants.push_all(&ctx.stores.tenants.find(&Key::Hostname(hostname.clone())));
                }
                let (namespace, name) = tenant.id();
                judged(namespace, name, ctx, queues);
            }
            let routed = |tenant: &Arc<Tenant>| (platform::validate::held(tenant), tenant.spec.platform_ref.clone());
            if change.before.as_ref().map(routed) != change.after.as_ref().map(routed) {
                let platforms =
                    change.both().flat_map(|t| ctx.stores.platforms.within(&t.namespace().unwrap_or_default()));
                for platform in platforms {
                    let (namespace, name) = platform.id();
                    queues.platforms.push_within(namespace, name, TOGETHER);
                }
            }
        },
    );

    // A RoleBinding concerns itself and its Tenant.
    watches.judged(
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
    watches.judged(
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
    watches.judged(
        |s| &s.rate_limit_policies,
        &every,
        |change, ctx, queues| {
            for policy in change.both().filter(|_| change.is_intent()) {
                let (namespace, target) = (policy.namespace().unwrap_or_default(), &policy.spec.target_ref);
                queues.rate_limit_policies.push_all(&ctx.stores.rate_limit_policies.within(&namespace));
                queues.rate_limit_policies.push_ref(policy.as_ref());
                match target.kind {
                    TargetKind::Tenant => queues.tenants.push(&namespace, &target.name),
                    TargetKind::Platform => queues.tenants.push_later(&ctx.stores.tenants.within(&namespace)),
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
                let (namespace, name) = secret.id();
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                let key = Key::Secret(namespace.clone(), name.clone());
                let providers = ctx.stores.payment_providers.find(&key);
                for provider in &providers {
                    queues.tenants.push(&namespace, &provider.spec.tenant_ref.name);
                }
                queues.payment_providers.push_all(&providers);
                queues.tenants.push_all(&ctx.stores.tenants.find(&key));
                queues.platforms.push_all(&ctx.stores.platforms.find(&key));
                if let Some(tenant) = secret.label(LABEL_TENANT) {
                    queues.tenants.push(&namespace, tenant);
                } else if let Some(platform) = secret.label(LABEL_PLATFORM) {
                    queues.platforms.push(&namespace, platform);
                    if name == sealing_key_secret(platform) {
                        queues.tenants.push_later(&ctx.stores.tenants.within(&namespace));
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
            match &change.after {
                Some(document) if ctx.outcomes.wrote(document.as_ref()) => return,
                Some(_) => {}
                None => change.both().for_each(|document| ctx.outcomes.forget_write(document.as_ref())),
            }
            for document in change.both() {
                if let Some(tenant) = document.label(LABEL_TENANT) {
                    queues.tenants.push(document.id().0, tenant);
                }
            }
        },
    );

    // A pod of the API that became ready, or ceased to be, concerns its Platform, and who follows what it serves.
    let pods = watcher::Config::default().labels(&format!("{LABEL_NAME}={API_NAME}"));
    watches.whole(
        |s| &s.pods,
        &pods,
        |change, ctx, queues| {
            for pod in change.both() {
                ctx.replicas.see(change.after.as_deref(), pod);
                if let Some(platform) = pod.labels().get(LABEL_PLATFORM) {
                    queues.platforms.push(&pod.namespace().unwrap_or_default(), platform);
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
    watches.whole(|s| &s.stateful_sets, &ours, owned);
    watches.metadata(|s| &s.cron_jobs, &ours, owned);
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
    watches.peer(|s| &s.pod_monitors, &ours, watch::metadata::<PodMonitor, _>, owned);

    watches.listen();
    watches.tasks
}

fn owned<K: Kept>(change: &Change<K>, _: &Ctx, queues: &Queues) {
    for object in change.both() {
        let (namespace, _) = object.id();
        if let Some(tenant) = object.label(LABEL_TENANT) {
            queues.tenants.push(namespace, tenant);
        } else if let Some(platform) = object.label(LABEL_PLATFORM) {
            queues.platforms.push(namespace, platform);
        }
    }
}

/// What is attached to a Tenant repeats the verdict that its reconcile reached, and so do the policies of its Platform.
fn judged(namespace: &str, tenant: &str, ctx: &Ctx, queues: &Queues) {
    let stores = &ctx.stores;
    let key = Key::Tenant(namespace.to_owned(), tenant.to_owned());
    queues.role_bindings.push_all(&stores.role_bindings.find(&key));
    queues.payment_providers.push_all(&stores.payment_providers.find(&key));
    queues.rate_limit_policies.push_all(&stores.rate_limit_policies.find(&key));
    let platform = stores.tenants.get(namespace, tenant).and_then(|tenant| stores.platform_of(&tenant));
    if let Some(platform) = platform {
        let key = Key::Platform(namespace.to_owned(), platform.name_any());
        for policy in stores.rate_limit_policies.find(&key) {
            queues.rate_limit_policies.push_within(namespace, policy.id().1, TOGETHER);
        }
    }
}

/// The replicas said something new: who gets another verdict by it is looked at. Where only a count is another (a pod more
/// serves what all served before) there is no hurry.
fn answered(news: News, ctx: &Ctx, queues: &Queues) {
    let (platform, names, everybody) = match news {
        News::Tenants { platform, names } => (platform, names, false),
        News::Everybody { platform } => {
            let names = ctx.outcomes.served_by(&platform);
            (platform, names, true)
        }
    };
    let (namespace, _) = &platform;
    for name in names {
        let lane = match ctx.outcomes.get(namespace, &name).as_deref() {
            None if ctx.stores.tenants.get(namespace, &name).is_none() => continue,
            None => Lane::Urgent,
            Some(known) => {
                let Some(serving) = known.serving.as_ref().filter(|serving| serving.platform == platform.1) else {
                    continue;
                };
                let now = ctx.replicas.loaded(&platform, &name, &serving.revision);
                if now == serving.loaded {
                    continue;
                }
                if everybody || now.everywhere() && serving.loaded.everywhere() {
                    Lane::Background
                } else {
                    Lane::Urgent
                }
            }
        };
        queues.tenants.ask(namespace, &name, Visit::Answers, lane);
    }
}

struct Watches<'a> {
    ctx: &'a Arc<Ctx>,
    queues: &'a Arc<Queues>,
    readiness: &'a Readiness,
    tasks: JoinSet<()>,
}

type OnChange<K> = fn(&Change<K>, &Ctx, &Queues);
type Seen<K> = fn(&Change<K>, &Ctx);
type OnUnreadable = fn(&Ctx, InvalidObject);

impl Watches<'_> {
    /// A kind whose status is ours to write.
    fn judged<K: Judged>(&mut self, kept: fn(&Stores) -> &Shelf<K>, config: &watcher::Config, on: OnChange<K>) {
        let seen: Seen<K> = |change, ctx| {
            for object in change.after.iter().chain(change.before.iter().filter(|_| change.after.is_none())) {
                K::statuses(ctx).told(object, change.after.is_none());
                ctx.malformed.forget(object.uid().as_deref());
            }
        };
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            let ctx = self.ctx.clone();
            // No reconciler asks for labels, and a map of them takes as much as a small spec.
            let events = watch::prepared(watch::whole(api, config.clone()), move |object: &mut K| {
                object.meta_mut().labels = None;
                K::statuses(&ctx).shelve(object);
            });
            let malformed: OnUnreadable = |ctx, object| {
                ctx.malformed.note::<K>(&object);
                unreadable::<K>(ctx, object);
            };
            self.start(scope, events, kept, (seen, on, malformed));
        }
    }

    fn whole<K>(&mut self, kept: fn(&Stores) -> &Shelf<K>, config: &watcher::Config, on: OnChange<K>)
    where
        K: Kept + Namespaced,
    {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            self.start(scope, watch::whole(api, config.clone()), kept, (|_, _| (), on, unreadable::<K>));
        }
    }

    fn metadata<K: Namespaced, N: Kept + From<PartialObjectMeta<K>>>(
        &mut self,
        kept: fn(&Stores) -> &Shelf<N>,
        config: &watcher::Config,
        on: OnChange<N>,
    ) {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            // Metadata can always be read.
            self.start(scope, watch::metadata::<K, N>(api, config.clone()), kept, (|_, _| (), on, |_, _| ()));
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
        K: Namespaced + Kept,
        A: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Send + Sync + 'static,
        S: Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send + 'static,
    {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            let (ctx, queues, config) = (self.ctx.clone(), self.queues.clone(), config.clone());
            self.tasks.spawn(async move {
                let tell = |told| match told {
                    Told::Changed(change) => on(&change, &ctx, &queues),
                    Told::Unreadable(object) => unreadable::<K>(&ctx, *object),
                    Told::Interrupted => ctx.metrics.watch_restarted(&K::kind_name()),
                    Told::Synced => {}
                };
                loop {
                    ctx.installed.until::<K>(true).await;
                    let (scope, objects) = (scope.as_deref(), kept(&ctx.stores));
                    let watching = watch::keep(scope, events(api.clone(), config.clone()), objects, tell);
                    tokio::select! {
                        () = watching => {}
                        () = ctx.installed.until::<K>(false) => {}
                    }
                    // The objects went with their kind.
                    watch::clear(scope, objects, tell);
                }
            });
        }
    }

    fn start<K: Kept>(
        &mut self,
        scope: Option<String>,
        events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send + 'static,
        kept: fn(&Stores) -> &Shelf<K>,
        (seen, on, unreadable): (Seen<K>, OnChange<K>, OnUnreadable),
    ) {
        let (ctx, queues) = (self.ctx.clone(), self.queues.clone());
        let listed = self.readiness.waits_for(&format!("the list of {}", K::plural_name()));
        self.tasks.spawn(async move {
            let tell = |told| match told {
                Told::Changed(change) => {
                    seen(&change, &ctx);
                    on(&change, &ctx, &queues);
                }
                Told::Unreadable(object) => unreadable(&ctx, *object),
                Told::Interrupted => ctx.metrics.watch_restarted(&K::kind_name()),
                Told::Synced => listed.done(),
            };
            watch::keep(scope.as_deref(), events, kept(&ctx.stores), tell).await;
        });
    }

    /// What is heard inside of this process.
    fn listen(&mut self) {
        let (ctx, queues, mut outcomes) = (self.ctx.clone(), self.queues.clone(), self.ctx.outcomes.listen());
        self.tasks.spawn(async move {
            while let Some((namespace, name)) = outcomes.recv().await {
                judged(&namespace, &name, &ctx, &queues);
            }
        });
        let (ctx, queues, mut replicas) = (self.ctx.clone(), self.queues.clone(), self.ctx.replicas.listen());
        self.tasks.spawn(async move {
            while let Some(news) = replicas.recv().await {
                answered(news, &ctx, &queues);
            }
        });
    }
}

/// Says it in metrics, log and event, which every kind has.
fn unreadable<K: Resource<DynamicType = ()>>(ctx: &Ctx, object: InvalidObject) {
    let (kind, meta) = (K::kind(&()), &object.metadata);
    ctx.metrics.malformed(&kind);
    tracing::warn!(
        %kind, namespace = meta.namespace, name = meta.name, error = object.error,
        "an object cannot be read as its kind and is left as it was",
    );
    let note = format!("this {kind} cannot be read and its last good version stays in force: {}", object.error);
    ctx.events.warning(&DeserializeGuard::<K>(Err(object)), reasons::MALFORMED, "Read", note);
}

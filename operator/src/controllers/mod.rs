//! The wiring page: what is watched, and who looks again when it changes.
//!
//! Watches run on every replica, so that a new leader begins with full shelves; reconcilers run on the leader only.

mod queues;
mod watches;

use std::{sync::Arc, time::Duration};

use contract::names::{
    API_NAME, CONTRACT_VERSION, LABEL_CONTRACT, LABEL_MANAGED_BY, LABEL_NAME, LABEL_PLATFORM, LABEL_TENANT, MANAGED_BY,
    sealing_key_secret,
};
use crds::{TargetKind, Tenant};
use kube::{ResourceExt, runtime::watcher};
use tokio::task::JoinSet;

pub use self::queues::Queues;
use self::watches::Watches;
use crate::{
    context::Ctx,
    peers::PodMonitor,
    platform::{self, scaling},
    queue::{Lane, Visit},
    readiness::Readiness,
    replicas::News,
    stores::{Kept, Key},
    watch::{self, Change},
};

/// What many Tenants ask of their one Platform at once, a look at all of them, is done once in this time.
const TOGETHER: Duration = Duration::from_millis(250);

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

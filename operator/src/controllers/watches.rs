//! How a watch of each sort is run: what it keeps on its shelf, and whom it tells.

use std::sync::Arc;

use crds::conditions::reasons;
use futures::Stream;
use kube::{
    Api, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::{DeserializeGuard, NamespaceResourceScope, error_boundary::InvalidObject},
    runtime::watcher::{self, Event},
};
use tokio::task::JoinSet;

use super::{Queues, answered, judged};
use crate::{
    context::Ctx,
    kube_ext::Namespaced,
    readiness::Readiness,
    statuses::Judged,
    stores::{Kept, Shelf, Stores},
    watch::{self, Change, Told},
};

/// Watches that have been started; they end with `tasks`.
pub(super) struct Watches<'a> {
    pub ctx: &'a Arc<Ctx>,
    pub queues: &'a Arc<Queues>,
    pub readiness: &'a Readiness,
    pub tasks: JoinSet<()>,
}

type OnChange<K> = fn(&Change<K>, &Ctx, &Queues);
type Seen<K> = fn(&Change<K>, &Ctx);
type OnUnreadable = fn(&Ctx, InvalidObject);

impl Watches<'_> {
    /// A kind whose status is ours to write.
    pub fn judged<K: Judged>(&mut self, kept: fn(&Stores) -> &Shelf<K>, config: &watcher::Config, on: OnChange<K>) {
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

    pub fn whole<K>(&mut self, kept: fn(&Stores) -> &Shelf<K>, config: &watcher::Config, on: OnChange<K>)
    where
        K: Kept + Namespaced,
    {
        for (scope, api) in watch::apis(&self.ctx.client, &self.ctx.settings.namespaces()) {
            self.start(scope, watch::whole(api, config.clone()), kept, (|_, _| (), on, unreadable::<K>));
        }
    }

    pub fn metadata<K: Namespaced, N: Kept + From<PartialObjectMeta<K>>>(
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
    pub fn discovery(&mut self) {
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
    pub fn peer<K, A, S>(
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
    pub fn listen(&mut self) {
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

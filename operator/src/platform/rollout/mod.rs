//! How a release takes over: what runs in which colour, which of them takes the requests, and when that changes.
//!
//! [`observe`] and [`observed`] say what is, [`machine`] decides (pure), [`carry_out`] does it. The status, which is the
//! machine's memory, is written between the last two.

pub mod analysis;
pub mod carry_out;
pub mod command;
pub mod machine;
pub mod migration;
pub mod observe;
pub mod observed;
pub mod prometheus;
pub mod release;

use std::collections::BTreeMap;

use contract::names::{ANNOTATION_ROLLOUT, LABEL_PLATFORM, LABEL_RELEASE};
use crds::{PlatformStatus, platform::Color};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};

use self::{
    analysis::Measured,
    machine::{Decision, Input, Migration, Record, decide},
    prometheus::Subject,
};
pub use self::{observed::Observed, release::Release};
use super::{build::Workload, dereference::Dereferenced, validate::ValidatedPlatform};
use crate::{
    context::Ctx,
    error::{Doing, ReconcileError},
    stores::Key,
};

/// What was seen and what follows from it.
#[derive(Debug, Clone)]
pub struct Decided {
    pub input: Input,
    pub decision: Decision,
    pub kept: Kept,
}

/// The releases whose settings and template are kept, and the version of the ConfigMap that keeps each.
pub type Kept = BTreeMap<String, String>;

/// Observes, measures what is due, and decides. Changes nothing.
pub async fn look(
    ctx: &Ctx,
    found: &Dereferenced,
    validated: &ValidatedPlatform,
    workload: Option<&Workload>,
    before: &PlatformStatus,
) -> Result<Decided, ReconcileError> {
    let (namespace, platform, spec) = (&found.namespace, &found.name, &found.platform.spec);
    let migration = match workload {
        None => Migration::NotStarted,
        Some(workload) => migration::state(ctx, found, &workload.migration.0.name_any()).await?,
    };
    let kept = kept(ctx, namespace, platform).await?;
    let mut input = Input {
        // Times are recorded in whole seconds.
        now: Timestamp::from_second(ctx.now().as_second()).unwrap_or_default(),
        rollout: spec.rollout.clone(),
        replicas: validated.replicas,
        paused: spec.paused,
        declared: workload.map(|workload| workload.release.hash.clone()),
        migration,
        selected: found.observed.selected(),
        uncolored: found.observed.uncolored.is_some(),
        blue: None,
        green: None,
        kept: kept.keys().cloned().collect(),
        command: found.platform.annotations().get(ANNOTATION_ROLLOUT).cloned(),
        measured: Vec::new(),
        record: Record {
            active: before.active_color,
            preview: before.preview_revision.clone(),
            stable: before.stable_revision.clone(),
            rollout: before.rollout.clone().unwrap_or_default(),
        },
    };
    let all = ctx.stores.pods.find(&Key::Platform(namespace.clone(), platform.clone()));
    for color in Color::ALL {
        let Some(deployment) = found.observed.of(color) else { continue };
        let mine = observe::of(&all, color, observed::release(deployment).unwrap_or_default());
        let mut pods = observe::pods(deployment, &mine);
        let tried = input.selected != Some(color) && input.record.rollout.switched_time.is_none();
        if tried && pods.wanted > 0 && pods.full() {
            observe::ask_what_they_hold(ctx, namespace, platform, &mine, &mut pods).await;
        }
        match color {
            Color::Blue => input.blue = Some(pods),
            Color::Green => input.green = Some(pods),
        }
    }
    let mut decision = decide(&input);
    let measured = measure(ctx, found, &decision).await;
    if !measured.is_empty() {
        // The analysis has begun in the record of the first decision, and so has the command been carried out there.
        input.measured = measured;
        let told = decision.told.take();
        input.record = decision.record.clone();
        decision = decide(&input);
        decision.told = told;
    }
    Ok(Decided { input, decision, kept })
}

async fn measure(ctx: &Ctx, found: &Dereferenced, decision: &Decision) -> Vec<Measured> {
    let (Some(plan), Some((revision, color))) = (&found.platform.spec.rollout.analysis, &decision.subject) else {
        return Vec::new();
    };
    let subject = Subject { revision, color: *color, namespace: &found.namespace, platform: &found.name };
    let due = plan.metrics.iter().filter(|metric| decision.due.contains(&metric.name));
    let asked = due.map(async |metric| Measured {
        metric: metric.name.clone(),
        answer: ctx.prometheus.ask(&plan.prometheus.address, metric, &subject).await,
    });
    join_all(asked).await
}

async fn kept(ctx: &Ctx, namespace: &str, platform: &str) -> Result<Kept, ReconcileError> {
    let params = ListParams::default().labels(&format!("{LABEL_RELEASE},{LABEL_PLATFORM}={platform}"));
    let maps = Api::<ConfigMap>::namespaced(ctx.client.clone(), namespace);
    let list = maps.list_metadata(&params).await.doing(|| format!("list the releases in {namespace}"))?;
    let release = |map: &PartialObjectMeta<ConfigMap>| {
        Some((map.labels().get(LABEL_RELEASE)?.clone(), map.resource_version().unwrap_or_default()))
    };
    Ok(list.items.iter().filter_map(release).collect())
}

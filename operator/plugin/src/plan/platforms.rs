//! What would run: how a Platform's spec would differ, defaults filled in by the cluster.

use kube::ResourceExt;
use serde::Serialize;
use serde_json::json;

use super::{Change, Plan, difference};
use crate::{
    connect::Connection,
    output::{Paint, wrapped},
    report::redact,
};

/// What would become of one Platform.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformChange {
    pub platform: String,
    pub namespace: String,
    /// What would happen, in sentences.
    pub effects: Vec<String>,
    /// The spec, as a unified diff.
    pub changes: Vec<String>,
}

pub fn compare(connection: &Connection, change: &Change, plan: &mut Plan) {
    let namespace = connection.namespace.as_str();
    let (before, after) = (&change.before.platforms, &change.after.platforms);
    let mut names: Vec<_> =
        before.within(namespace).iter().chain(&after.within(namespace)).map(|p| p.name_any()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (was, will) = (before.get(namespace, &name), after.get(namespace, &name));
        let spec = |platform: &Option<std::sync::Arc<crds::Platform>>| {
            platform.as_ref().map(|platform| {
                let mut spec = json!(platform.spec);
                redact::value(&mut spec);
                spec
            })
        };
        let changes = difference::lines(spec(&was).as_ref(), spec(&will).as_ref());
        if changes.is_empty() {
            continue;
        }
        let mut effects = Vec::new();
        if will.is_none() {
            effects.push("the API would be removed; data is kept".to_owned());
        }
        plan.platforms.push(PlatformChange { platform: name, namespace: namespace.to_owned(), effects, changes });
    }
}

impl PlatformChange {
    pub fn human(&self, paint: Paint) -> String {
        let mut text =
            format!("{} (namespace {})\n", paint.head(format!("Platform {}", self.platform)), self.namespace);
        for effect in &self.effects {
            text += &wrapped(effect, 2);
        }
        for line in &self.changes {
            text += &difference::painted(line, paint);
        }
        text
    }
}

//! What would run: how a Platform's spec would differ, whether a rollout would start, and what its pods would have anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Result;
use crds::{Platform, platform::RolloutStrategy};
use kube::ResourceExt;
use operator::{
    cli::DEFAULT_API_IMAGE,
    platform::{
        declared::{Declared, declared},
        rollout::Release,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Change, Plan, difference,
    secrets::{Known, names_of},
};
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
    /// Whether a rollout would start.
    pub rollout: bool,
    /// What would happen, in sentences.
    pub effects: Vec<String>,
    /// The spec, as a unified diff.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spec: Vec<String>,
    /// What the pods have and are told, as a unified diff.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<String>,
}

pub async fn compare(connection: &Connection, change: &Change, plan: &mut Plan) -> Result<()> {
    let namespace = connection.namespace.as_str();
    let (before, after) = (&change.before.platforms, &change.after.platforms);
    let both = before.within(namespace).into_iter().chain(after.within(namespace));
    let names: BTreeSet<_> = both.map(|platform| platform.name_any()).collect();
    for name in names {
        let (was, will) = (before.get(namespace, &name), after.get(namespace, &name));
        let reads = |platform: &Arc<Platform>| names_of(platform).into_iter().flatten().collect::<Vec<_>>();
        let secrets: Vec<_> = was.iter().chain(&will).flat_map(reads).collect();
        let same = was.as_ref().map(|platform| &platform.spec) == will.as_ref().map(|platform| &platform.spec);
        if same && !secrets.iter().any(|secret| change.secrets.contains_key(secret)) {
            continue;
        }
        let known = Known::read(connection, secrets.into_iter().collect()).await?;
        let none = BTreeMap::new();
        let asked = |platform: Option<&Arc<Platform>>, changed| {
            platform
                .map(|platform| {
                    let secrets = known.of_platform(platform, changed);
                    declared(platform.clone(), secrets, DEFAULT_API_IMAGE)
                })
                .transpose()
        };
        let (old, new) = (asked(was.as_ref(), &none)?, asked(will.as_ref(), &change.secrets)?);
        let change = change_of(namespace, name, [was.as_deref(), will.as_deref()], [old.as_ref(), new.as_ref()]);
        plan.platforms.push(change);
    }
    Ok(())
}

fn change_of(
    namespace: &str,
    platform: String,
    [was, will]: [Option<&Platform>; 2],
    [old, new]: [Option<&Declared>; 2],
) -> PlatformChange {
    let release = |declared: Option<&Declared>| declared.and_then(|declared| declared.release.clone());
    let (before, after) = (release(old), release(new));
    let rollout = after.is_some() && before.as_ref().map(|r| &r.hash) != after.as_ref().map(|r| &r.hash);
    let mut effects = Vec::new();
    match (will, &before, &after) {
        (None, ..) => effects.push("the API would no longer run; data is kept".to_owned()),
        (Some(platform), before, Some(after)) if rollout => {
            let from = before.as_ref().map_or_else(String::new, |before| format!("{} -> ", before.hash));
            let strategy = match platform.spec.rollout.strategy {
                RolloutStrategy::BlueGreen => "blue/green",
                RolloutStrategy::RollingUpdate => "a rolling update",
            };
            let held = if platform.spec.paused { ", as soon as spec.paused lets it" } else { "" };
            effects.push(format!("a rollout would start, {strategy}{held}: release {from}{}", after.hash));
        }
        (Some(_), _, Some(_)) => effects.push("no rollout: the pods would stay as they are".to_owned()),
        (Some(_), _, None) => effects.push("nothing would be rolled out until what is missing is there".to_owned()),
    }
    if let (Some(was), Some(will)) = (was, will)
        && was.spec.replicas != will.spec.replicas
    {
        effects.push(format!("{} -> {} replicas", was.spec.replicas, will.spec.replicas));
    }
    let problems = new.iter().flat_map(|declared| &declared.problems);
    effects.extend(problems.map(|problem| format!("{}: {}", problem.reason, problem.message)));
    let spec = |platform: Option<&Platform>| platform.map(|platform| redacted(json!(platform.spec)));
    let pods = |release: Option<&Release>| {
        release.map(|release| redacted(json!({"settings": release.settings(), "pods": release.template()})))
    };
    PlatformChange {
        platform,
        namespace: namespace.to_owned(),
        rollout,
        effects,
        spec: difference::lines(spec(was).as_ref(), spec(will).as_ref()),
        // Of a new Platform all of it is new.
        release: before
            .as_ref()
            .map(|before| difference::lines(pods(Some(before)).as_ref(), pods(after.as_ref()).as_ref()))
            .filter(|_| rollout)
            .unwrap_or_default(),
    }
}

fn redacted(mut value: Value) -> Value {
    redact::value(&mut value);
    value
}

impl PlatformChange {
    pub fn human(&self, paint: Paint) -> String {
        let mut text =
            format!("{} (namespace {})\n", paint.head(format!("Platform {}", self.platform)), self.namespace);
        for effect in &self.effects {
            text += &paint.warn(wrapped(effect, 2));
        }
        for (name, lines) in [("spec", &self.spec), ("pods", &self.release)] {
            if !lines.is_empty() {
                text.push_str("  ");
                text.push_str(name);
                text.push('\n');
                text.extend(lines.iter().map(|line| difference::painted(line, paint)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(platform: &Platform) -> Declared {
        let data = |uri: &str| Some([("uri".to_owned(), k8s_openapi::ByteString(uri.into()))].into());
        let key = k8s_openapi::ByteString(vec![7; contract::seal::KEY_BYTES]);
        let secrets = operator::platform::declared::Secrets {
            postgres: data("postgres://u:CANARY@db/app"),
            redis: data("redis://cache"),
            mail: None,
            sealing_key: Some([("key".to_owned(), key)].into()),
        };
        declared(Arc::new(platform.clone()), secrets, "registry.example/api:1").unwrap()
    }

    fn planned(edit: impl FnOnce(&mut Platform)) -> PlatformChange {
        let mut was = Platform::new_minimal("main", "db", "redis");
        was.metadata.namespace = Some("shop".into());
        let mut will = was.clone();
        edit(&mut will);
        let (old, new) = (looked(&was), looked(&will));
        change_of("shop", "main".into(), [Some(&was), Some(&will)], [Some(&old), Some(&new)])
    }

    #[test]
    fn more_replicas_are_no_rollout() {
        let change = planned(|platform| platform.spec.replicas = 5);
        assert!(!change.rollout && change.release.is_empty(), "{change:?}");
        assert_eq!(change.effects, ["no rollout: the pods would stay as they are", "2 -> 5 replicas"]);
    }

    #[test]
    fn another_setting_is_a_rollout_and_shows_what_the_pods_would_be_told() {
        let change = planned(|platform| platform.spec.observability.log_level = crds::platform::LogLevel::Debug);
        assert!(change.rollout && change.effects[0].starts_with("a rollout would start"), "{change:?}");
        let text = change.human(Paint(false));
        assert!(text.contains("- logLevel: info") || text.contains("-   logLevel: info"), "{text}");
        assert!(text.contains("TENANTRY_LOG_LEVEL: debug") && !text.contains("CANARY"), "{text}");
    }
}

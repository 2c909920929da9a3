//! What an SRE does with a Platform's rollout: a new release, a word to the rollout, a look at how far it is.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Kubectl, Platform, platform::PLATFORM, wait};

/// A Platform's rollouts, by `kubectl` and status alone.
pub struct Rollouts<'a> {
    platform: &'a Platform,
    kubectl: Kubectl,
}

impl<'a> Rollouts<'a> {
    pub fn of(platform: &'a Platform) -> Result<Self> {
        Ok(Self { platform, kubectl: platform.kubectl()? })
    }

    /// From now on blue and green, with this `spec.rollout`.
    pub async fn blue_green(platform: &'a Platform, rollout: Value) -> Result<Self> {
        let rollouts = Self::of(platform)?;
        rollouts.configure(rollout).await?;
        rollouts
            .until("the first release to be at rest", |status| status.phase() == "Idle" && status.active() != "")
            .await?;
        Ok(rollouts)
    }

    pub async fn configure(&self, mut rollout: Value) -> Result<()> {
        rollout["strategy"] = json!("BlueGreen");
        self.patch(json!({"rollout": rollout})).await
    }

    /// A merge patch of the Platform's spec.
    pub async fn patch(&self, spec: Value) -> Result<()> {
        self.kubectl.patch(&format!("platform/{PLATFORM}"), &json!({"spec": spec}).to_string()).await?;
        Ok(())
    }

    /// A new image; its tag may name a fault.
    pub async fn deploy(&self, tag: &str) -> Result<()> {
        self.patch(json!({"image": {"tag": tag}})).await
    }

    /// `promote`, `abort`, `retry`, `undo`.
    pub async fn command(&self, word: &str) -> Result<()> {
        let annotate = format!("annotate platform/{PLATFORM} --overwrite tenantry.dev/rollout={word}");
        self.kubectl.run(&annotate).await?;
        Ok(())
    }

    pub async fn status(&self) -> Result<Status> {
        Ok(Status(self.platform.objects.get(&format!("platform/{PLATFORM}")).await?))
    }

    /// Waits for a status that is about the newest spec, and about no command that is still to be carried out.
    pub async fn until(&self, what: &str, good: impl Fn(&Status) -> bool) -> Result<Status> {
        let current = |status: &Status| status.is_current() && good(status);
        wait::until_value(what, async || self.status().await, current).await
    }

    pub async fn until_phase(&self, phase: &str) -> Result<Status> {
        self.until(&format!("the rollout to be {phase}"), |status| status.phase() == phase).await
    }

    /// Waits until a release other than `before` takes the requests for good.
    pub async fn until_replaced(&self, before: &str) -> Result<Status> {
        let replaced = |status: &Status| status.active() != before && matches!(status.phase(), "Promoted" | "Idle");
        self.until(&format!("another release than {before}"), replaced).await
    }

    /// Waits until it is declared that `tag` was not taken, and all is as before; yields the words.
    pub async fn until_rolled_back(&self, before: &str) -> Result<String> {
        let status = self.until_phase("RolledBack").await?;
        ensure!(status.active() == before, "the active release is {} and not {before}", status.active());
        let selector =
            self.kubectl.value(&format!("service/{PLATFORM}-api"), "{.spec.selector.tenantry\\.dev/color}").await?;
        ensure!(selector == status.color(), "the Service selects {selector}, the status says {}", status.color());
        let ready = status.condition("Ready");
        ensure!(ready["status"] == "True" || ready["reason"] == "RolledBack", "{ready}");
        Ok(status.message().to_owned())
    }

    /// `reason: note` of each event about the Platform.
    pub async fn events(&self) -> Result<String> {
        let path =
            format!(r#"{{range .items[?(@.regarding.name=="{PLATFORM}")]}}{{.reason}}: {{.note}}{{"\n"}}{{end}}"#);
        self.kubectl.value("events.events.k8s.io", &path).await
    }

    /// Waits for an event of this reason that says all of these words.
    pub async fn until_event(&self, reason: &str, words: &[&str]) -> Result<()> {
        let said = |events: &String| {
            let mut of_reason = events.lines().filter(|line| line.starts_with(&format!("{reason}: ")));
            of_reason.any(|line| words.iter().all(|word| line.contains(word)))
        };
        wait::until_value(&format!("an event {reason} with {words:?}"), async || self.events().await, said).await?;
        Ok(())
    }

    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }
}

/// The Platform, for those who look at its rollout.
pub struct Status(pub Value);

impl Status {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn phase(&self) -> &str {
        self.text("/status/rollout/phase")
    }

    pub fn message(&self) -> &str {
        self.text("/status/rollout/message")
    }

    /// The release that takes the requests.
    pub fn active(&self) -> &str {
        self.text("/status/activeRevision")
    }

    pub fn preview(&self) -> &str {
        self.text("/status/previewRevision")
    }

    pub fn color(&self) -> &str {
        self.text("/status/activeColor")
    }

    pub fn condition(&self, kind: &str) -> Value {
        let conditions = self.0.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().find(|condition| condition["type"] == kind).cloned().unwrap_or(Value::Null)
    }

    fn is_current(&self) -> bool {
        let told = self.0.pointer("/metadata/annotations/tenantry.dev~1rollout").is_some();
        !told && self.0["status"]["observedGeneration"] == self.0["metadata"]["generation"]
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let annotations = &self.0["metadata"]["annotations"];
        write!(f, "generation {}, annotations {annotations}, {}", self.0["metadata"]["generation"], self.0["status"])
    }
}

/// An entry of `spec.rollout.analysis.metrics`.
pub fn metric(name: &str, query: &str, max: f64, stage: &str) -> Value {
    json!({"name": name, "query": query, "thresholdRange": {"max": max}, "stage": stage})
}

/// Share of answers that are errors, of the release that is tried.
pub fn error_share(stage: &str) -> Value {
    let query = r#"(sum(rate(tenantry_api_requests_total{release="{{revision}}",status=~"5.."}[10s])) or vector(0))
        / sum(rate(tenantry_api_requests_total{release="{{revision}}"}[10s]))"#;
    metric("error-share", query, 0.05, stage)
}

/// Time that nine of ten answers stay below, of the release that is tried.
pub fn slowness(stage: &str) -> Value {
    let query = r#"histogram_quantile(0.9, sum by (le)
        (rate(tenantry_api_request_duration_seconds_bucket{release="{{revision}}"}[10s])))"#;
    metric("p90-seconds", query, 2.0, stage)
}

/// `tag` of a rollout that is the next one: never the one before.
pub fn numbered(round: usize) -> String {
    format!("r{round}")
}

/// One release after the other, taken over by itself; yields how long each took from the new spec on.
pub async fn rolls_out(rollouts: &Rollouts<'_>, times: usize) -> Result<Vec<std::time::Duration>> {
    let mut took = Vec::new();
    for round in 0..times {
        let before = rollouts.status().await?.active().to_owned();
        let began = std::time::Instant::now();
        rollouts.deploy(&numbered(round)).await?;
        rollouts.until_replaced(&before).await.with_context(|| format!("rollout {round}"))?;
        took.push(began.elapsed());
        // The colour that is still there is the next one's place.
        rollouts.until_phase("Idle").await?;
    }
    Ok(took)
}

/// One release after the other, aborted when it is ready.
pub async fn aborts(rollouts: &Rollouts<'_>, times: usize) -> Result<()> {
    for round in 0..times {
        let before = rollouts.status().await?.active().to_owned();
        rollouts.deploy(&format!("aborted-{round}")).await?;
        rollouts.until_phase("AwaitingPromotion").await.with_context(|| format!("abort {round}"))?;
        rollouts.command("abort").await?;
        let status = rollouts.until_phase("Aborted").await?;
        ensure!(status.active() == before, "aborted, and yet {} took over", status.active());
    }
    Ok(())
}

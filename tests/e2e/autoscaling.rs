//! Load decides the number of pods, also while a new release takes over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Load, Platform, User,
    load::Call,
    platform::PLATFORM,
    provider::Mood,
    rollout::{Rollouts, Status},
    wait,
};
use http::{Method, StatusCode};
use serde_json::json;

/// Payments that are opened in a second, and how long the provider takes for each: a few dozen are in flight at any time.
const PER_SECOND: u32 = 12;
const PROVIDER: Duration = Duration::from_secs(2);
/// Far fewer for each pod than that.
const IN_FLIGHT: u32 = 2;
const LEAST: u32 = 2;
const MOST: u32 = 4;

/// People who pay, at a provider that takes its time.
fn payments(alice: User) -> Load {
    Load::start(PER_SECOND, move |_| {
        let body = json!({"amount": 10, "currency": "EUR", "type": "payment"});
        let request = alice.request(Method::POST, "/payments").json(&body);
        Call { what: "POST /payments", request, wanted: StatusCode::CREATED }
    })
}

/// The colours as they stand.
struct Seen {
    /// The colour that the Service selects.
    active: String,
    /// Pods that are wished for and that can serve, of blue and of green.
    wanted: [u32; 2],
    available: [u32; 2],
}

impl Seen {
    async fn now(rollouts: &Rollouts<'_>) -> Result<Self> {
        let kubectl = rollouts.kubectl();
        let active = kubectl.value(&format!("service/{PLATFORM}-api"), "{.spec.selector.tenantry\\.dev/color}").await?;
        let path = "{range .items[*]}{.metadata.labels.tenantry\\.dev/color} {.spec.replicas} {.status.availableReplicas}{'\\n'}{end}";
        let arguments = [
            "get",
            "deployments",
            "-l",
            &format!("tenantry.dev/platform={PLATFORM}"),
            "-o",
            &format!("jsonpath={path}"),
        ];
        let listed = kubectl.attempt(&arguments, "").await?;
        ensure!(listed.success, "{}", listed.stderr);
        let mut seen = Self { active, wanted: [0; 2], available: [0; 2] };
        for line in listed.stdout.lines() {
            let mut words = line.split(' ');
            let at = usize::from(words.next() == Some("green"));
            let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            (seen.wanted[at], seen.available[at]) = (number(), number());
        }
        Ok(seen)
    }

    fn active(&self) -> usize {
        usize::from(self.active == "green")
    }
}

#[tokio::test]
async fn load_brings_pods_a_rollout_takes_none_away_and_without_load_they_go() -> Result<()> {
    Platform::run(async |platform| {
        let alice = platform.tenant("acme").await?.user("alice");
        alice.registers().await?;
        let rollouts = Rollouts::blue_green(platform, json!({"scaleDownDelaySeconds": 2})).await?;
        let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 15}});
        rollouts
            .patch(json!({"autoscaling": {"minReplicas": LEAST, "maxReplicas": MOST,
                "targetRequestsInFlightPerPod": IN_FLIGHT, "behavior": behavior}}))
            .await?;
        let kubectl = platform.kubectl()?;
        let size = async |wanted: u32| {
            wait::until_value(
                &format!("{wanted} pods"),
                async || {
                    Ok((
                        kubectl.value("platform/main", "{.spec.replicas} {.status.replicas}").await?,
                        Seen::now(&rollouts).await?.available,
                    ))
                },
                |(said, available)| *said == format!("{wanted} {wanted}") && available.iter().sum::<u32>() >= wanted,
            )
            .await
        };

        platform.provider.mood(Mood::Slow(PROVIDER));
        let load = payments(alice);
        size(MOST).await?;

        // A new release in the middle of it.
        let before = rollouts.status().await?;
        rollouts.deploy("next").await?;
        let after = wait::until("the new release to serve, and nothing else", async || {
            let seen = Seen::now(&rollouts).await?;
            let (active, other) = (seen.active(), 1 - seen.active());
            ensure!(seen.wanted[active] >= MOST, "who serves is made smaller: {:?}", seen.wanted);
            ensure!(seen.available[active] >= MOST, "pods were taken away: {:?} of {:?}", seen.available, seen.wanted);
            ensure!(
                seen.active == before.color() || seen.wanted[active] >= seen.wanted[other],
                "green is smaller than blue: {:?}",
                seen.wanted
            );
            let status = rollouts.status().await?;
            Ok((status.active() != before.active() && status.phase() == "Idle").then_some(status))
        })
        .await?;
        ensure!(after.color() != before.color(), "{after:?}");
        size(MOST).await?;
        load.stop().await.nothing_lost()?;

        platform.provider.mood(Mood::Fine);
        size(LEAST).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_autoscaler_by_cpu_measures_and_goes_when_it_is_not_wished_for_any_more() -> Result<()> {
    Platform::run(async |platform| {
        let rollouts = Rollouts::of(platform)?;
        rollouts
            .patch(json!({
                "autoscaling": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 90},
                "resources": {"requests": {"cpu": "4"}},
            }))
            .await?;
        let (kubectl, autoscaler) = (platform.kubectl()?, "horizontalpodautoscaler/main-api");
        let made = wait::until("the autoscaler", async || {
            let found = kubectl.attempt(&["get", autoscaler, "-o", "jsonpath={.spec.metrics}"], "").await?;
            Ok(found.success.then_some(found.stdout))
        })
        .await?;
        ensure!(
            made == r#"[{"resource":{"name":"cpu","target":{"averageUtilization":90,"type":"Utilization"}},"type":"Resource"}]"#,
            "{made}"
        );
        wait::until_value(
            "the autoscaler to have measured the new pods",
            async || {
                let active = "{.status.conditions[?(@.type=='ScalingActive')].status}";
                kubectl.value(autoscaler, &format!("{active} {{.status.currentMetrics[*].resource.name}}")).await
            },
            |said| said == "True cpu",
        )
        .await?;
        let well = |status: &Status| status.condition("Degraded")["status"] == "False";
        rollouts.until("no complaint about the autoscaler", well).await?;

        // Other bounds, another target: the same object.
        let uid = kubectl.value(autoscaler, "{.metadata.uid}").await?;
        rollouts.patch(json!({"autoscaling": {"minReplicas": 1, "targetRequestsInFlightPerPod": 20}})).await?;
        wait::until_value(
            "both targets",
            async || kubectl.value(autoscaler, "{.spec.minReplicas} {.spec.metrics[*].type} {.metadata.uid}").await,
            |said| *said == format!("1 Resource Pods {uid}"),
        )
        .await?;

        rollouts.patch(json!({"autoscaling": null})).await?;
        wait::until("the autoscaler to go", async || {
            let found = kubectl.attempt(&["get", autoscaler, "-o", "name"], "").await?;
            Ok((!found.success && found.stderr.contains("NotFound")).then_some(()))
        })
        .await
        .context("it would go on changing the number of pods")
    })
    .await
}

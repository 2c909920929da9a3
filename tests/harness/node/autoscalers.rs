//! The HorizontalPodAutoscaler controller: measures the pods that the target's scale selects, and writes the target's scale.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricTarget},
        core::v1::Pod,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery,
};
use serde_json::{Value, json};

use super::{
    Settings,
    autoscaling::{Measured, Memory},
    clock, endpoints, owned,
};

/// Between two looks; a cluster takes 15 seconds.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Microseconds in a tick of /proc/<pid>/stat: USER_HZ is 100 on every Linux.
const TICK_SECONDS: f64 = 0.01;

pub struct Autoscalers {
    client: reqwest::Client,
    memories: HashMap<String, Memory>,
    /// By the pod's uid: what its processes had used when.
    cpu: HashMap<String, (Timestamp, f64)>,
    last: Option<Timestamp>,
}

/// What the node knows of a pod and its object does not say.
pub trait Processes {
    fn pids(&self, pod: &Pod) -> Vec<u32>;
}

impl Autoscalers {
    pub fn new() -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build();
        Self { client: client.unwrap_or_default(), memories: HashMap::new(), cpu: HashMap::new(), last: None }
    }

    pub async fn sync(
        &mut self,
        settings: &Settings,
        all: &[HorizontalPodAutoscaler],
        pods: &[Pod],
        processes: &impl Processes,
    ) -> Result<()> {
        let now = clock::now();
        let early = self.last.is_some_and(|last| now.duration_since(last).as_millis() < 1000);
        if all.is_empty() || early {
            return Ok(());
        }
        self.last = Some(now);
        let usage = self.usage(pods, processes, now);
        for autoscaler in all.iter().filter(|autoscaler| autoscaler.metadata.deletion_timestamp.is_none()) {
            if let Err(error) = self.look(settings, autoscaler, pods, &usage, now).await {
                let failed = [condition("AbleToScale", false, "FailedGetScale", &format!("{error:#}"))];
                write(settings, autoscaler, json!({"conditions": failed})).await?;
            }
        }
        let known: HashSet<_> = all.iter().filter_map(ResourceExt::uid).collect();
        self.memories.retain(|uid, _| known.contains(uid));
        Ok(())
    }

    /// Cores that each pod has used since the last look.
    fn usage(&mut self, pods: &[Pod], processes: &impl Processes, now: Timestamp) -> HashMap<String, f64> {
        let mut usage = HashMap::new();
        let mut seen = HashMap::new();
        for pod in pods {
            let running = processes.pids(pod);
            if running.is_empty() {
                continue;
            }
            let uid = pod.uid().unwrap_or_default();
            let used: f64 = running.into_iter().filter_map(cpu_seconds).sum();
            // A restarted container begins anew: that says nothing.
            if let Some((then, before)) = self.cpu.get(&uid).filter(|(_, before)| *before <= used) {
                let elapsed = now.duration_since(*then).as_secs_f64();
                usage.insert(pod.name_any(), (used - before) / elapsed.max(f64::MIN_POSITIVE));
            }
            seen.insert(uid, (now, used));
        }
        self.cpu = seen;
        usage
    }

    async fn look(
        &mut self,
        settings: &Settings,
        autoscaler: &HorizontalPodAutoscaler,
        pods: &[Pod],
        usage: &HashMap<String, f64>,
        now: Timestamp,
    ) -> Result<()> {
        let spec = autoscaler.spec.clone();
        let (namespace, target) = (autoscaler.namespace().unwrap_or_default(), &spec.scale_target_ref);
        let version = target.api_version.clone().unwrap_or_else(|| "v1".into());
        let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
        let kind = GroupVersionKind::gvk(group, version, &target.kind);
        let (resource, _) = discovery::pinned_kind(&settings.client, &kind).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(settings.client.clone(), &namespace, &resource);
        let scale = api.get_scale(&target.name).await.context("the target's scale cannot be read")?;
        let replicas = |number: Option<i32>| usize::try_from(number.unwrap_or_default()).unwrap_or_default();
        let current = replicas(scale.spec.and_then(|spec| spec.replicas));
        let status = scale.status.unwrap_or_default();
        let Some(selector) = status.selector.filter(|selector| !selector.is_empty()) else {
            bail!("the target's scale has no selector");
        };
        let mine: Vec<_> =
            pods.iter().filter(|pod| pod.namespace() == autoscaler.namespace() && selects(&selector, pod)).collect();
        let (ready, unready): (Vec<&Pod>, Vec<&Pod>) = mine.into_iter().partition(|pod| owned::is_ready(pod));
        let starting =
            unready.iter().filter(|pod| owned::phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none());
        let starting = starting.count();

        let (mut answers, mut shown, mut failure) = (Vec::new(), Vec::new(), None);
        for metric in spec.metrics.iter().flatten() {
            match self.measure(metric, &ready, starting, usage).await {
                Ok((measured, status)) => {
                    answers.push(measured.wanted(ready.len() + starting));
                    shown.push(status);
                }
                Err(error) => failure = Some(format!("{error:#}")),
            }
        }
        let mut conditions =
            vec![condition("AbleToScale", true, "ReadyForNewScale", "the scale can be read and written")];
        // While one metric is unknown, nothing becomes less.
        let wanted = answers.into_iter().max().filter(|wanted| failure.is_none() || *wanted > current);
        conditions.push(match (&failure, wanted) {
            (Some(why), _) => condition("ScalingActive", false, "FailedGetMetrics", why),
            (None, None) => condition("ScalingActive", false, "NoMetrics", "no metric is declared"),
            (None, Some(_)) => condition("ScalingActive", true, "ValidMetricFound", "every metric was measured"),
        });
        let mut desired = current;
        // Zero is somebody's decision, and not ours to undo.
        if let Some(wanted) = wanted.filter(|_| current > 0) {
            let memory = self.memories.entry(autoscaler.uid().unwrap_or_default()).or_default();
            let verdict = memory.decide(&spec, current, wanted, now);
            desired = verdict.replicas;
            let (reason, message) =
                verdict.limited.unwrap_or(("DesiredWithinRange", "the desired count is within the acceptable range"));
            conditions.push(condition("ScalingLimited", verdict.limited.is_some(), reason, message));
        }
        let mut status = json!({
            "observedGeneration": autoscaler.metadata.generation, "currentReplicas": status.replicas,
            "desiredReplicas": desired, "currentMetrics": shown, "conditions": conditions,
        });
        if desired != current {
            let patch = Patch::Merge(json!({"spec": {"replicas": desired}}));
            api.patch_scale(&target.name, &PatchParams::default(), &patch).await?;
            status["lastScaleTime"] = json!(clock::seconds());
        }
        write(settings, autoscaler, status).await
    }

    async fn measure(
        &self,
        metric: &MetricSpec,
        ready: &[&Pod],
        starting: usize,
        usage: &HashMap<String, f64>,
    ) -> Result<(Measured, Value)> {
        if let Some(resource) = metric.resource.as_ref().filter(|resource| resource.name == "cpu") {
            let values: Vec<_> = ready.iter().filter_map(|pod| usage.get(&pod.name_any()).copied()).collect();
            let silent = ready.len() - values.len() + starting;
            let average = mean(&values).context("no pod's CPU has been measured yet")?;
            let (average, target, shown) = match percent(&resource.target) {
                Some(target) => {
                    let requested: Option<Vec<_>> = ready.iter().map(|pod| requested_cpu(pod)).collect();
                    let requested = requested.and_then(|all| mean(&all)).context("missing request for cpu")?;
                    let used = 100.0 * average / requested;
                    (
                        used,
                        f64::from(target),
                        json!({"averageUtilization": whole(used), "averageValue": milli(average)}),
                    )
                }
                None => (average, value(&resource.target)?, json!({"averageValue": milli(average)})),
            };
            let status = json!({"type": "Resource", "resource": {"name": "cpu", "current": shown}});
            return Ok((Measured { average, target, pods: values.len(), silent }, status));
        }
        if let Some(of_pods) = &metric.pods {
            let name = &of_pods.metric.name;
            let mut values = Vec::new();
            for pod in ready {
                values.extend(self.ask(pod, name).await);
            }
            let average = mean(&values).with_context(|| format!("no pod tells its {name}"))?;
            let status = json!({"type": "Pods", "pods": {"metric": {"name": name}, "current": {"averageValue": milli(average)}}});
            let silent = ready.len() - values.len();
            return Ok((Measured { average, target: value(&of_pods.target)?, pods: values.len(), silent }, status));
        }
        bail!("the local node measures Resource cpu and Pods metrics only, not {}", metric.type_)
    }

    /// Sum of the series of one metric, as the pod itself tells it; a cluster has an adapter for that.
    async fn ask(&self, pod: &Pod, name: &str) -> Option<f64> {
        let port = endpoints::named_port(pod, contract::names::PORT_MANAGEMENT)?;
        let address = pod.status.as_ref()?.pod_ip.as_ref()?;
        let answer = self.client.get(format!("http://{address}:{port}/metrics")).send().await.ok()?;
        series_sum(&answer.text().await.ok()?, name)
    }
}

fn series_sum(text: &str, name: &str) -> Option<f64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values =
        lines.filter(|rest| rest.starts_with([' ', '{'])).filter_map(|rest| rest.rsplit(' ').next()?.parse().ok());
    values.fold(None, |sum: Option<f64>, value: f64| Some(sum.unwrap_or_default() + value))
}

fn percent(target: &MetricTarget) -> Option<i32> {
    target.average_utilization
}

fn value(target: &MetricTarget) -> Result<f64> {
    let quantity = target.average_value.as_ref().context("the metric's target has no averageValue")?;
    number(quantity).with_context(|| format!("averageValue {} is no quantity", quantity.0))
}

/// As the status says percentages.
#[expect(clippy::cast_possible_truncation, reason = "a percentage is small")]
fn whole(value: f64) -> i32 {
    value.round() as i32
}

fn milli(value: f64) -> String {
    format!("{}m", (value * 1000.0).round())
}

#[expect(clippy::cast_precision_loss, reason = "numbers of pods are small")]
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// `100m`, `2`, `1.5`, `1k`.
fn number(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.as_str();
    let (digits, factor) = match text.strip_suffix('m') {
        Some(digits) => (digits, 0.001),
        None => text.strip_suffix('k').map_or((text, 1.0), |digits| (digits, 1000.0)),
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

fn requested_cpu(pod: &Pod) -> Option<f64> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.map(|container| number(container.resources.as_ref()?.requests.as_ref()?.get("cpu")?)).sum()
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets that may hold anything.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) * TICK_SECONDS)
}

/// `a=b,c in (d,e)` is more than any selector here says: equality is enough.
fn selects(selector: &str, pod: &Pod) -> bool {
    selector.split(',').all(|term| {
        let (key, value) = term.split_once('=').unwrap_or((term, ""));
        pod.labels().get(key.trim()).is_some_and(|label| label == value.trim_start_matches('=').trim())
    })
}

fn condition(kind: &str, is: bool, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": if is { "True" } else { "False" }, "reason": reason, "message": message})
}

/// Where it says something else than before; the time of a condition is that of its last change.
async fn write(settings: &Settings, autoscaler: &HorizontalPodAutoscaler, mut status: Value) -> Result<()> {
    let before = serde_json::to_value(&autoscaler.status)?;
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let mut known = before["conditions"].as_array().into_iter().flatten();
        let known = known.find(|known| known["type"] == condition["type"] && known["status"] == condition["status"]);
        condition["lastTransitionTime"] =
            known.map_or_else(|| json!(clock::seconds()), |known| known["lastTransitionTime"].clone());
    }
    let same = status.as_object().into_iter().flatten().all(|(field, value)| before[field] == *value);
    if same { Ok(()) } else { owned::write_status(settings, autoscaler, status).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_metric_are_summed_and_others_left() {
        let text = "# TYPE a gauge\na 2\na{b=\"c d\"} 1.5\na_total 9\n# EOF\n";
        assert_eq!((series_sum(text, "a"), series_sum(text, "x")), (Some(3.5), None));
    }

    #[test]
    fn quantities_are_numbers() {
        let number = |text: &str| number(&Quantity(text.into()));
        assert_eq!((number("250m"), number("2"), number("x")), (Some(0.25), Some(2.0), None));
    }
}

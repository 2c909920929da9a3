//! What the answers of Prometheus mean: pure. An answer that is not one number is neither good nor bad, is asked for
//! again, and never counts as success.

use crds::platform::{Analysis, AnalysisStatus, Metric, MetricStatus, Stage, ThresholdRange, Verdict};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// One answer to one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub metric: String,
    /// A number, or why there is none.
    pub answer: Result<f64, String>,
}

/// How the analysis stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// What is waited for.
    Running(String),
    Passed,
    /// Metric, value and range.
    Failed(String),
}

/// Adds an answer to the count, unless the metric is not due: an answer that was counted before a crash is not counted
/// twice.
pub fn count(plan: &Analysis, status: &mut Option<AnalysisStatus>, measured: &Measured, now: Timestamp) {
    let Some(status) = status else { return };
    let Some(metric) = plan.metrics.iter().find(|metric| metric.name == measured.metric) else { return };
    if !is_due(plan, status, metric, now) {
        return;
    }
    let (verdict, value, message) = verdict(metric, &measured.answer);
    let at = status.metrics.iter().position(|known| known.name == metric.name);
    let next = at.map(|at| status.metrics.swap_remove(at));
    let mut next = next.unwrap_or_else(|| MetricStatus {
        name: metric.name.clone(),
        value: None,
        verdict,
        message: String::new(),
        passed: 0,
        failed: 0,
        inconclusive: 0,
        measured_time: Time(now),
    });
    next.verdict = verdict;
    next.value = value;
    next.message = message;
    next.measured_time = Time(now);
    match verdict {
        Verdict::Pass => (next.passed, next.inconclusive) = (next.passed.saturating_add(1), 0),
        Verdict::Fail => (next.failed, next.inconclusive) = (next.failed.saturating_add(1), 0),
        Verdict::Inconclusive => next.inconclusive = next.inconclusive.saturating_add(1),
    }
    status.metrics.push(next);
    status.metrics.sort_by(|a, b| a.name.cmp(&b.name));
}

fn verdict(metric: &Metric, answer: &Result<f64, String>) -> (Verdict, Option<String>, String) {
    let name = &metric.name;
    match answer {
        Err(why) => (Verdict::Inconclusive, None, format!("metric {name} has no answer: {why}")),
        Ok(number) if !number.is_finite() => {
            (Verdict::Inconclusive, Some(number.to_string()), format!("metric {name} is {number}, which is no number"))
        }
        Ok(number) => {
            let ThresholdRange { min, max } = metric.threshold_range;
            let within = min.is_none_or(|min| *number >= min) && max.is_none_or(|max| *number <= max);
            let range = match (min, max) {
                (Some(min), Some(max)) => format!("between {min} and {max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, Some(max)) => format!("at most {max}"),
                (None, None) => "anything".to_owned(),
            };
            let verdict = if within { Verdict::Pass } else { Verdict::Fail };
            (verdict, Some(number.to_string()), format!("metric {name} is {number}, wanted {range}"))
        }
    }
}

/// Metrics of the stage that the release is in.
fn measured(plan: &Analysis, promoted: bool) -> impl Iterator<Item = &Metric> {
    plan.metrics.iter().filter(move |metric| match metric.stage {
        Stage::Both => true,
        Stage::BeforePromotion => !promoted,
        Stage::AfterPromotion => promoted,
    })
}

pub fn judge(plan: &Analysis, status: &AnalysisStatus) -> Judgement {
    let of = |metric: &Metric| status.metrics.iter().find(|known| known.name == metric.name);
    for metric in measured(plan, status.promoted) {
        if let Some(known) = of(metric)
            && known.failed > plan.failure_limit
        {
            return Judgement::Failed(format!(
                "{} ({} of at most {} failures)",
                known.message, known.failed, plan.failure_limit
            ));
        }
    }
    let waiting = measured(plan, status.promoted).find_map(|metric| match of(metric) {
        Some(known) if answers(known) >= plan.count => None,
        Some(known) => Some(format!("{}, {} of {} measurements", known.message, answers(known), plan.count)),
        None => Some(format!("metric {} has not been measured yet", metric.name)),
    });
    waiting.map_or(Judgement::Passed, Judgement::Running)
}

fn answers(metric: &MetricStatus) -> u32 {
    metric.passed.saturating_add(metric.failed)
}

/// Metrics that are due now, and when the next one is.
pub fn due(plan: &Analysis, status: &AnalysisStatus, now: Timestamp) -> (Vec<String>, Option<Timestamp>) {
    let due = measured(plan, status.promoted).filter(|metric| is_due(plan, status, metric, now));
    let due: Vec<_> = due.map(|metric| metric.name.clone()).collect();
    let wanted = |metric: &&MetricStatus| status.promoted || answers(metric) < plan.count;
    let next = status.metrics.iter().filter(wanted).map(|metric| next(plan, metric)).filter(|next| *next > now).min();
    (due, next)
}

fn is_due(plan: &Analysis, status: &AnalysisStatus, metric: &Metric, now: Timestamp) -> bool {
    match status.metrics.iter().find(|known| known.name == metric.name) {
        None => true,
        Some(known) => (status.promoted || answers(known) < plan.count) && now >= next(plan, known),
    }
}

fn next(plan: &Analysis, metric: &MetricStatus) -> Timestamp {
    let interval = SignedDuration::from_secs(i64::from(plan.interval_seconds));
    metric.measured_time.0.saturating_add(interval).unwrap_or(metric.measured_time.0)
}

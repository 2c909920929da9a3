//! What a HorizontalPodAutoscaler wants: the published algorithm, as arithmetic.
//!
//! Ratio of what is measured to what is wanted, within a tolerance of a tenth nothing happens, of several metrics the largest
//! answer counts, and within its window the most cautious of the last answers. Of `behavior` the windows and
//! `selectPolicy: Disabled` are known; policies of speed are not.

use std::collections::VecDeque;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerSpec};

const TOLERANCE: f64 = 0.1;
const SCALE_DOWN_WINDOW: i64 = 300;

/// One metric, measured over all pods that are ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Average of a pod, and what it should be.
    pub average: f64,
    pub target: f64,
    /// Pods that were measured, and those that said nothing.
    pub pods: usize,
    pub silent: usize,
}

impl Measured {
    /// Pods that would bring the average to its target.
    pub fn wanted(&self, current: usize) -> usize {
        let ratio = |silent_as: f64| {
            #[expect(clippy::cast_precision_loss, reason = "numbers of pods are small")]
            let (pods, silent) = (self.pods as f64, self.silent as f64);
            (self.average * pods + silent_as * silent) / (pods + silent) / self.target
        };
        if self.pods == 0 || self.target <= 0.0 {
            return current;
        }
        // Who says nothing is taken for idle where more are wanted, and for fully used where fewer are.
        let plain = ratio(self.average);
        let cautious = if plain > 1.0 { ratio(0.0) } else { ratio(self.target) };
        let crossed = (plain > 1.0) != (cautious > 1.0);
        if (plain - 1.0).abs() <= TOLERANCE || (cautious - 1.0).abs() <= TOLERANCE || crossed {
            return current;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small and positive"
        )]
        let wanted = (cautious * (self.pods + self.silent) as f64).ceil() as usize;
        wanted
    }
}

/// What was wanted lately, by one autoscaler.
#[derive(Debug, Default)]
pub struct Memory(VecDeque<(Timestamp, usize)>);

/// The answer, and why it is not what the metrics said.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub replicas: usize,
    pub limited: Option<(&'static str, &'static str)>,
    pub stabilised: bool,
}

impl Memory {
    pub fn decide(
        &mut self,
        spec: &HorizontalPodAutoscalerSpec,
        current: usize,
        wanted: usize,
        now: Timestamp,
    ) -> Verdict {
        let behavior = spec.behavior.clone().unwrap_or_default();
        let window = |rules: Option<&HPAScalingRules>, default: i64| {
            rules.and_then(|rules| rules.stabilization_window_seconds).map_or(default, i64::from)
        };
        let (up, down) =
            (window(behavior.scale_up.as_ref(), 0), window(behavior.scale_down.as_ref(), SCALE_DOWN_WINDOW));
        self.0.push_back((now, wanted));
        let age = |then: &Timestamp| now.duration_since(*then).as_secs();
        while self.0.front().is_some_and(|(then, _)| age(then) > up.max(down)) {
            self.0.pop_front();
        }
        let within =
            |window: i64| self.0.iter().filter(move |(then, _)| age(then) <= window).map(|(_, wanted)| *wanted);
        let least = within(up).min().unwrap_or(wanted);
        let most = within(down).max().unwrap_or(wanted);
        // Up only as far as all of the window agree, down likewise.
        let mut stable = current;
        stable = if stable < least { least } else { stable };
        stable = if stable > most { most } else { stable };
        let disabled = |rules: &Option<HPAScalingRules>| {
            rules.as_ref().is_some_and(|rules| rules.select_policy.as_deref() == Some("Disabled"))
        };
        if (stable > current && disabled(&behavior.scale_up)) || (stable < current && disabled(&behavior.scale_down)) {
            stable = current;
        }
        let number = |value: i32| usize::try_from(value).unwrap_or_default();
        let (min, max) = (number(spec.min_replicas.unwrap_or(1)), number(spec.max_replicas));
        let limited = if stable > max {
            Some(("TooManyReplicas", "the desired replica count is more than the maximum replica count"))
        } else if stable < min {
            Some(("TooFewReplicas", "the desired replica count is less than the minimum replica count"))
        } else {
            None
        };
        Verdict { replicas: stable.clamp(min, max.max(min)), limited, stabilised: stable != wanted }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measured(average: f64, target: f64, pods: usize, silent: usize) -> usize {
        Measured { average, target, pods, silent }.wanted(pods + silent)
    }

    #[test]
    fn the_ratio_says_how_many_and_a_tenth_is_nothing() {
        assert_eq!(measured(100.0, 50.0, 2, 0), 4);
        assert_eq!(measured(54.0, 50.0, 2, 0), 2);
        assert_eq!(measured(20.0, 50.0, 4, 0), 2);
        // The silent one is taken for idle on the way up, for busy on the way down.
        assert_eq!(measured(100.0, 50.0, 2, 2), 4);
        assert_eq!(measured(20.0, 50.0, 2, 2), 3);
    }

    fn spec(behavior: &serde_json::Value) -> HorizontalPodAutoscalerSpec {
        serde_json::from_value(json!({
            "scaleTargetRef": {"kind": "Platform", "name": "main"}, "minReplicas": 2, "maxReplicas": 6, "behavior": behavior,
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn up_at_once_and_down_when_the_window_has_passed() {
        let (spec, mut memory) = (spec(&json!({"scaleDown": {"stabilizationWindowSeconds": 60}})), Memory::default());
        assert_eq!(memory.decide(&spec, 2, 4, at(0)).replicas, 4);
        let verdict = memory.decide(&spec, 4, 2, at(30));
        assert_eq!((verdict.replicas, verdict.stabilised), (4, true));
        assert_eq!(memory.decide(&spec, 4, 2, at(61)).replicas, 2);
    }

    #[test]
    fn the_limits_hold_and_are_named() {
        let (spec, mut memory) = (spec(&json!({"scaleDown": {"selectPolicy": "Disabled"}})), Memory::default());
        let verdict = memory.decide(&spec, 4, 9, at(0));
        assert_eq!((verdict.replicas, verdict.limited.unwrap().0), (6, "TooManyReplicas"));
        assert_eq!(memory.decide(&spec, 4, 1, at(400)).replicas, 4, "scaling down is disabled");
    }
}

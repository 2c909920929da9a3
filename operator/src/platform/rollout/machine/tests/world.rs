//! A world around the machine: what pods do, what Prometheus answers and what people say. Each step that the operator
//! takes in it is held against what must never happen.

use crds::platform::{Analysis, Metric, Prometheus, Rollout, RolloutStatus, Stage, ThresholdRange};
use jiff::SignedDuration;

use super::super::{super::analysis::Measured, *};

pub(super) const NOW: Timestamp = Timestamp::constant(1_000_000, 0);
/// Older than this is all the same.
const OLD: i64 = 60;
pub(super) const DELAY: u32 = 20;
const DEADLINE: u32 = 30;

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) input: Input,
    /// Seconds since the active Service changed.
    pub(super) switched: i64,
    /// What can still be declared.
    pub(super) spare: Vec<&'static str>,
    pub(super) commands: u8,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Move {
    /// A visit that gets as far as this many steps, and what Prometheus answers in it.
    Visit(usize, Answer),
    Pods(Color, Health),
    Time,
    Declare(&'static str),
    Command(&'static str),
    Pause,
    Replicas(u32),
    Strategy(RolloutStrategy),
    Migration(Migration),
    Tamper(Option<Color>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    Bad,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Ready,
    /// Ready, without the newest configuration.
    Behind,
    Down,
    Crashing,
}

fn analysis() -> Analysis {
    Analysis {
        prometheus: Prometheus { address: "http://prometheus".into() },
        interval_seconds: 10,
        count: 1,
        failure_limit: 0,
        metrics: vec![Metric {
            name: "errors".into(),
            query: "errors".into(),
            threshold_range: ThresholdRange { min: None, max: Some(0.01) },
            stage: Stage::Both,
        }],
    }
}

/// Release `a` has served for long, in blue.
pub(super) fn serving(rollout: Rollout) -> World {
    let record = Record {
        active: Some(Color::Blue),
        preview: None,
        stable: Some("a".into()),
        rollout: RolloutStatus { history: vec!["a".into()], ..RolloutStatus::default() },
    };
    let mut world = fresh(rollout);
    world.input.record = record;
    world.input.selected = Some(Color::Blue);
    world.input.blue = Some(ready("a", 1));
    world.input.kept = vec!["a".into()];
    world
}

pub(super) fn fresh(rollout: Rollout) -> World {
    let input = Input {
        now: NOW,
        rollout,
        replicas: 1,
        paused: false,
        declared: Some("a".into()),
        migration: Migration::Done,
        selected: None,
        uncolored: false,
        blue: None,
        green: None,
        kept: Vec::new(),
        command: None,
        measured: Vec::new(),
        record: Record::default(),
    };
    World { input, switched: OLD, spare: vec!["b"], commands: 1 }
}

pub(super) fn blue_green() -> Rollout {
    Rollout {
        strategy: RolloutStrategy::BlueGreen,
        scale_down_delay_seconds: DELAY,
        progress_deadline_seconds: DEADLINE,
        analysis: Some(analysis()),
        ..Rollout::default()
    }
}

pub(super) fn ready(release: &str, wanted: u32) -> Pods {
    Pods {
        release: release.into(),
        wanted,
        ready: wanted,
        available: wanted,
        only: true,
        holding: wanted,
        lacking: None,
        trouble: None,
    }
}

impl World {
    pub(super) fn pods(&self, color: Color) -> Option<&Pods> {
        match color {
            Color::Blue => self.input.blue.as_ref(),
            Color::Green => self.input.green.as_ref(),
        }
    }

    pub(super) fn pods_mut(&mut self, color: Color) -> &mut Option<Pods> {
        match color {
            Color::Blue => &mut self.input.blue,
            Color::Green => &mut self.input.green,
        }
    }

    pub(super) fn serves(&self) -> Option<&str> {
        self.input.selected.and_then(|color| self.pods(color)).map(|pods| pods.release.as_str())
    }

    pub(super) fn health(&mut self, color: Color, health: Health) {
        let Some(pods) = self.pods_mut(color) else { return };
        let (count, holding) = match health {
            Health::Ready => (pods.wanted, pods.wanted),
            Health::Behind => (pods.wanted, 0),
            Health::Down | Health::Crashing => (0, 0),
        };
        (pods.ready, pods.available, pods.holding, pods.only) = (count, count, holding, true);
        pods.trouble = (health == Health::Crashing).then(|| Trouble {
            fatal: true,
            since: Timestamp::MAX,
            message: "pod main-api-green-1 is in CrashLoopBackOff".into(),
        });
        pods.lacking = (health == Health::Behind).then(|| "replica r lacks revision 1 of tenant acme".into());
    }

    pub(super) fn all_ready(&mut self) {
        for color in Color::ALL {
            self.health(color, Health::Ready);
        }
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        let older = |time: &mut Option<Time>| {
            if let Some(time) = time {
                age(time, seconds);
            }
        };
        let rollout = &mut self.input.record.rollout;
        older(&mut rollout.started_time);
        older(&mut rollout.progressed_time);
        older(&mut rollout.ready_time);
        older(&mut rollout.switched_time);
        older(&mut rollout.paused_time);
        for metric in rollout.analysis.iter_mut().flat_map(|analysis| &mut analysis.metrics) {
            age(&mut metric.measured_time, seconds);
        }
        self.switched = (self.switched + seconds).min(OLD);
    }

    /// One visit of the operator, which ends after this many steps.
    pub(super) fn visit(&mut self, steps: usize, answer: Answer) -> usize {
        let mut decision = decide(&self.input);
        assert_eq!(decision, decide(&self.input), "the same input is the same decision");
        let commanded = self.input.command.is_some();
        if !decision.due.is_empty() {
            let answer = match answer {
                Answer::Good => Ok(0.0),
                Answer::Bad => Ok(0.5),
                Answer::Empty => Err("the query finds nothing".to_owned()),
            };
            let metric = "errors".to_owned();
            self.input.record = decision.record.clone();
            self.input.measured = vec![Measured { metric, answer }];
            decision = decide(&self.input);
            self.input.measured.clear();
        }
        self.input.record = decision.record.clone();
        self.forget_words();
        let all = decision.steps.len();
        for step in decision.steps.iter().take(steps) {
            self.step(step, commanded);
        }
        all
    }

    /// Words and unneeded times are no state.
    fn forget_words(&mut self) {
        let rollout = &mut self.input.record.rollout;
        rollout.message.clear();
        if let Some(instead) = &mut rollout.instead {
            instead.message.clear();
            instead.time = Time(NOW);
        }
        if let Some(command) = &mut rollout.command {
            command.message.clear();
            command.time = Time(NOW);
        }
        for metric in rollout.analysis.iter_mut().flat_map(|analysis| &mut analysis.metrics) {
            metric.message.clear();
            metric.inconclusive = 0;
            metric.passed = metric.passed.min(2);
        }
        rollout.progress = rollout.progress.min(6);
        if rollout.analysis.is_none() && rollout.phase == Phase::Idle {
            rollout.progressed_time = None;
        }
    }

    fn step(&mut self, step: &Step, commanded: bool) {
        match step {
            Step::Migrate => {
                if self.input.migration == Migration::NotStarted {
                    self.input.migration = Migration::Running { job: "migrate".into() };
                }
            }
            Step::ForgetMigration => self.input.migration = Migration::NotStarted,
            Step::Run { color, release, replicas } => self.run(*color, release, *replicas, commanded),
            Step::Select { active, .. } => self.select(*active),
            Step::RemoveUncolored => {
                assert!(self.input.selected.is_some(), "the pods without a colour are all there is: {self:#?}");
                self.input.uncolored = false;
            }
            Step::DropCommand => self.input.command = None,
        }
        // Unless somebody selected it who must not; that is put back by a later step.
        let ours = self.input.selected.filter(|color| self.input.record.active.is_none_or(|active| active == *color));
        if let Some(pods) = ours.and_then(|color| self.pods(color)) {
            assert!(pods.wanted > 0, "the colour that takes the requests was removed: {self:#?}");
        }
    }

    fn run(&mut self, color: Color, release: &str, replicas: u32, commanded: bool) {
        let wished = self.input.replicas;
        let selected = self.input.selected;
        let stable = self.input.record.stable.clone();
        let serves = self.serves().map(str::to_owned);
        if !self.input.kept.iter().any(|kept| kept == release) {
            self.input.kept.push(release.into());
        }
        let instead = self.input.record.rollout.instead.clone();
        let before = self.pods(color).cloned();
        let changes = before.as_ref().is_none_or(|pods| pods.release != release);
        if self.input.paused && !commanded && instead.is_none() {
            assert!(!changes, "a pause holds: {color:?} {release} {self:#?}");
        }
        if let Some(instead) = instead.filter(|instead| instead.declared_revision == release) {
            assert!(!changes, "what was ended is not tried again: {instead:?} {self:#?}");
        }
        if let Some(before) = &before {
            let shrinks = replicas < before.wanted;
            if selected == Some(color) {
                assert!(!shrinks || replicas >= wished, "the active colour is smaller than wished: {self:#?}");
            }
            // What one would go back to.
            let fallback = Some(&before.release) == stable.as_ref() && selected != Some(color) && serves != stable;
            if fallback && (shrinks && replicas < wished || changes) {
                assert!(
                    commanded || self.switched >= i64::from(DELAY),
                    "the old colour went {} seconds after the switch: {self:#?}",
                    self.switched
                );
            }
        }
        let next = match before {
            None => Pods { ready: 0, available: 0, holding: 0, ..ready(release, replicas) },
            Some(pods) if changes => Pods {
                only: pods.available == 0,
                available: pods.available.min(replicas),
                ready: 0,
                holding: 0,
                ..ready(release, replicas)
            },
            Some(pods) => Pods {
                wanted: replicas,
                ready: pods.ready.min(replicas),
                available: pods.available.min(replicas),
                holding: pods.holding.min(replicas),
                ..pods
            },
        };
        *self.pods_mut(color) = Some(next);
    }

    fn select(&mut self, active: Option<Color>) {
        if active == self.input.selected {
            return;
        }
        let record = &self.input.record;
        let repairs = record.active == active;
        if let (Some(color), Some(from)) = (active, self.input.selected)
            && !repairs
        {
            let pods = self.pods(color).expect("a colour that is there");
            let proven = record.stable.as_deref() == Some(pods.release.as_str());
            // What goes back was complete when that was decided, and may be growing with the autoscaler in the same visit.
            let complete = pods.full() || (proven && pods.only && pods.ready > 0);
            assert!(complete && pods.wanted > 0, "switched to a colour that is not ready: {self:#?}");
            let smaller = self.pods(from).is_some_and(|from| pods.wanted < from.wanted && from.available > 0);
            assert!(!smaller || proven, "switched to fewer pods: {self:#?}");
            if !proven {
                assert!(pods.holding >= pods.wanted, "switched to pods without the configuration: {self:#?}");
                if self.input.rollout.analysis.is_some() {
                    let measured = record.rollout.analysis.as_ref().expect("an analysis");
                    let passed = measured.metrics.iter().all(|metric| metric.passed >= 1 && metric.failed == 0);
                    assert!(
                        passed && !measured.metrics.is_empty() && measured.revision == pods.release,
                        "promoted without an answer: {self:#?}"
                    );
                }
                assert!(!self.input.paused, "a pause holds: {self:#?}");
            }
        }
        if active.is_some() && self.input.selected.is_none() && self.input.uncolored {
            let pods = active.and_then(|color| self.pods(color));
            assert!(pods.is_some_and(Pods::full), "the pods without a colour lost the requests too early: {self:#?}");
        }
        if self.input.selected.is_some() || self.input.uncolored {
            self.switched = 0;
        }
        self.input.selected = active;
    }

    pub(super) fn apply(&mut self, act: &Move) {
        match act {
            Move::Visit(steps, answer) => drop(self.visit(*steps, *answer)),
            Move::Pods(color, health) => self.health(*color, *health),
            Move::Time => self.pass(10),
            Move::Declare(release) => {
                self.spare.retain(|spare| spare != release);
                self.input.declared = Some((*release).into());
                self.input.migration = Migration::Done;
            }
            Move::Command(command) => {
                self.commands -= 1;
                self.input.command = Some((*command).into());
            }
            Move::Pause => self.input.paused = !self.input.paused,
            Move::Replicas(replicas) => self.input.replicas = *replicas,
            Move::Strategy(strategy) => self.input.rollout.strategy = *strategy,
            Move::Migration(migration) => self.input.migration = migration.clone(),
            Move::Tamper(color) => {
                self.input.selected = *color;
                self.switched = 0;
            }
        }
    }
}

fn age(time: &mut Time, seconds: i64) {
    let oldest = NOW.saturating_sub(SignedDuration::from_secs(OLD)).unwrap();
    time.0 = time.0.saturating_sub(SignedDuration::from_secs(seconds)).unwrap().max(oldest);
}

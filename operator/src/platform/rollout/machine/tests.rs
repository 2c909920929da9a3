//! The machine against a world that does its worst: every reachable state × what pods do × what Prometheus answers ×
//! what people declare and command × a crash of the operator before, between and after the steps.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fmt::Write,
};

use crds::platform::{Analysis, Metric, Prometheus, Stage, ThresholdRange};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_000_000, 0);
/// Older than this is all the same.
const OLD: i64 = 60;
const DELAY: u32 = 20;
const DEADLINE: u32 = 30;

#[derive(Debug, Clone)]
struct World {
    input: Input,
    /// Seconds since the active Service changed.
    switched: i64,
    /// What can still be declared.
    spare: Vec<&'static str>,
    commands: u8,
}

#[derive(Debug, Clone, PartialEq)]
enum Move {
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
enum Answer {
    Good,
    Bad,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
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
fn serving(rollout: Rollout) -> World {
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

fn fresh(rollout: Rollout) -> World {
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

fn blue_green() -> Rollout {
    Rollout {
        strategy: RolloutStrategy::BlueGreen,
        scale_down_delay_seconds: DELAY,
        progress_deadline_seconds: DEADLINE,
        analysis: Some(analysis()),
        ..Rollout::default()
    }
}

fn ready(release: &str, wanted: u32) -> Pods {
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
    fn pods(&self, color: Color) -> Option<&Pods> {
        match color {
            Color::Blue => self.input.blue.as_ref(),
            Color::Green => self.input.green.as_ref(),
        }
    }

    fn pods_mut(&mut self, color: Color) -> &mut Option<Pods> {
        match color {
            Color::Blue => &mut self.input.blue,
            Color::Green => &mut self.input.green,
        }
    }

    fn serves(&self) -> Option<&str> {
        self.input.selected.and_then(|color| self.pods(color)).map(|pods| pods.release.as_str())
    }

    fn health(&mut self, color: Color, health: Health) {
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

    fn all_ready(&mut self) {
        for color in Color::ALL {
            self.health(color, Health::Ready);
        }
    }

    fn pass(&mut self, seconds: i64) {
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
    fn visit(&mut self, steps: usize, answer: Answer) -> usize {
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

    fn apply(&mut self, act: &Move) {
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

    /// Everything that decides about the future, in short.
    fn key(&self) -> String {
        let Input {
            rollout,
            replicas,
            paused,
            declared,
            migration,
            selected,
            uncolored,
            blue,
            green,
            kept,
            command,
            record,
            ..
        } = &self.input;
        let since = |time: &Option<Time>| time.as_ref().map_or(-1, |time| NOW.duration_since(time.0).as_secs());
        let mut key = String::with_capacity(256);
        let Record { active, preview, stable, rollout: status } = record;
        let _ = write!(
            key,
            "{:?}{replicas}{paused}{declared:?}{migration:?}{selected:?}{uncolored}{blue:?}{green:?}{kept:?}{command:?}{active:?}\
             {preview:?}{stable:?}{:?}{:?}{:?}{}.{}.{}.{}.{}.{}{:?}",
            rollout.strategy,
            status.phase,
            status.aborted_revision,
            status.approved_revision,
            since(&status.started_time),
            since(&status.progressed_time),
            since(&status.ready_time),
            since(&status.switched_time),
            since(&status.paused_time),
            status.progress,
            status.history,
        );
        if let Some(instead) = &status.instead {
            let _ = write!(key, "{}{}{:?}", instead.declared_revision, instead.revision, instead.reason);
        }
        if let Some(command) = &status.command {
            let _ = write!(key, "{}{}", command.value, command.pending_removal);
        }
        for metric in status.analysis.iter().flat_map(|analysis| &analysis.metrics) {
            let age = NOW.duration_since(metric.measured_time.0).as_secs();
            let _ = write!(key, "{}.{}.{age}", metric.passed, metric.failed);
        }
        let analysis = status.analysis.as_ref().map(|analysis| (&analysis.revision, analysis.promoted));
        let _ = write!(key, "{analysis:?}{}{:?}{}", self.switched.min(i64::from(DELAY)), self.spare, self.commands);
        key
    }

    /// Everybody does well, and says `promote` and `retry` where that is asked for.
    fn ends_well(&self) {
        let mut world = self.clone();
        world.input.paused = false;
        world.input.migration = Migration::Done;
        let declared = world.input.declared.clone().unwrap();
        for _ in 0..80 {
            world.all_ready();
            let phase = world.input.record.rollout.phase;
            let waits = phase == Phase::AwaitingPromotion && !world.input.rollout.auto_promotion_enabled;
            // A person sees that the annotation of before is gone, and that it was noticed.
            let busy = world.input.record.rollout.command.as_ref().is_some_and(|command| command.pending_removal);
            if busy {
                // Nothing is said meanwhile.
            } else if waits {
                world.input.command = Some("promote".into());
            } else if matches!(phase, Phase::Aborted | Phase::RolledBack | Phase::Undone) {
                world.input.command = Some("retry".into());
            }
            world.visit(usize::MAX, Answer::Good);
            let idle = world.input.record.rollout.phase == Phase::Idle && world.serves() == Some(&declared);
            let alone =
                world.input.selected.is_some_and(|color| world.pods(color.other()).is_none_or(|pods| pods.wanted == 0));
            if idle && alone && !world.input.uncolored && world.input.record.stable.as_ref() == Some(&declared) {
                return;
            }
            world.pass(10);
        }
        panic!("does not end with {declared} from {self:#?}\nbut {world:#?}");
    }

    /// Whatever is not the stable release crashes.
    fn ends_at_the_stable_release(&self) {
        let Some(stable) = self.input.record.stable.clone() else { return };
        let mut world = self.clone();
        world.input.paused = false;
        world.input.command = None;
        for _ in 0..80 {
            let bad = |world: &World, color| world.pods(color).is_some_and(|pods| pods.release != stable);
            for color in Color::ALL {
                let health = if bad(&world, color) { Health::Crashing } else { Health::Ready };
                world.health(color, health);
            }
            world.visit(usize::MAX, Answer::Bad);
            world.pass(10);
        }
        let proven = world.input.record.stable.as_ref() == Some(&stable);
        assert!(proven && world.serves() == Some(&stable), "does not end with {stable} from {self:#?}\nbut {world:#?}");
    }
}

fn age(time: &mut Time, seconds: i64) {
    let oldest = NOW.saturating_sub(SignedDuration::from_secs(OLD)).unwrap();
    time.0 = time.0.saturating_sub(SignedDuration::from_secs(seconds)).unwrap().max(oldest);
}

/// What can happen next.
fn moves(world: &World, wide: &[Move]) -> Vec<Move> {
    let mut moves = vec![Move::Time];
    let decision = decide(&world.input);
    let answers: &[Answer] =
        if decision.due.is_empty() { &[Answer::Good] } else { &[Answer::Good, Answer::Bad, Answer::Empty] };
    for answer in answers {
        let steps = world.clone().visit(usize::MAX, *answer);
        moves.extend((0..=steps).map(|steps| Move::Visit(steps, *answer)));
    }
    for color in Color::ALL {
        if world.pods(color).is_some_and(|pods| pods.wanted > 0) {
            moves.extend(
                [Health::Ready, Health::Behind, Health::Down, Health::Crashing].map(|health| Move::Pods(color, health)),
            );
        }
    }
    moves.extend(world.spare.iter().map(|spare| Move::Declare(spare)));
    let allowed = |act: &&Move| match act {
        Move::Command(_) => world.commands > 0 && world.input.command.is_none(),
        Move::Replicas(replicas) => world.input.replicas != *replicas,
        Move::Strategy(strategy) => world.input.rollout.strategy != *strategy,
        Move::Migration(migration) => world.input.migration != *migration,
        Move::Tamper(color) => world.input.selected != *color && world.input.selected.is_some(),
        _ => true,
    };
    moves.extend(wide.iter().filter(allowed).cloned());
    moves
}

/// Breadth first, as far as there is anything new; the invariants are asserted in each step, and from each state it is
/// tried whether it ends.
fn explore(start: &World, wide: &[Move], most: usize) -> usize {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([start.clone()]);
    seen.insert(start.key());
    let mut phases = BTreeSet::new();
    while let Some(world) = queue.pop_front() {
        phases.insert(world.input.record.rollout.phase);
        world.ends_well();
        if world.input.rollout.strategy == RolloutStrategy::BlueGreen && world.input.migration == Migration::Done {
            world.ends_at_the_stable_release();
        }
        for act in moves(&world, wide) {
            let mut next = world.clone();
            next.apply(&act);
            if seen.len() < most && seen.insert(next.key()) {
                queue.push_back(next);
            }
        }
    }
    println!("{} states, phases {phases:?}", seen.len());
    seen.len()
}

const COMMANDS: [Move; 5] = [
    Move::Command("promote"),
    Move::Command("abort"),
    Move::Command("retry"),
    Move::Command("undo"),
    Move::Command("dance"),
];

#[test]
fn no_rollout_with_analysis_and_commands_ends_badly() {
    assert!(explore(&serving(blue_green()), &COMMANDS, 6_000) > 3_000);
}

#[test]
fn no_rollout_that_waits_for_a_person_ends_badly() {
    let manual = Rollout { auto_promotion_enabled: false, analysis: None, ..blue_green() };
    assert!(explore(&serving(manual), &COMMANDS, 4_000) > 1_000);
}

#[test]
fn no_pause_scaling_or_change_of_strategy_in_mid_flight_ends_badly() {
    let timed = Rollout { auto_promotion_seconds: Some(10), preview_replicas: Some(1), analysis: None, ..blue_green() };
    let wide = [
        Move::Pause,
        Move::Replicas(2),
        Move::Replicas(1),
        Move::Strategy(RolloutStrategy::RollingUpdate),
        Move::Strategy(RolloutStrategy::BlueGreen),
    ];
    assert!(explore(&serving(timed), &wide, 6_000) > 3_000);
}

#[test]
fn no_newer_release_failed_migration_or_tampered_service_ends_badly() {
    let mut world = serving(Rollout { analysis: None, ..blue_green() });
    world.spare = vec!["b", "c"];
    world.commands = 0;
    let failed = Migration::Failed { job: "migrate".into(), message: "no".into() };
    let wide = [
        Move::Migration(failed),
        Move::Migration(Migration::Done),
        Move::Tamper(None),
        Move::Tamper(Some(Color::Green)),
        Move::Tamper(Some(Color::Blue)),
    ];
    assert!(explore(&world, &wide, 6_000) > 3_000);
}

#[test]
fn no_first_rollout_and_no_adoption_ends_badly() {
    assert!(explore(&fresh(blue_green()), &COMMANDS, 3_000) > 1_000);
    let mut adopted = fresh(blue_green());
    adopted.input.uncolored = true;
    assert!(explore(&adopted, &COMMANDS, 3_000) > 1_000);
}

/// Visits until nothing changes any more, with everything ready.
fn settle(world: &mut World) {
    for _ in 0..6 {
        world.all_ready();
        world.visit(usize::MAX, Answer::Good);
    }
}

#[test]
fn going_back_inside_the_window_is_one_visit() {
    let mut world = serving(blue_green());
    world.input.declared = Some("b".into());
    settle(&mut world);
    assert_eq!((world.serves(), world.input.record.rollout.phase), (Some("b"), Phase::Promoted));
    world.input.command = Some("undo".into());
    world.visit(usize::MAX, Answer::Good);
    assert_eq!(world.serves(), Some("a"));
}

#[test]
fn a_failing_metric_is_quoted_with_its_value_and_its_range() {
    let mut world = serving(blue_green());
    world.input.declared = Some("b".into());
    world.visit(usize::MAX, Answer::Good);
    world.all_ready();
    let first = decide(&world.input);
    assert_eq!(first.subject, Some(("b".into(), Color::Green)));
    world.input.record = first.record;
    world.input.measured = vec![Measured { metric: "errors".into(), answer: Ok(0.5) }];
    let failed = decide(&world.input).record.rollout;
    let instead = failed.instead.unwrap();
    assert_eq!((instead.revision.as_str(), failed.phase), ("a", Phase::RolledBack));
    assert!(instead.message.contains("metric errors is 0.5, wanted at most 0.01"), "{}", instead.message);
    assert_eq!(failed.aborted_revision.as_deref(), Some("b"));
}

#[test]
fn green_is_as_large_as_blue_before_the_switch_and_grows_with_the_autoscaler() {
    let mut world = serving(Rollout { preview_replicas: Some(1), analysis: None, ..blue_green() });
    world.input.replicas = 3;
    settle(&mut world);
    world.input.declared = Some("b".into());
    world.visit(usize::MAX, Answer::Good);
    assert_eq!(world.pods(Color::Green).unwrap().wanted, 1);
    world.input.replicas = 5;
    settle(&mut world);
    assert_eq!((world.serves(), world.pods(Color::Green).unwrap().wanted), (Some("b"), 5));
    assert_eq!(world.pods(Color::Blue).unwrap().wanted, 5, "going back loses nothing");
}

#[test]
fn a_command_is_carried_out_once_although_its_annotation_was_not_removed() {
    let mut world = serving(Rollout { analysis: None, ..blue_green() });
    for release in ["b", "c"] {
        world.input.declared = Some(release.into());
        settle(&mut world);
        world.pass(i64::from(DELAY));
        settle(&mut world);
    }
    assert_eq!(world.input.record.rollout.history, ["c", "b", "a"]);
    world.input.command = Some("undo".into());
    // The operator dies before its first step; then the annotation is still there.
    for _ in 0..3 {
        world.visit(0, Answer::Good);
    }
    assert_eq!(world.input.record.rollout.instead.as_ref().map(|instead| instead.revision.as_str()), Some("b"));
}

#[test]
fn a_platform_of_no_pods_changes_its_release_too() {
    let mut world = serving(Rollout { analysis: None, ..blue_green() });
    world.input.replicas = 0;
    for _ in 0..3 {
        let decision = decide(&world.input);
        world.input.record = decision.record;
        for step in &decision.steps {
            match step {
                Step::Run { color, release, replicas } => *world.pods_mut(*color) = Some(ready(release, *replicas)),
                Step::Select { active, .. } => world.input.selected = *active,
                _ => {}
            }
        }
        world.input.declared = Some("b".into());
    }
    assert_eq!((world.serves(), world.input.record.active), (Some("b"), Some(Color::Blue)));
    assert_eq!(decide(&world.input).record.active, Some(Color::Green));
}

#[test]
fn a_pause_stops_the_clocks() {
    let mut world = serving(Rollout { auto_promotion_seconds: Some(20), analysis: None, ..blue_green() });
    world.input.declared = Some("b".into());
    settle(&mut world);
    assert_eq!(world.input.record.rollout.phase, Phase::AwaitingPromotion);
    world.input.paused = true;
    world.visit(usize::MAX, Answer::Good);
    world.pass(50);
    world.visit(usize::MAX, Answer::Good);
    world.input.paused = false;
    settle(&mut world);
    assert_eq!((world.serves(), world.input.record.rollout.phase), (Some("a"), Phase::AwaitingPromotion));
}

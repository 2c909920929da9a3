//! Every reachable state, breadth first: from each it is tried whether it ends, well or at the stable release.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fmt::Write,
};

use crds::platform::Rollout;

use super::{super::*, world::*};

impl World {
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

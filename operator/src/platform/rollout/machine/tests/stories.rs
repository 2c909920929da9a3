//! Single ways through the machine, told one by one.

use crds::platform::Rollout;

use super::{
    super::{super::analysis::Measured, *},
    world::*,
};

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

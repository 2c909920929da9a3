//! The rollout as a pure function: from what is wished, what is observed and what was recorded to what is done next and
//! what is recorded now. It asks nobody, knows no clock and rolls no dice, so that every state of it can be explored.
//!
//! The record is written before the steps are carried out, and the steps follow from the record and from what is observed
//! alone. So a crash at any place repeats a step and never forgets a decision: what was aborted stays aborted.
//!
//! ```text
//!            spec                 ready, holds the          analysis passed          approved, or          delay over
//!   Idle ───────────► Migrating ─► Starting ─────────────► Analyzing ──► AwaitingPromotion ─► Promoting ─► Promoted ─► Idle
//!                         │           │ bad, or too slow       │ failed         │ abort           │             │
//!                     (waits: see  ◄──┴────────────────────────┴────────────────┴─────────────────┘             │ bad, abort, undo:
//!                      its Job)       RolledBack / Aborted / Undone: the stable release runs  ◄─────────────────┘ switched back
//! ```
//!
//! This file has the states and what leads from one to the next. What it is told is in [`facts`], what it answers in
//! [`decision`]; [`standing`], [`commands`], [`measured`] and [`clocks`] have the questions that it asks itself on the way.

mod clocks;
mod commands;
mod decision;
mod facts;
mod measured;
mod standing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crds::platform::{Color, InsteadReason, RolloutPhase as Phase, RolloutStrategy};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::clocks::after;
pub use self::{
    decision::{Decision, Step, Told},
    facts::{Input, Migration, Pods, Record, Trouble},
};
use super::analysis::Judgement;

pub fn decide(input: &Input) -> Decision {
    let mut machine = Machine {
        input,
        now: input.now,
        record: input.record.clone(),
        active: None,
        want: [None, None],
        select: None,
        migrate: false,
        forget: false,
        remove_uncolored: false,
        cut: false,
        drop_command: false,
        due: Vec::new(),
        subject: None,
        look_again: None,
        stuck: None,
        told: None,
    };
    machine.run();
    machine.decision()
}

#[expect(clippy::struct_excessive_bools, reason = "each is a step that is taken or not")]
struct Machine<'a> {
    input: &'a Input,
    now: Timestamp,
    record: Record,
    /// The colour that takes the requests as of now.
    active: Option<Color>,
    want: [Option<(String, u32)>; 2],
    /// The colour that is to take the requests.
    select: Option<Color>,
    migrate: bool,
    forget: bool,
    remove_uncolored: bool,
    /// A person does not want to wait for the end of the delay.
    cut: bool,
    drop_command: bool,
    due: Vec<String>,
    subject: Option<(String, Color)>,
    look_again: Option<Duration>,
    stuck: Option<String>,
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Settled,
    /// The target is another one now.
    Again,
}

impl Machine<'_> {
    fn run(&mut self) {
        self.see_who_is_active();
        if let Some(declared) = &self.input.declared
            && self.record.rollout.instead.as_ref().is_some_and(|instead| instead.declared_revision != *declared)
        {
            self.record.rollout.instead = None;
            self.record.rollout.aborted_revision = None;
        }
        self.record.rollout.declared_revision =
            self.input.declared.clone().or(self.record.rollout.declared_revision.take());
        self.obey();
        self.count();
        // A failure changes the target; what follows from that is decided at once, and ends because the new target is
        // what runs already, or the stable release, which is given up only when there is no other.
        for _ in 0..3 {
            if self.go() == Flow::Settled {
                break;
            }
        }
    }

    fn go(&mut self) -> Flow {
        self.want = [None, None];
        self.select = self.active;
        self.due.clear();
        self.subject = None;
        let Some(target) = self.target() else { return self.hold() };
        if self.input.paused && !self.goes_back(&target) {
            return self.hold();
        }
        self.resume();
        let Some(active) = self.active else {
            if self.input.uncolored {
                return self.adopt(&target);
            }
            // The very first: there is nobody whose requests could be lost.
            self.select = Some(Color::Blue);
            return self.in_place(Color::Blue, &target);
        };
        if let Some(flow) = self.after_the_switch(active, &target) {
            return flow;
        }
        let other = active.other();
        let Some(pods) = self.pods(active) else { return self.in_place(active, &target) };
        if pods.release == target {
            return self.settle(active, &target);
        }
        let served = self.record.stable.is_some() || pods.available > 0;
        if self.input.rollout.strategy == RolloutStrategy::RollingUpdate || !served {
            self.retire(other);
            return self.in_place(active, &target);
        }
        self.try_on(other, &target)
    }

    /// Nothing changes but the number of pods that take the requests.
    fn hold(&mut self) -> Flow {
        if self.input.paused {
            self.record.rollout.paused_time.get_or_insert(Time(self.now));
        }
        if let Some(color) = self.active
            && let Some(release) = self.release(color)
        {
            self.want(color, release, self.input.replicas);
        }
        Flow::Settled
    }

    /// What a pause does not hold: ending what is under way, as a person asked.
    fn goes_back(&self, target: &str) -> bool {
        let asked =
            self.record.rollout.instead.as_ref().is_some_and(|instead| instead.reason != InsteadReason::RolledBack);
        let ready = |color: Color| self.pods(color).is_some_and(|pods| pods.release == target && pods.full());
        let there = self.active.is_some_and(|color| ready(color) || ready(color.other()));
        asked && there && self.is_stable(target)
    }

    /// Pods without a colour serve until the first colour is ready.
    fn adopt(&mut self, target: &str) -> Flow {
        let color = Color::Blue;
        if !self.migrated(target) {
            return Flow::Settled;
        }
        self.begin(target);
        self.want(color, target, self.input.replicas);
        match self.pods(color) {
            Some(pods) if pods.release == target && pods.holds(self.input.replicas) => {
                self.phase(Phase::Promoting, format!("release {target} takes over from the pods without a colour"));
                self.select = Some(color);
            }
            pods => {
                let why = pods.map_or_else(|| "its pods are made".to_owned(), Pods::why_not);
                self.phase(Phase::Starting, format!("release {target}: {why}"));
                if self.too_slow() {
                    self.stuck = Some(why);
                }
            }
        }
        self.poll();
        Flow::Settled
    }

    /// The active colour itself changes to the target, pod by pod.
    fn in_place(&mut self, color: Color, target: &str) -> Flow {
        if !self.migrated(target) {
            if let Some(release) = self.release(color) {
                self.want(color, release, self.input.replicas);
            }
            return Flow::Settled;
        }
        self.begin(target);
        self.want(color, target, self.input.replicas);
        self.phase(Phase::Starting, format!("release {target} replaces the pods one after the other"));
        self.poll();
        Flow::Settled
    }

    /// The active colour has the target's template, and its pods are being replaced.
    fn becoming(&mut self, target: &str, pods: &Pods) -> Flow {
        self.record.preview = None;
        if self.record.rollout.started_time.is_none() {
            self.record.rollout.started_time = Some(Time(self.now));
            self.record.rollout.progressed_time = Some(Time(self.now));
        }
        self.progress(pods.ready);
        self.phase(Phase::Starting, format!("release {target}: {}", pods.why_not()));
        self.poll();
        let fatal = self.is_fatal(pods);
        if fatal || self.too_slow() {
            let why = pods.why_not();
            return self.give_up(target, &self.in_time(fatal, &why));
        }
        Flow::Settled
    }

    /// The target is tried on the colour that takes no requests.
    fn try_on(&mut self, color: Color, target: &str) -> Flow {
        let Some(active) = self.active else { return Flow::Settled };
        if let Some(release) = self.release(active) {
            self.want(active, release, self.input.replicas);
        }
        if !self.migrated(target) {
            return Flow::Settled;
        }
        self.begin(target);
        self.poll();
        // Going back to what was well needs no proof.
        let proven = self.is_stable(target);
        let full = self.full_size();
        let small = self.input.rollout.preview_replicas.map_or(full, |preview| preview.min(full));
        let growing = self.record.rollout.phase == Phase::Promoting;
        let size = if growing || proven { full } else { small };
        self.want(color, target, size);
        let Some(pods) = self.pods(color).filter(|pods| pods.release == target) else {
            self.phase(Phase::Starting, format!("release {target} starts as {}", color.as_str()));
            return Flow::Settled;
        };
        let answered = self.answered(target);
        self.progress(pods.ready + pods.holding + answered);
        let fatal = self.is_fatal(pods);
        if fatal {
            return self.give_up(target, &self.in_time(true, &pods.why_not()));
        }
        if !pods.holds(size) {
            // A replica that was lost has to come back before its time counts; one more that is wished for has not.
            if pods.wanted >= size && !growing {
                self.record.rollout.ready_time = None;
            }
            if !growing {
                self.phase(Phase::Starting, format!("release {target} as {}: {}", color.as_str(), pods.why_not()));
            }
            if self.too_slow() {
                return self.give_up(target, &self.in_time(false, &pods.why_not()));
            }
            return Flow::Settled;
        }
        let ready = self.record.rollout.ready_time.get_or_insert(Time(self.now)).0;
        if !proven {
            match self.judge(target, color, false) {
                Judgement::Passed => {}
                Judgement::Failed(why) => return self.give_up(target, &why),
                Judgement::Running(how) => {
                    self.phase(Phase::Analyzing, how.clone());
                    let interval = self.input.rollout.analysis.as_ref().map_or(0, |plan| plan.interval_seconds);
                    if self.slower_than(self.input.rollout.progress_deadline_seconds.saturating_add(interval)) {
                        return self.give_up(target, &self.in_time(false, &how));
                    }
                    return Flow::Settled;
                }
            }
            if let Some(waits) = self.waits(target, ready) {
                self.phase(Phase::AwaitingPromotion, waits);
                return Flow::Settled;
            }
        }
        self.phase(Phase::Promoting, format!("release {target} takes over with {full} replicas"));
        self.want(color, target, full);
        if pods.holds(full) {
            self.select = Some(color);
        }
        Flow::Settled
    }

    /// What the switch waits for, now that everything is well.
    fn waits(&mut self, target: &str, ready: Timestamp) -> Option<String> {
        if self.record.rollout.approved_revision.as_deref() == Some(target) {
            return None;
        }
        if !self.input.rollout.auto_promotion_enabled {
            return Some(format!(
                "release {target} is well: annotate tenantry.dev/rollout=promote to have it take over, or abort"
            ));
        }
        let due = after(ready, self.input.rollout.auto_promotion_seconds.unwrap_or(0));
        if self.now >= due {
            return None;
        }
        self.look_at(due);
        Some(format!("release {target} is well and takes over at {due}"))
    }

    /// While the colour that lost the requests is still there. `None`: there is nothing special about it any more.
    fn after_the_switch(&mut self, active: Color, target: &str) -> Option<Flow> {
        let switched = self.record.rollout.switched_time.as_ref()?.0;
        let over = after(switched, self.input.rollout.scale_down_delay_seconds);
        let other = active.other();
        let release = self.release(active).unwrap_or_default().to_owned();
        if self.remove_uncolored_after(over) {
            return None;
        }
        if self.is_stable(&release) || self.record.stable.is_none() {
            // What lost the requests is not what one would go back to; it only finishes what it has begun.
            if self.now >= over {
                self.record.rollout.switched_time = None;
            } else {
                self.look_at(over);
            }
            return None;
        }
        let old = self.pods(other).filter(|pods| self.is_stable(&pods.release));
        if let Some(old) = old
            && old.release == target
        {
            return Some(self.return_to(active, other, old));
        }
        let color = active;
        let judgement = self.judge(&release, color, true);
        let pods = self.pods(active);
        let slow = after(
            switched,
            self.input.rollout.scale_down_delay_seconds.max(self.input.rollout.progress_deadline_seconds),
        );
        let failure = match (judgement, pods) {
            (Judgement::Failed(why), _) => Some(why),
            (_, None) => Some("its Deployment is gone".to_owned()),
            (_, Some(pods)) if pods.wanted > 0 && pods.available == 0 => {
                Some(format!("after the switch {}", pods.why_not()))
            }
            (_, Some(pods)) if self.is_fatal(pods) => Some(pods.why_not()),
            (_, Some(pods)) if self.now >= slow && !pods.full() => Some(pods.why_not()),
            _ => None,
        };
        if let Some(cause) = failure {
            if let Some(old) = old.filter(|old| self.can_take_back(old)) {
                if target == release {
                    return Some(self.give_up(&release, &cause));
                }
                // Something newer is declared already: it is tried when the stable release is back.
                return Some(self.return_to(active, other, old));
            }
            self.stuck = Some(cause);
        }
        let full = pods.is_some_and(Pods::full);
        if self.cut || (self.now >= over && full) {
            self.finish(&release);
            return None;
        }
        if self.now < over {
            self.look_at(over);
        } else {
            self.poll();
        }
        self.phase(Phase::Promoted, format!("release {release} takes the requests; the old one stays until {over}"));
        self.want(active, &release, self.input.replicas);
        if let Some(old) = self.pods(other) {
            // As large as the other, so that going back is immediate.
            self.want(other, &old.release, self.full_size());
        }
        self.poll();
        Some(Flow::Settled)
    }

    /// The old colour is still there: the requests go back to it as soon as it is complete, which it mostly is.
    fn return_to(&mut self, active: Color, old: Color, pods: &Pods) -> Flow {
        let size = self.full_size();
        if let Some(release) = self.release(active) {
            self.want(active, release, self.input.replicas);
        }
        self.want(old, &pods.release, size);
        if self.can_take_back(pods) {
            self.select = Some(old);
        }
        self.phase(Phase::Promoting, format!("release {} takes the requests back", pods.release));
        self.poll();
        Flow::Settled
    }

    fn remove_uncolored_after(&mut self, over: Timestamp) -> bool {
        if !self.input.uncolored {
            return false;
        }
        if self.now >= over {
            self.remove_uncolored = true;
            self.record.rollout.switched_time = None;
        } else {
            self.look_at(over);
        }
        true
    }

    /// The target takes the requests.
    fn settle(&mut self, active: Color, target: &str) -> Flow {
        self.record.preview = None;
        self.want(active, target, self.input.replicas);
        self.retire(active.other());
        if self.input.uncolored && self.record.rollout.switched_time.is_none() {
            self.remove_uncolored = true;
        }
        if !self.is_stable(target) {
            let Some(pods) = self.pods(active) else { return Flow::Settled };
            if !pods.full() || pods.wanted < self.input.replicas {
                return self.becoming(target, pods);
            }
            self.finish(target);
        }
        let instead = self.record.rollout.instead.as_ref();
        let (phase, message) = match instead.map(|instead| (instead.reason, instead.message.clone())) {
            None => (Phase::Idle, String::new()),
            Some((InsteadReason::Aborted, message)) => (Phase::Aborted, message),
            Some((InsteadReason::RolledBack, message)) => (Phase::RolledBack, message),
            Some((InsteadReason::Undone, message)) => (Phase::Undone, message),
        };
        self.phase(phase, message);
        self.record.rollout.started_time = None;
        self.record.rollout.ready_time = None;
        self.record.rollout.approved_revision = None;
        Flow::Settled
    }

    /// Whether the schema is the target's; sees to it and says so where it is not.
    fn migrated(&mut self, target: &str) -> bool {
        // A release of earlier ran on an older schema, and migrations only expand.
        if self.input.declared.as_deref() != Some(target) || self.input.migration == Migration::Done {
            return true;
        }
        self.migrate = !self.forget;
        let message = match &self.input.migration {
            Migration::Failed { job, message } => format!("Job {job} failed: {message}"),
            Migration::Running { job } => format!("Job {job} brings the database to the schema of release {target}"),
            _ => format!("the database is brought to the schema of release {target}"),
        };
        self.phase(Phase::Migrating, message);
        false
    }
}

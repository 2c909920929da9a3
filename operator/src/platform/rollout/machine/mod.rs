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

use std::time::Duration;

use crds::platform::{
    AnalysisStatus, Color, CommandStatus, Instead, InsteadReason, Rollout, RolloutPhase as Phase, RolloutStatus,
    RolloutStrategy,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    analysis::{self, Judgement, Measured},
    command::{Command, Verb, brief},
};

/// How soon to look again while something is waited for that nothing announces.
const POLL: Duration = Duration::from_secs(1);
/// Entries of the history.
const HISTORY: usize = 32;

/// What the decision is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// In whole seconds, as times are recorded.
    pub now: Timestamp,
    pub rollout: Rollout,
    /// Pods that are wished for.
    pub replicas: u32,
    pub paused: bool,
    /// The release that the spec asks for; `None` while it cannot be made.
    pub declared: Option<String>,
    /// How far the migration of the declared release is.
    pub migration: Migration,
    /// The colour that the active Service selects.
    pub selected: Option<Color>,
    /// Whether the Deployment of version 0.1.0, which knew no colours, is there.
    pub uncolored: bool,
    pub blue: Option<Pods>,
    pub green: Option<Pods>,
    /// Releases that are kept.
    pub kept: Vec<String>,
    /// The value of the annotation.
    pub command: Option<String>,
    pub measured: Vec<Measured>,
    pub record: Record,
}

/// One colour's Deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pods {
    pub release: String,
    pub wanted: u32,
    /// Pods of this release that are available; 0 while the numbers are about an older template.
    pub ready: u32,
    /// Pods that are available, of whatever template.
    pub available: u32,
    /// Whether all pods are of this release and the numbers are about it.
    pub only: bool,
    /// Ready pods that serve the newest configuration of every tenant.
    pub holding: u32,
    /// Which replica lacks which tenant's revision.
    pub lacking: Option<String>,
    pub trouble: Option<Trouble>,
}

/// What keeps pods from becoming ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// It does not pass by itself.
    pub fatal: bool,
    /// When the pod was made: one that is left over from an earlier try says nothing about this one.
    pub since: Timestamp,
    /// The container's waiting reason and the pod's name.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Migration {
    #[default]
    NotStarted,
    Running {
        job: String,
    },
    Failed {
        job: String,
        message: String,
    },
    Done,
}

/// What has to survive a restart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    pub active: Option<Color>,
    /// The release that is being tried.
    pub preview: Option<String>,
    pub stable: Option<String>,
    pub rollout: RolloutStatus,
}

/// What is done next; in this order, each of them safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// See to it that the migration's Job is there.
    Migrate,
    /// Delete the Job that failed.
    ForgetMigration,
    Run {
        color: Color,
        release: String,
        replicas: u32,
    },
    Select {
        active: Option<Color>,
        preview: Color,
    },
    RemoveUncolored,
    DropCommand,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub record: Record,
    pub steps: Vec<Step>,
    /// Metrics that are due: with their answers the decision is made anew.
    pub due: Vec<String>,
    /// The release and colour that the metrics are about.
    pub subject: Option<(String, Color)>,
    pub look_again: Option<Duration>,
    /// The release that is to run.
    pub target: Option<String>,
    /// The rollout failed and nothing is there to go back to.
    pub stuck: Option<String>,
    /// What became of a command: an event.
    pub told: Option<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub refused: bool,
    pub message: String,
}

impl Pods {
    /// Everything that is wanted is ready, and nothing else is there.
    pub fn full(&self) -> bool {
        self.only && self.ready >= self.wanted
    }

    fn holds(&self, size: u32) -> bool {
        self.full() && self.wanted >= size && self.holding >= self.wanted
    }

    /// Why it is not ready, in words.
    fn why_not(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.message.clone();
        }
        if self.full()
            && let Some(lacking) = &self.lacking
        {
            return lacking.clone();
        }
        format!("{} of {} replicas are ready", self.ready, self.wanted)
    }
}

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

impl<'a> Machine<'a> {
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

    // ---- Who is who

    fn pods(&self, color: Color) -> Option<&'a Pods> {
        match color {
            Color::Blue => self.input.blue.as_ref(),
            Color::Green => self.input.green.as_ref(),
        }
    }

    fn release(&self, color: Color) -> Option<&'a str> {
        self.pods(color).map(|pods| pods.release.as_str())
    }

    fn active_release(&self) -> Option<&'a str> {
        self.active.and_then(|color| self.release(color))
    }

    fn is_stable(&self, release: &str) -> bool {
        self.record.stable.as_deref() == Some(release)
    }

    /// The Service tells. A selection that nobody could serve is somebody's mistake and is put back.
    fn see_who_is_active(&mut self) {
        let known = self.record.active;
        self.active = match self.input.selected {
            Some(color) if known.is_none_or(|known| known == color) => Some(color),
            Some(color) if self.pods(color).is_some_and(|pods| self.could_serve(pods)) => Some(color),
            _ => known,
        };
        if self.active != known {
            // The first colour at all has nobody to take over from.
            if known.is_some() || self.input.uncolored {
                self.record.rollout.switched_time = Some(Time(self.now));
                self.record.rollout.progressed_time = Some(Time(self.now));
            }
            self.record.rollout.approved_revision = None;
            self.record.preview = None;
            self.record.active = self.active;
        }
    }

    /// Complete, and more than nothing unless nothing is wished for.
    fn could_serve(&self, pods: &Pods) -> bool {
        pods.full() && (pods.wanted > 0 || self.input.replicas == 0)
    }

    /// Whether the stable release, in the other colour, is better than what takes the requests now.
    fn can_take_back(&self, old: &Pods) -> bool {
        let dead = self.active.and_then(|color| self.pods(color)).is_none_or(|pods| pods.available == 0);
        self.could_serve(old) || (dead && old.only && old.ready > 0)
    }

    /// The release that is to run: the declared one, or what runs instead of it.
    fn target(&self) -> Option<String> {
        let declared = self.input.declared.as_ref()?;
        let instead = self.record.rollout.instead.as_ref();
        Some(instead.map_or_else(|| declared.clone(), |instead| instead.revision.clone()))
    }

    /// The size of a colour that takes the requests, or is about to.
    fn full_size(&self) -> u32 {
        let current = self.active.and_then(|color| self.pods(color)).map_or(0, |pods| pods.wanted);
        // Not lowered at the switch, whatever the autoscaler does meanwhile.
        self.input.replicas.max(current)
    }

    // ---- What a person says

    fn obey(&mut self) {
        let Some(value) = &self.input.command else {
            if let Some(command) = &mut self.record.rollout.command {
                command.pending_removal = false;
            }
            return;
        };
        self.drop_command = true;
        let known = self.record.rollout.command.as_ref();
        if known.is_some_and(|known| known.pending_removal && known.value == brief(value)) {
            // Carried out before a crash; only its removal is left.
            return;
        }
        let done = Command::parse(value).and_then(|command| self.carry_out(&command));
        let (refused, message) = match done {
            Ok(message) => (false, message),
            Err(message) => (true, message),
        };
        self.record.rollout.command = Some(CommandStatus {
            value: brief(value).into(),
            message: message.clone(),
            refused,
            time: Time(self.now),
            pending_removal: true,
        });
        self.told = Some(Told { refused, message });
    }

    fn carry_out(&mut self, command: &Command) -> Result<String, String> {
        let Some(declared) = self.input.declared.clone() else {
            return Err("nothing can be rolled out before PostgreSQL, Redis and the sealing key are there".into());
        };
        let target = self.target().unwrap_or_default();
        let wrong = |named: &str| {
            format!("release {} is not the one that this is about: that is {named}", command_release(command))
        };
        match command.verb {
            Verb::Promote => {
                if command.release.as_ref().is_some_and(|release| *release != target) {
                    return Err(wrong(&target));
                }
                if self.in_window() && self.active_release() == Some(target.as_str()) {
                    self.cut = true;
                    return Ok(format!("release {target} is final: the old colour is not waited for"));
                }
                if self.active_release() == Some(target.as_str()) {
                    return Err(format!("nothing waits to be promoted: release {target} takes the requests already"));
                }
                self.record.rollout.approved_revision = Some(target.clone());
                if self.in_window() {
                    self.cut = true;
                }
                Ok(format!(
                    "release {target} is approved and takes over as soon as it is ready and its analysis passes"
                ))
            }
            Verb::Abort => {
                if command.release.as_ref().is_some_and(|release| *release != target) {
                    return Err(wrong(&target));
                }
                self.end(&declared, &target, InsteadReason::Aborted, "a person aborted it")?;
                Ok(format!("release {target} is aborted: {} runs", self.target().unwrap_or_default()))
            }
            Verb::Retry => {
                if command.release.as_ref().is_some_and(|release| *release != declared) {
                    return Err(wrong(&declared));
                }
                if self.record.rollout.instead.take().is_some() {
                    self.record.rollout.aborted_revision = None;
                    self.record.preview = None;
                    return Ok(format!("release {declared} is tried again"));
                }
                if let Migration::Failed { job, .. } = &self.input.migration {
                    self.forget = true;
                    return Ok(format!("Job {job} is run again"));
                }
                Err("there is nothing to try again: no release was aborted, rolled back or undone".into())
            }
            Verb::Undo => self.undo(&declared, &target, command.release.as_deref()),
        }
    }

    fn undo(&mut self, declared: &str, target: &str, named: Option<&str>) -> Result<String, String> {
        let active = self.active_release().unwrap_or_default().to_owned();
        let wanted = match named {
            Some(named) => named.to_owned(),
            None if target != active || !self.is_stable(&active) => {
                self.end(declared, target, InsteadReason::Undone, "a person undid it")?;
                return Ok(format!("release {target} is undone: {} runs", self.target().unwrap_or_default()));
            }
            None => {
                let earlier = |release: &&String| **release != active && self.can_run(release);
                let Some(earlier) = self.record.rollout.history.iter().find(earlier) else {
                    return Err("no earlier release is kept that could be gone back to".into());
                };
                earlier.clone()
            }
        };
        if wanted == target {
            return Err(format!("release {wanted} is what runs, or is on its way already"));
        }
        if !self.can_run(&wanted) {
            let kept = self.input.kept.join(", ");
            return Err(format!("release {} is not kept; these are: {kept}", brief(&wanted)));
        }
        self.record.preview = None;
        self.record.rollout.aborted_revision = Some(target.to_owned());
        self.set_instead(
            declared,
            &wanted,
            InsteadReason::Undone,
            &format!("a person went back from {target} to {wanted}"),
        );
        Ok(format!("release {wanted} runs instead of {target}"))
    }

    fn can_run(&self, release: &str) -> bool {
        self.input.kept.iter().any(|kept| kept == release)
    }

    // ---- Going back

    fn set_instead(&mut self, declared: &str, release: &str, reason: InsteadReason, message: &str) {
        self.record.rollout.instead = (release != declared).then(|| Instead {
            declared_revision: declared.into(),
            revision: release.into(),
            reason,
            message: message.into(),
            time: Time(self.now),
        });
    }

    /// Ends what is under way in favour of the stable release.
    fn end(&mut self, declared: &str, target: &str, reason: InsteadReason, why: &str) -> Result<(), String> {
        let active = self.active_release().map(str::to_owned);
        // Before the switch what takes the requests stays; after it, the stable release comes back.
        let back = match (&self.record.stable, active) {
            (Some(stable), _) => stable.clone(),
            (None, Some(active)) => active,
            (None, None) => return Err("this is the first rollout, and there is nothing to go back to".into()),
        };
        if back == target {
            return Err(format!("nothing is under way that could be ended: release {target} is the stable one"));
        }
        if !self.can_run(&back) && !self.runs_somewhere(&back) {
            return Err(format!("the stable release {back} is not kept any more"));
        }
        self.record.preview = None;
        self.record.rollout.approved_revision = None;
        self.record.rollout.aborted_revision = Some(target.to_owned());
        self.set_instead(declared, &back, reason, &format!("release {target}: {why}"));
        Ok(())
    }

    fn runs_somewhere(&self, release: &str) -> bool {
        Color::ALL.iter().any(|color| self.release(*color) == Some(release))
    }

    /// The target is bad.
    fn give_up(&mut self, target: &str, cause: &str) -> Flow {
        let Some(declared) = self.input.declared.clone() else { return Flow::Settled };
        if self.end(&declared, target, InsteadReason::RolledBack, cause).is_ok() {
            return Flow::Again;
        }
        self.stuck = Some(cause.to_owned());
        Flow::Settled
    }

    // ---- Measurements

    fn count(&mut self) {
        for measured in &self.input.measured {
            let Some(plan) = &self.input.rollout.analysis else { return };
            analysis::count(plan, &mut self.record.rollout.analysis, measured, self.now);
        }
    }

    /// Begins the analysis of this release, or goes on with it, and says how it stands.
    fn judge(&mut self, release: &str, color: Color, promoted: bool) -> Judgement {
        let Some(plan) = &self.input.rollout.analysis else { return Judgement::Passed };
        let status = &mut self.record.rollout.analysis;
        if status.as_ref().is_none_or(|status| status.revision != release || status.promoted != promoted) {
            *status = Some(AnalysisStatus { revision: release.into(), promoted, metrics: Vec::new() });
        }
        let Some(status) = status else { return Judgement::Running(String::new()) };
        let judgement = analysis::judge(plan, status);
        if promoted || matches!(judgement, Judgement::Running(_)) {
            let (due, next) = analysis::due(plan, status, self.now);
            self.subject = Some((release.into(), color));
            self.due = due;
            if let Some(next) = next {
                self.look_at(next);
            }
        }
        judgement
    }

    // ---- The rollout

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

    /// What a pause does not hold: ending what is under way, as a person asked.
    fn goes_back(&self, target: &str) -> bool {
        let asked =
            self.record.rollout.instead.as_ref().is_some_and(|instead| instead.reason != InsteadReason::RolledBack);
        let ready = |color: Color| self.pods(color).is_some_and(|pods| pods.release == target && pods.full());
        let there = self.active.is_some_and(|color| ready(color) || ready(color.other()));
        asked && there && self.is_stable(target)
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

    /// A pause does not count: every clock goes on from where it was held.
    fn resume(&mut self) {
        if self.input.paused {
            return;
        }
        if let Some(since) = self.record.rollout.paused_time.take() {
            let held = self.now.duration_since(since.0);
            let rollout = &mut self.record.rollout;
            for time in [&mut rollout.progressed_time, &mut rollout.ready_time, &mut rollout.switched_time]
                .into_iter()
                .flatten()
            {
                time.0 = time.0.saturating_add(held).unwrap_or(self.now).min(self.now);
            }
        }
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

    // ---- Parts

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

    /// The try of a release begins, unless it has.
    fn begin(&mut self, target: &str) {
        if self.record.preview.as_deref() == Some(target) {
            return;
        }
        self.record.preview = Some(target.into());
        let rollout = &mut self.record.rollout;
        rollout.started_time = Some(Time(self.now));
        rollout.progressed_time = Some(Time(self.now));
        rollout.progress = 0;
        rollout.ready_time = None;
        rollout.analysis = None;
        rollout.phase = Phase::Starting;
        if rollout.approved_revision.as_deref() != Some(target) {
            rollout.approved_revision = None;
        }
    }

    /// The release has been rolled out to the end.
    fn finish(&mut self, release: &str) {
        self.record.stable = Some(release.into());
        self.record.preview = None;
        let rollout = &mut self.record.rollout;
        rollout.switched_time = None;
        rollout.started_time = None;
        rollout.history.retain(|known| known != release);
        rollout.history.insert(0, release.into());
        rollout.history.truncate(HISTORY);
    }

    /// A colour that is needed no more goes to zero, but not while it finishes what it has begun.
    fn retire(&mut self, color: Color) {
        if let Some(pods) = self.pods(color) {
            let replicas = if self.record.rollout.switched_time.is_some() { pods.wanted } else { 0 };
            self.want(color, &pods.release, replicas);
        }
    }

    /// Whether a pod of this try has a trouble that does not pass by itself.
    fn is_fatal(&self, pods: &Pods) -> bool {
        let began = self.record.rollout.started_time.as_ref().map(|time| time.0);
        pods.trouble.as_ref().is_some_and(|trouble| trouble.fatal && began.is_none_or(|began| trouble.since >= began))
    }

    /// Whether there is a colour that one could go back to at once.
    fn in_window(&self) -> bool {
        self.record.rollout.switched_time.is_some()
            && self.active_release().is_some_and(|release| !self.is_stable(release))
    }

    fn answered(&self, release: &str) -> u32 {
        let status = self.record.rollout.analysis.as_ref().filter(|status| status.revision == release);
        status.map_or(0, |status| status.metrics.iter().map(|metric| metric.passed + metric.failed).sum())
    }

    fn progress(&mut self, mark: u32) {
        if mark > self.record.rollout.progress {
            self.record.rollout.progress = mark;
            self.record.rollout.progressed_time = Some(Time(self.now));
        }
    }

    fn too_slow(&self) -> bool {
        self.slower_than(self.input.rollout.progress_deadline_seconds)
    }

    fn slower_than(&self, seconds: u32) -> bool {
        self.record.rollout.progressed_time.as_ref().is_some_and(|since| self.now >= after(since.0, seconds))
    }

    fn in_time(&self, at_once: bool, why: &str) -> String {
        if at_once {
            return why.to_owned();
        }
        format!("no progress within {} seconds: {why}", self.input.rollout.progress_deadline_seconds)
    }

    fn phase(&mut self, phase: Phase, message: String) {
        let rollout = &mut self.record.rollout;
        if rollout.phase != phase {
            rollout.phase = phase;
            rollout.progressed_time = Some(Time(self.now));
        }
        rollout.message = message;
    }

    fn want(&mut self, color: Color, release: &str, replicas: u32) {
        let [blue, green] = &mut self.want;
        let want = if color == Color::Blue { blue } else { green };
        *want = Some((release.to_owned(), replicas));
    }

    fn poll(&mut self) {
        self.look_in(POLL);
    }

    fn look_at(&mut self, at: Timestamp) {
        self.look_in(Duration::try_from(at.duration_since(self.now)).unwrap_or_default());
    }

    fn look_in(&mut self, wait: Duration) {
        self.look_again = Some(self.look_again.map_or(wait, |known| known.min(wait)));
    }

    fn decision(self) -> Decision {
        let mut steps = Vec::new();
        if self.forget {
            steps.push(Step::ForgetMigration);
        }
        if self.migrate {
            steps.push(Step::Migrate);
        }
        let grows = |color: Color, (release, replicas): &(String, u32)| {
            self.pods(color).is_none_or(|pods| pods.release != *release || pods.wanted <= *replicas)
        };
        let wants: Vec<_> =
            Color::ALL.into_iter().zip(&self.want).filter_map(|(color, want)| Some((color, want.as_ref()?))).collect();
        let run = |(color, want): &(Color, &(String, u32))| Step::Run {
            color: *color,
            release: want.0.clone(),
            replicas: want.1,
        };
        // What grows first, then who takes the requests, then what shrinks.
        steps.extend(wants.iter().filter(|(color, want)| grows(*color, want)).map(run));
        let tried = |color: &Color| {
            let target = self.record.preview.as_deref();
            let want = self.want.get(usize::from(*color == Color::Green)).and_then(Option::as_ref);
            target.is_some() && want.map(|want| want.0.as_str()) == target
        };
        let other = self.active.unwrap_or(Color::Green).other();
        let preview = if tried(&other) { other } else { self.select.or(self.active).unwrap_or(Color::Blue) };
        steps.push(Step::Select { active: self.select, preview });
        // Not in the step that takes the requests away: the Service has to be seen as changed first.
        steps.extend(
            wants
                .iter()
                .filter(|(color, want)| {
                    !grows(*color, want) && (self.select == self.active || Some(*color) == self.select)
                })
                .map(run),
        );
        if self.remove_uncolored {
            steps.push(Step::RemoveUncolored);
        }
        if self.drop_command {
            steps.push(Step::DropCommand);
        }
        let target = self.target();
        Decision {
            target,
            steps,
            due: self.due,
            subject: self.subject,
            look_again: self.look_again,
            stuck: self.stuck,
            told: self.told,
            record: self.record,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Settled,
    /// The target is another one now.
    Again,
}

fn command_release(command: &Command) -> &str {
    command.release.as_deref().map(brief).unwrap_or_default()
}

fn after(time: Timestamp, seconds: u32) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(time)
}

#[cfg(test)]
mod tests;

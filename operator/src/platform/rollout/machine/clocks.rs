//! What takes time: the beginning and the end of a try, its progress and its deadlines, and when to look again.

use std::time::Duration;

use crds::platform::RolloutPhase as Phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Machine;

/// How soon to look again while something is waited for that nothing announces.
const POLL: Duration = Duration::from_secs(1);
/// Entries of the history.
const HISTORY: usize = 32;

impl Machine<'_> {
    /// The try of a release begins, unless it has.
    pub(super) fn begin(&mut self, target: &str) {
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
    pub(super) fn finish(&mut self, release: &str) {
        self.record.stable = Some(release.into());
        self.record.preview = None;
        let rollout = &mut self.record.rollout;
        rollout.switched_time = None;
        rollout.started_time = None;
        rollout.history.retain(|known| known != release);
        rollout.history.insert(0, release.into());
        rollout.history.truncate(HISTORY);
    }

    /// A pause does not count: every clock goes on from where it was held.
    pub(super) fn resume(&mut self) {
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

    pub(super) fn phase(&mut self, phase: Phase, message: String) {
        let rollout = &mut self.record.rollout;
        if rollout.phase != phase {
            rollout.phase = phase;
            rollout.progressed_time = Some(Time(self.now));
        }
        rollout.message = message;
    }

    pub(super) fn progress(&mut self, mark: u32) {
        if mark > self.record.rollout.progress {
            self.record.rollout.progress = mark;
            self.record.rollout.progressed_time = Some(Time(self.now));
        }
    }

    pub(super) fn too_slow(&self) -> bool {
        self.slower_than(self.input.rollout.progress_deadline_seconds)
    }

    pub(super) fn slower_than(&self, seconds: u32) -> bool {
        self.record.rollout.progressed_time.as_ref().is_some_and(|since| self.now >= after(since.0, seconds))
    }

    pub(super) fn in_time(&self, at_once: bool, why: &str) -> String {
        if at_once {
            return why.to_owned();
        }
        format!("no progress within {} seconds: {why}", self.input.rollout.progress_deadline_seconds)
    }

    pub(super) fn poll(&mut self) {
        self.look_in(POLL);
    }

    pub(super) fn look_at(&mut self, at: Timestamp) {
        self.look_in(Duration::try_from(at.duration_since(self.now)).unwrap_or_default());
    }

    fn look_in(&mut self, wait: Duration) {
        self.look_again = Some(self.look_again.map_or(wait, |known| known.min(wait)));
    }
}

pub(super) fn after(time: Timestamp, seconds: u32) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(time)
}

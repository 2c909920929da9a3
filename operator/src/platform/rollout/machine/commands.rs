//! What a person says by annotation, and how what is under way is ended: by a person, or because it is bad.

use crds::platform::{CommandStatus, Instead, InsteadReason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    super::command::{Command, Verb, brief},
    Flow, Machine, Migration, Told,
};

impl Machine<'_> {
    pub(super) fn obey(&mut self) {
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

    /// The target is bad.
    pub(super) fn give_up(&mut self, target: &str, cause: &str) -> Flow {
        let Some(declared) = self.input.declared.clone() else { return Flow::Settled };
        if self.end(&declared, target, InsteadReason::RolledBack, cause).is_ok() {
            return Flow::Again;
        }
        self.stuck = Some(cause.to_owned());
        Flow::Settled
    }
}

fn command_release(command: &Command) -> &str {
    command.release.as_deref().map(brief).unwrap_or_default()
}

//! What the machine answers: the record as it is to be written, and the steps in the order in which they lose no request.

use std::time::Duration;

use crds::platform::Color;

use super::{Machine, Record};

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

impl Machine<'_> {
    /// A colour that is needed no more goes to zero, but not while it finishes what it has begun.
    pub(super) fn retire(&mut self, color: Color) {
        if let Some(pods) = self.pods(color) {
            let replicas = if self.record.rollout.switched_time.is_some() { pods.wanted } else { 0 };
            self.want(color, &pods.release, replicas);
        }
    }

    pub(super) fn want(&mut self, color: Color, release: &str, replicas: u32) {
        let [blue, green] = &mut self.want;
        let want = if color == Color::Blue { blue } else { green };
        *want = Some((release.to_owned(), replicas));
    }

    pub(super) fn decision(self) -> Decision {
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

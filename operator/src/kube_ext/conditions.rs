//! Conditions as meta/v1 wants them: all types present from the first visit, `lastTransitionTime` moved only by a change
//! of status, `observedGeneration` on each, `message` always there.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Reason of a condition that has not been worked out for this generation yet.
const RECONCILING: &str = "Reconciling";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    True,
    False,
    Unknown,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition whose status or reason is not what it was.
#[derive(Debug, Clone, Copy)]
pub struct Transition<'a> {
    pub before: Option<&'a Condition>,
    pub after: &'a Condition,
}

/// The conditions of one object while it is worked through.
#[derive(Debug, Clone)]
pub struct Conditions<'a> {
    previous: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// All `types`, in this order, as `Unknown` until they are [set](Self::set).
    pub fn new(types: &[&str], previous: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        let mut conditions = Self { previous, generation, now, list: Vec::with_capacity(types.len()) };
        for type_ in types {
            conditions.set(type_, State::Unknown, RECONCILING, "not worked out yet");
        }
        conditions
    }

    /// As they stand, until some of them are [set](Self::set) anew.
    pub fn again(previous: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { previous, generation, now, list: previous.to_vec() }
    }

    /// States one condition.
    pub fn set(&mut self, type_: &str, state: State, reason: &str, message: impl Into<String>) -> &mut Self {
        let status = state.as_str();
        let since = find(self.previous, type_)
            .filter(|before| before.status == status)
            .map_or_else(|| Time(self.now), |before| before.last_transition_time.clone());
        let condition = Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: self.generation,
            last_transition_time: since,
        };
        match self.list.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => *known = condition,
            None => self.list.push(condition),
        }
        self
    }

    /// Whether the condition is `True` as of now.
    pub fn holds(&self, type_: &str) -> bool {
        find(&self.list, type_).is_some_and(|condition| condition.status == "True")
    }

    pub fn get(&self, type_: &str) -> Option<&Condition> {
        find(&self.list, type_)
    }

    /// What changed against the object's last status: the occasions for events.
    pub fn transitions(&self) -> impl Iterator<Item = Transition<'_>> {
        self.list.iter().map(|after| Transition { before: find(self.previous, &after.type_), after }).filter(|t| {
            t.before.is_none_or(|before| before.status != t.after.status || before.reason != t.after.reason)
        })
    }

    pub fn into_vec(self) -> Vec<Condition> {
        self.list
    }
}

/// The condition of this type.
pub fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Timestamp = Timestamp::constant(1_000, 0);
    const LATE: Timestamp = Timestamp::constant(2_000, 0);

    fn first() -> Vec<Condition> {
        let mut conditions = Conditions::new(&["Ready", "Accepted"], &[], Some(1), EARLY);
        conditions.set("Accepted", State::True, "Accepted", "");
        conditions.into_vec()
    }

    #[test]
    fn every_condition_is_there_from_the_first_visit_and_serializes_its_message() {
        let json = serde_json::to_value(first()).unwrap();
        assert_eq!(json[0]["status"], "Unknown");
        assert_eq!(json[0]["reason"], "Reconciling");
        assert_eq!(json[1]["message"], "");
        assert_eq!(json[1]["observedGeneration"], 1);
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let before = first();
        let mut conditions = Conditions::new(&["Ready", "Accepted"], &before, Some(2), LATE);
        conditions.set("Ready", State::True, "Ready", "").set("Accepted", State::True, "StillAccepted", "again");
        let after = conditions.into_vec();
        assert_eq!(after[0].last_transition_time, Time(LATE));
        assert_eq!(after[1].last_transition_time, Time(EARLY));
        assert_eq!(after[1].observed_generation, Some(2));
    }

    #[test]
    fn a_transition_is_a_change_of_status_or_reason_but_not_of_words() {
        let before = first();
        let mut conditions = Conditions::new(&["Ready", "Accepted"], &before, Some(1), LATE);
        conditions.set("Accepted", State::True, "Accepted", "other words");
        assert_eq!(conditions.transitions().count(), 0);
        conditions.set("Accepted", State::False, "Conflicted", "taken");
        assert_eq!(conditions.transitions().map(|t| t.after.reason.as_str()).collect::<Vec<_>>(), ["Conflicted"]);
    }
}

//! Who is looked at next: pure, time is passed in.
//!
//! An object waits at most once and is never looked at twice at the same time; what is asked for during its visit is one
//! more visit afterwards. There are two lanes. What somebody waits for goes at once; what is only to be made sure of (all
//! objects of a new leader, the counts in statuses that stand) goes at a bounded pace, when nothing else waits.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Namespace and name.
pub type Id = (String, String);

/// The time between two visits in the background lane: with its two reads, a Tenant's costs the API server at most 400
/// requests a second.
pub const PACE: Duration = Duration::from_millis(5);

/// How much there is to look at. The larger one includes the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Visit {
    /// Only what the replicas say is new.
    Answers,
    /// Anything may be.
    Whole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Background,
    Urgent,
}

#[derive(Debug, Clone, Copy)]
struct Wish {
    visit: Visit,
    lane: Lane,
}

impl Wish {
    fn and(self, other: Self) -> Self {
        Self { visit: self.visit.max(other.visit), lane: self.lane.max(other.lane) }
    }
}

#[derive(Debug, Default)]
pub struct Schedule {
    waiting: HashMap<Id, Wish>,
    /// In the order in which they were asked for. An entry whose object waits in the other lane by now is skipped.
    urgent: VecDeque<Id>,
    background: VecDeque<Id>,
    /// What was asked for meanwhile.
    running: HashMap<Id, Option<Wish>>,
    due: HashMap<Id, Instant>,
    later: BTreeSet<(Instant, Id)>,
    /// When the background lane may move again.
    next_background: Option<Instant>,
}

impl Schedule {
    /// Asks for a visit as soon as its lane allows.
    pub fn push(&mut self, id: Id, visit: Visit, lane: Lane) {
        let wish = Wish { visit, lane };
        if let Some(again) = self.running.get_mut(&id) {
            *again = Some(again.map_or(wish, |known| known.and(wish)));
            return;
        }
        let before = self.waiting.get(&id).copied();
        let wish = before.map_or(wish, |known| known.and(wish));
        self.waiting.insert(id.clone(), wish);
        if before.is_none_or(|before| before.lane != wish.lane) {
            match wish.lane {
                Lane::Urgent => self.urgent.push_back(id),
                Lane::Background => self.background.push_back(id),
            }
        }
    }

    /// Asks for a whole visit at this time, unless an earlier one is asked for already.
    pub fn push_at(&mut self, id: Id, at: Instant) {
        match self.due.get(&id) {
            Some(known) if *known <= at => return,
            Some(known) => drop(self.later.remove(&(*known, id.clone()))),
            None => {}
        }
        self.due.insert(id.clone(), at);
        self.later.insert((at, id));
    }

    /// The next visit that may begin now. It has begun when this returns.
    pub fn next(&mut self, now: Instant) -> Option<(Id, Visit)> {
        while let Some((at, _)) = self.later.first()
            && *at <= now
        {
            let Some((_, id)) = self.later.pop_first() else { break };
            self.due.remove(&id);
            self.push(id, Visit::Whole, Lane::Urgent);
        }
        if let Some(found) = self.take(Lane::Urgent) {
            return Some(found);
        }
        if self.next_background.is_some_and(|at| now < at) {
            return None;
        }
        let found = self.take(Lane::Background)?;
        self.next_background = Some(now + PACE);
        Some(found)
    }

    fn take(&mut self, lane: Lane) -> Option<(Id, Visit)> {
        loop {
            let id = match lane {
                Lane::Urgent => self.urgent.pop_front()?,
                Lane::Background => self.background.pop_front()?,
            };
            let Some(wish) = self.waiting.get(&id).copied().filter(|wish| wish.lane == lane) else { continue };
            self.waiting.remove(&id);
            // A whole visit says itself when the next one is due.
            if wish.visit == Visit::Whole
                && let Some(at) = self.due.remove(&id)
            {
                self.later.remove(&(at, id.clone()));
            }
            self.running.insert(id.clone(), None);
            return Some((id, wish.visit));
        }
    }

    /// The visit is over; `again` is when it asked for the next one.
    pub fn done(&mut self, id: &Id, again: Option<Instant>) {
        let asked = self.running.remove(id).flatten();
        if let Some(at) = again {
            self.push_at(id.clone(), at);
        }
        if let Some(Wish { visit, lane }) = asked {
            self.push(id.clone(), visit, lane);
        }
    }

    /// When [`Self::next`] may have something although nothing happens until then.
    pub fn wake(&self) -> Option<Instant> {
        let later = self.later.first().map(|(at, _)| *at);
        let background = self.next_background.filter(|_| !self.background.is_empty());
        later.into_iter().chain(background).min()
    }

    /// How many wait for their turn.
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        ("shop".into(), name.into())
    }

    fn urgent(schedule: &mut Schedule, name: &str) {
        schedule.push(id(name), Visit::Whole, Lane::Urgent);
    }

    /// What may begin at this time, to the end.
    fn begun(schedule: &mut Schedule, now: Instant) -> Vec<(String, Visit)> {
        std::iter::from_fn(|| schedule.next(now)).map(|((_, name), visit)| (name, visit)).collect()
    }

    #[test]
    fn an_object_waits_once_and_a_push_during_its_visit_asks_for_another() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        urgent(&mut schedule, "acme");
        schedule.push(id("acme"), Visit::Answers, Lane::Background);
        assert_eq!(begun(&mut schedule, now), [("acme".into(), Visit::Whole)]);
        schedule.push(id("acme"), Visit::Answers, Lane::Urgent);
        urgent(&mut schedule, "acme");
        assert_eq!(begun(&mut schedule, now), [], "it is never looked at twice at the same time");
        schedule.done(&id("acme"), None);
        assert_eq!(begun(&mut schedule, now), [("acme".into(), Visit::Whole)]);
        schedule.done(&id("acme"), None);
        assert_eq!((begun(&mut schedule, now), schedule.depth(), schedule.wake()), (vec![], 0, None));
    }

    #[test]
    fn the_background_waits_for_what_is_urgent_and_keeps_its_pace() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for name in ["a", "b", "c"] {
            schedule.push(id(name), Visit::Whole, Lane::Background);
        }
        urgent(&mut schedule, "z");
        urgent(&mut schedule, "c");
        let names =
            |schedule: &mut Schedule, now| begun(schedule, now).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&mut schedule, now), ["z", "c", "a"]);
        assert_eq!(schedule.wake(), Some(now + PACE));
        assert_eq!(names(&mut schedule, now + PACE), ["b"]);
        assert_eq!(names(&mut schedule, now + 2 * PACE), [""; 0], "what became urgent does not come twice");
    }

    #[test]
    fn of_two_times_the_earlier_counts_and_a_whole_visit_replaces_it() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let second = Duration::from_secs(1);
        schedule.push_at(id("acme"), now + 2 * second);
        schedule.push_at(id("acme"), now + second);
        schedule.push_at(id("acme"), now + 3 * second);
        assert_eq!((begun(&mut schedule, now), schedule.wake()), (vec![], Some(now + second)));
        assert_eq!(begun(&mut schedule, now + second), [("acme".into(), Visit::Whole)]);
        schedule.done(&id("acme"), Some(now + 5 * second));
        schedule.push(id("acme"), Visit::Answers, Lane::Urgent);
        assert_eq!(begun(&mut schedule, now + second).len(), 1);
        schedule.done(&id("acme"), None);
        assert_eq!(schedule.wake(), Some(now + 5 * second), "a glance at the answers is no visit");
        urgent(&mut schedule, "acme");
        assert_eq!((begun(&mut schedule, now + second).len(), schedule.wake()), (1, None));
    }
}

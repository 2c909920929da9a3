//! Conditions in few bytes. Ten thousand tenants say nearly the same of themselves, six times each: the words are kept once,
//! and each object keeps what is its own, since when and of which generation.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::kube_ext::Uid;

/// Between the words of a condition. The first three cannot contain it: the API server accepts names only.
const SEPARATOR: char = '\n';

/// The conditions of all objects of one kind, by uid.
#[derive(Debug, Default)]
pub(super) struct Said {
    of: HashMap<Uid, Box<[One]>>,
    words: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct One {
    /// Type, status, reason and message.
    words: Arc<str>,
    generation: Option<i64>,
    since: Timestamp,
}

impl Said {
    /// Remembers what an object says now.
    pub(super) fn put(&mut self, uid: Uid, conditions: &[Condition]) {
        self.forget(&uid);
        if conditions.is_empty() {
            return;
        }
        let conditions = conditions.iter().map(|condition| {
            let Condition { type_, status, reason, message, observed_generation, last_transition_time } = condition;
            let words = [type_, status, reason, message].map(String::as_str).join("\n");
            let known = self.words.get(words.as_str()).cloned();
            let words = known.unwrap_or_else(|| {
                let words: Arc<str> = words.into();
                self.words.insert(words.clone());
                words
            });
            One { words, generation: *observed_generation, since: last_transition_time.0 }
        });
        let conditions = conditions.collect();
        self.of.insert(uid, conditions);
    }

    pub(super) fn forget(&mut self, uid: &Uid) {
        for One { words, .. } in self.of.remove(uid).into_iter().flatten() {
            // Here, and among all words: nobody else says it.
            if Arc::strong_count(&words) == 2 {
                self.words.remove(&words);
            }
        }
    }

    /// What the object says, as it was put.
    pub(super) fn get(&self, uid: &Uid) -> Vec<Condition> {
        self.of.get(uid).into_iter().flatten().map(One::condition).collect()
    }
}

impl One {
    fn condition(&self) -> Condition {
        let mut words = self.words.splitn(4, SEPARATOR).map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        Condition {
            type_: next(),
            status: next(),
            reason: next(),
            message: next(),
            observed_generation: self.generation,
            last_transition_time: Time(self.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, message: &str, second: i64) -> Condition {
        Condition {
            type_: type_.into(),
            status: "True".into(),
            reason: type_.into(),
            message: message.into(),
            observed_generation: Some(second),
            last_transition_time: Time(Timestamp::from_second(second).unwrap()),
        }
    }

    #[test]
    fn what_was_put_comes_back_and_equal_words_are_kept_once() {
        let mut said = Said::default();
        let first = [condition("Ready", "in force", 1), condition("Programmed", "two\nlines\n", 2)];
        let second = [condition("Ready", "in force", 7), condition("Programmed", "", 8)];
        let [one, two] = ["3f2c5d4e-9a41-4c55-8f6b-000000000001", "u-2"].map(Uid::from);
        said.put(one.clone(), &first);
        said.put(two.clone(), &second);
        assert_eq!((said.get(&one), said.get(&two)), (first.to_vec(), second.to_vec()));
        assert_eq!(said.words.len(), 3);
        said.put(one.clone(), &second);
        assert_eq!((said.get(&one), said.words.len()), (second.to_vec(), 2), "what nobody says any more is forgotten");
        said.forget(&one);
        assert_eq!((said.get(&one), said.get(&two).len(), said.words.len()), (vec![], 2, 2));
        said.forget(&two);
        assert!(said.of.is_empty() && said.words.is_empty());
    }
}

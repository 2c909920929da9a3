//! What was made of one object: its problems, and whether the document speaks of it all the same.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

use super::problem::Problem;

/// The judgement of one generation of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict<T = ()> {
    pub generation: Option<i64>,
    pub problems: Vec<Problem>,
    /// Whether the document speaks of it, be it as declared or as it last was without problems.
    pub included: bool,
    pub detail: T,
}

impl<T: Default> Verdict<T> {
    pub fn of<K: Resource>(object: &K, included: bool, problems: Vec<Problem>) -> Self {
        Self { generation: object.meta().generation, problems, included, detail: T::default() }
    }
}

/// The objects of one kind, rendered: the document's entries, and a verdict for each object by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<E, T = ()> {
    pub entries: Vec<E>,
    pub verdicts: BTreeMap<String, Verdict<T>>,
}

impl<E, T> Default for Part<E, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), verdicts: BTreeMap::new() }
    }
}

impl<E, T: Default> Part<E, T> {
    /// Puts down one object: what it adds to the document, and what is wrong with it.
    pub fn add<K: Resource>(&mut self, object: &K, entry: Option<E>, problems: Vec<Problem>) -> &mut Verdict<T> {
        let verdict = Verdict::of(object, entry.is_some(), problems);
        self.entries.extend(entry);
        self.verdicts.entry(object.name_any()).insert_entry(verdict).into_mut()
    }
}

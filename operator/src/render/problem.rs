//! What is wrong with an object, in the words in which its conditions will say it.

use crds::conditions::{ACCEPTED, RESOLVED_REFS};

/// One finding: the condition that it turns to `False`, a reason to search for, and a message that names the culprit,
/// the value and the cure. Messages never carry secret material.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub condition: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Problem {
    /// The spec itself cannot be followed, or an older object holds what it asks for.
    pub fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition: ACCEPTED, reason, message: message.into() }
    }

    /// What the spec refers to is missing or cannot be used.
    pub fn unresolved(reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition: RESOLVED_REFS, reason, message: message.into() }
    }
}

/// Sums up the findings about one condition: the first reason, all messages. `None` when there is nothing to say.
pub fn summary(problems: &[Problem], condition: &str) -> Option<(&'static str, String)> {
    let mut about = problems.iter().filter(|problem| problem.condition == condition);
    let first = about.next()?;
    let message = about.fold(first.message.clone(), |all, next| all + "; " + &next.message);
    Some((first.reason, message))
}

/// Either the value or everything that stood in its way.
pub type Checked<T> = Result<T, Vec<Problem>>;

/// Takes the value, or puts its problems with the others and goes on looking.
pub fn keep<T>(checked: Result<T, impl IntoIterator<Item = Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    checked.map_err(|found| problems.extend(found)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_first_reason_and_every_message_of_its_condition() {
        let problems = [
            Problem::unresolved("SecretNotFound", "no Secret a"),
            Problem::refused("Conflicted", "b is taken"),
            Problem::unresolved("ModeMismatch", "c is live"),
        ];
        assert_eq!(summary(&problems, RESOLVED_REFS), Some(("SecretNotFound", "no Secret a; c is live".to_owned())));
        assert_eq!(summary(&problems, "DatabaseReady"), None);
    }
}

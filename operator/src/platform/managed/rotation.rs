//! One change of a password without a lost request. Pure.
//!
//! ```text
//! Draw ─► Prepare ─► Switch ─► Replace ─► Retire ─► Finish
//! ```
//!
//! A new login is drawn into a Secret of its own; the store is taught to take it beside the one in use; the Secret that
//! the API connects with becomes the new one, whereupon the rollout replaces the pods; when the last pod of the former
//! login is gone, the store is taught to refuse that. Where a step is repeated, nothing changes: everything that is known
//! is in the two Secrets and in the Jobs, so a restart goes on where it was.
//!
//! The first password is a change from nothing: there is nobody to replace and nothing to retire.

/// How far something is that others do for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not asked for yet.
    Missing,
    Running,
    Failed(String),
    Done,
}

/// What is known of one store's logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The annotation has a value that was not carried out yet.
    pub wished: bool,
    /// The login that the API connects with: a name, or what tells it from another.
    pub current: Option<String>,
    pub pending: Option<Pending>,
    /// Whether the store takes the pending login.
    pub prepared: Progress,
    /// Pods of the API that were started with another login than the current one.
    pub former_pods: usize,
    /// Whether the store refuses the former login.
    pub retired: Progress,
}

/// A change that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub login: String,
    /// The one to be refused in the end.
    pub former: Option<String>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Rest,
    /// Make a new login, not yet in use.
    Draw,
    /// Have the store take it.
    Prepare,
    /// Have the API use it.
    Switch,
    /// Wait for the rollout.
    Replace,
    /// Have the store refuse the former one.
    Retire,
    /// Forget that there was a change.
    Finish,
}

pub fn next(facts: &Facts) -> Step {
    let Some(pending) = &facts.pending else {
        return if facts.current.is_none() || facts.wished { Step::Draw } else { Step::Rest };
    };
    if facts.current.as_ref() != Some(&pending.login) {
        return if facts.prepared == Progress::Done { Step::Switch } else { Step::Prepare };
    }
    match (&pending.former, &facts.retired) {
        (Some(_), _) if facts.former_pods > 0 => Step::Replace,
        (None, _) | (Some(_), Progress::Done) => Step::Finish,
        (Some(_), _) => Step::Retire,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world in which every step succeeds, and the pods are replaced one at a time.
    fn carry_out(facts: &mut Facts, step: Step) {
        match step {
            Step::Rest => {}
            Step::Draw => {
                let login = if facts.current.as_deref() == Some("a") { "b" } else { "a" };
                facts.pending = Some(Pending { login: login.into(), former: facts.current.clone() });
                (facts.prepared, facts.retired) = (Progress::Missing, Progress::Missing);
            }
            Step::Prepare => facts.prepared = Progress::Done,
            Step::Switch => {
                facts.former_pods = if facts.current.is_some() { 2 } else { 0 };
                facts.current = facts.pending.as_ref().map(|pending| pending.login.clone());
            }
            Step::Replace => facts.former_pods -= 1,
            Step::Retire => facts.retired = Progress::Done,
            Step::Finish => {
                facts.pending = None;
                facts.wished = false;
            }
        }
    }

    fn run(mut facts: Facts) -> (Vec<Step>, Facts) {
        let mut steps = Vec::new();
        while steps.len() < 20 {
            let step = next(&facts);
            if step == Step::Rest {
                return (steps, facts);
            }
            carry_out(&mut facts, step);
            steps.push(step);
        }
        panic!("it never rests: {steps:?}");
    }

    fn nothing() -> Facts {
        Facts {
            wished: false,
            current: None,
            pending: None,
            prepared: Progress::Missing,
            former_pods: 0,
            retired: Progress::Missing,
        }
    }

    #[test]
    fn the_first_password_is_in_use_only_after_the_store_takes_it() {
        let (steps, facts) = run(nothing());
        assert_eq!(steps, [Step::Draw, Step::Prepare, Step::Switch, Step::Finish]);
        assert_eq!(facts.current.as_deref(), Some("a"));
    }

    #[test]
    fn a_former_password_is_refused_only_after_the_last_pod_that_uses_it() {
        use Step::{Draw, Finish, Prepare, Replace, Retire, Switch};
        let (steps, facts) = run(Facts { wished: true, current: Some("a".into()), ..nothing() });
        assert_eq!(steps, [Draw, Prepare, Switch, Replace, Replace, Retire, Finish]);
        assert_eq!((facts.current.as_deref(), facts.wished), (Some("b"), false));
    }

    /// Every combination of facts: what must never happen does not.
    #[test]
    fn in_no_state_is_a_password_refused_that_somebody_uses() {
        let progress = || [Progress::Missing, Progress::Running, Progress::Failed("x".into()), Progress::Done];
        let logins = || [None, Some("a".to_owned()), Some("b".to_owned())];
        let mut states = 0;
        for (wished, current, login, former) in logins().into_iter().flat_map(|current| {
            let pairs = logins().into_iter().flat_map(|login| logins().map(|former| (login.clone(), former)));
            pairs.flat_map(move |(login, former)| {
                [false, true].map(|wished| (wished, current.clone(), login.clone(), former.clone()))
            })
        }) {
            for prepared in progress() {
                for (retired, former_pods) in
                    progress().into_iter().flat_map(|retired| [0, 1].map(|n| (retired.clone(), n)))
                {
                    let pending = login.clone().map(|login| Pending { login, former: former.clone() });
                    let (current, prepared) = (current.clone(), prepared.clone());
                    let facts = Facts { wished, current, pending, prepared, former_pods, retired };
                    states += 1;
                    match next(&facts) {
                        Step::Retire | Step::Finish if facts.pending.as_ref().is_some_and(|p| p.former.is_some()) => {
                            assert_eq!(facts.former_pods, 0, "{facts:?}");
                            assert_eq!(facts.current, facts.pending.as_ref().map(|p| p.login.clone()), "{facts:?}");
                        }
                        Step::Switch => assert_eq!(facts.prepared, Progress::Done, "{facts:?}"),
                        Step::Draw => assert!(facts.pending.is_none(), "{facts:?}"),
                        Step::Rest => assert!(!facts.wished && facts.current.is_some(), "{facts:?}"),
                        _ => {}
                    }
                }
            }
        }
        assert_eq!(states, 3 * 3 * 3 * 2 * 4 * 4 * 2);
    }
}

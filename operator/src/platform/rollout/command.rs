//! What a person may tell a rollout, as the value of the annotation `tenantry.dev/rollout`.

/// Longest part of a value that is repeated in a status or an event.
const REPEATED: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub verb: Verb,
    /// The release that it is about, where one was named.
    pub release: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Promote,
    Abort,
    Retry,
    Undo,
}

impl Command {
    /// An error is a sentence with the allowed values.
    pub fn parse(value: &str) -> Result<Self, String> {
        let (word, release) = match value.trim().split_once(':') {
            Some((word, release)) => (word, Some(release.trim().to_owned())),
            None => (value.trim(), None),
        };
        let verb = match word.trim() {
            "promote" => Verb::Promote,
            "abort" => Verb::Abort,
            "retry" => Verb::Retry,
            "undo" => Verb::Undo,
            _ => {
                return Err(format!(
                    "{:?} is no command: tenantry.dev/rollout takes promote, abort, retry or undo, each with :<release> \
                     after it if wished",
                    brief(value)
                ));
            }
        };
        Ok(Self { verb, release })
    }
}

/// The beginning of a value that a person wrote, which may be long.
pub fn brief(value: &str) -> &str {
    value.get(..value.floor_char_boundary(REPEATED)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_verb_and_may_name_a_release() {
        assert_eq!(Command::parse("promote"), Ok(Command { verb: Verb::Promote, release: None }));
        let undo = Command { verb: Verb::Undo, release: Some("0a1b2c3d4e".into()) };
        assert_eq!(Command::parse(" undo:0a1b2c3d4e "), Ok(undo));
    }

    #[test]
    fn anything_else_is_told_what_is_allowed() {
        let refused = Command::parse("restart").unwrap_err();
        assert!(refused.contains("promote, abort, retry or undo"), "{refused}");
        assert!(Command::parse(&"é".repeat(500)).unwrap_err().len() < 300);
    }
}

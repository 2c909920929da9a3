//! The uid of an object, as one of tens of thousands that are kept.

use std::fmt;

use uuid::Uuid;

/// A uid in as few bytes as it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Uid {
    Number(Uuid),
    /// The API does not promise that it is a UUID, and as one it could not be told apart from its other spellings.
    Text(Box<str>),
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let number = Uuid::try_parse(text).ok().filter(|number| number.to_string() == text);
        number.map_or_else(|| Self::Text(text.into()), Self::Number)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_told_as_it_was_written() {
        for text in ["3f2c5d4e-9a41-4c55-8f6b-000000000001", "3F2C5D4E-9A41-4C55-8F6B-000000000001", "u-1", ""] {
            assert_eq!(Uid::from(text).to_string(), text);
        }
        assert!(size_of::<Option<Uid>>() <= 24);
    }
}

//! A token that one client holds, or one mail, and of which only the hash is kept.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contract::Secret;
use sha2::{Digest, Sha256};

/// 32 random bytes, in letters that a link can carry.
#[derive(Clone)]
pub struct Token(Secret);

impl Token {
    pub fn random() -> Self {
        Self(Secret::new(BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())))
    }

    /// Whatever somebody gives for one. Blanks around it come from copying.
    pub fn given(text: &str) -> Self {
        Self(Secret::new(text.trim()))
    }

    /// What is kept. One round is enough: nobody guesses 256 bits.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose()).into()
    }

    /// The token itself, for the one answer or mail that carries it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl From<Token> for Secret {
    fn from(token: Token) -> Self {
        token.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_enough_differ_and_survive_copying() {
        let (one, two) = (Token::random(), Token::random());
        assert_ne!(one.digest(), two.digest());
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(one.expose()).unwrap().len(), 32);
        assert_eq!(Token::given(&format!(" {}\n", one.expose())).digest(), one.digest());
    }
}

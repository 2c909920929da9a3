//! The Secrets that were read for one object, and how a credential is taken from them.

use std::collections::BTreeMap;

use contract::Secret;
use crds::{
    conditions::reasons::{SECRET_INVALID, SECRET_KEY_NOT_FOUND, SECRET_NOT_FOUND},
    refs::SecretKeyRef,
};
use k8s_openapi::api::core::v1;

use super::problem::Problem;

/// Secrets of one namespace, by name; a name that was looked up in vain has `None`.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Option<v1::Secret>>);

impl FromIterator<(String, Option<v1::Secret>)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, Option<v1::Secret>)>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl Secrets {
    pub fn get(&self, name: &str) -> Option<&v1::Secret> {
        self.0.get(name)?.as_ref()
    }

    /// The raw bytes under `reference`.
    pub fn bytes(&self, reference: &SecretKeyRef) -> Result<&[u8], Problem> {
        let SecretKeyRef { name, key } = reference;
        let secret = self.get(name).ok_or_else(|| {
            let message = format!("Secret {name:?} does not exist in this namespace: create it with the key {key:?}");
            Problem::unresolved(SECRET_NOT_FOUND, message)
        })?;
        let data = secret.data.as_ref();
        data.and_then(|data| data.get(key)).map(|value| value.0.as_slice()).ok_or_else(|| {
            let known: Vec<_> = data.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("Secret {name:?} has no key {key:?} (it has {known}): add it, or name another key");
            Problem::unresolved(SECRET_KEY_NOT_FOUND, message)
        })
    }

    /// The text under `reference`, without the line end that `echo` and editors leave.
    pub fn text(&self, reference: &SecretKeyRef) -> Result<Secret, Problem> {
        let SecretKeyRef { name, key } = reference;
        let text = std::str::from_utf8(self.bytes(reference)?).unwrap_or_default().trim();
        if text.is_empty() {
            let message =
                format!("Secret {name:?}, key {key:?} is empty or not text: store the credential as it was given");
            return Err(Problem::unresolved(SECRET_INVALID, message));
        }
        Ok(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_credential_is_read_or_the_message_says_what_to_create() {
        let data = [("key", &b"sk_test_1\n"[..]), ("empty", b"\n"), ("binary", &[0xff])];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.to_vec()))).into();
        let secret = v1::Secret { data: Some(data), ..v1::Secret::default() };
        let secrets: Secrets = [("pay".to_owned(), Some(secret)), ("gone".to_owned(), None)].into_iter().collect();
        let read = |name, key| secrets.text(&SecretKeyRef::new(name, key));
        assert_eq!(read("pay", "key").unwrap().expose(), "sk_test_1");
        for (name, key, reason, words) in [
            ("gone", "key", SECRET_NOT_FOUND, "Secret \"gone\" does not exist"),
            ("never", "key", SECRET_NOT_FOUND, "create it with the key \"key\""),
            ("pay", "other", SECRET_KEY_NOT_FOUND, "(it has binary, empty, key)"),
            ("pay", "empty", SECRET_INVALID, "is empty or not text"),
            ("pay", "binary", SECRET_INVALID, "is empty or not text"),
        ] {
            let problem = read(name, key).unwrap_err();
            assert_eq!(problem.reason, reason);
            assert!(problem.message.contains(words), "{}", problem.message);
        }
    }
}

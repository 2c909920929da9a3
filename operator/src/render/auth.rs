//! `spec.auth` → [`Auth`], and the keys that sign.

use contract::auth::{Argon2, Auth, PasswordPolicy, SigningKey};
use crds::tenant::{self as wish, AuthPolicy};

/// The policy as the API follows it, with the keys that it signs and verifies with.
pub fn auth(policy: &AuthPolicy, signing_keys: Vec<SigningKey>) -> Auth {
    let AuthPolicy {
        access_token_seconds,
        refresh_token_seconds,
        refresh_reuse_seconds,
        password,
        email_verification,
        mfa,
        signing: _,
    } = policy;
    let wish::PasswordPolicy { min_length, character_classes, breached_check, argon2 } = password;
    let wish::Argon2 { memory_kib, iterations, parallelism } = argon2;
    let mut character_classes = character_classes.clone();
    character_classes.sort();
    character_classes.dedup();
    Auth {
        access_token_seconds: *access_token_seconds,
        refresh_token_seconds: *refresh_token_seconds,
        refresh_reuse_seconds: *refresh_reuse_seconds,
        password: PasswordPolicy {
            min_length: *min_length,
            character_classes,
            breached_check: *breached_check,
            argon2: Argon2 { memory_kib: *memory_kib, iterations: *iterations, parallelism: *parallelism },
        },
        email_verification: *email_verification,
        mfa: *mfa,
        signing_keys,
    }
}

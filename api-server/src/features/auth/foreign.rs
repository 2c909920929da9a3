//! Hashes that other systems made, brought along by an import: bcrypt and scrypt. They are checked, never made; who signs in
//! with one is given an argon2id hash in its place.
//!
//! The cost of a check is in the hash itself, so it is bounded here: an import must not bring one that keeps a core busy
//! for minutes at every attempt.

use argon2::{Params, password_hash::phc::PasswordHash};
use contract::Secret;
use scrypt::Scrypt;
use unicode_normalization::UnicodeNormalization;

use super::hashing::HashError;

/// 2^14 rounds: about a second of a core.
const MAX_BCRYPT_COST: u32 = 14;
/// 128 MiB.
const MAX_SCRYPT_BYTES: u64 = 128 << 20;
/// Twice the work that OWASP advises (N = 2^17, r = 8, p = 1).
const MAX_SCRYPT_WORK: u64 = 2 * (1 << 17) * 8;
const MAX_ARGON2_KIB: u32 = 256 << 10;
const MAX_ARGON2_PASSES: u32 = 10;
const MAX_ARGON2_LANES: u32 = 16;

/// What made a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Argon2,
    Bcrypt,
    Scrypt,
}

/// Why a hash cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("use a hash of argon2 ($argon2id$…), bcrypt ($2b$…) or scrypt ($scrypt$ln=…)")]
    Unknown,
    #[error("the hash is cut off or damaged")]
    Damaged,
    #[error(
        "the hash costs too much to check: bcrypt to cost 14, scrypt to 128 MiB and N·r·p = 2^21, argon2 to 256 MiB, t=10, p=16"
    )]
    TooDear,
}

impl Scheme {
    /// What made `hash`, where it is one that can be checked within bounds.
    pub fn of(hash: &str) -> Result<Self, Unusable> {
        if hash.starts_with("$argon2") {
            return argon2(hash).map(|()| Self::Argon2);
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|mark| hash.starts_with(mark)) {
            return bcrypt(hash).map(|()| Self::Bcrypt);
        }
        if hash.starts_with("$scrypt$") {
            return scrypt(hash).map(|()| Self::Scrypt);
        }
        Err(Unusable::Unknown)
    }
}

fn bcrypt(hash: &str) -> Result<(), Unusable> {
    let parts: bcrypt::HashParts = hash.parse().map_err(|_| Unusable::Damaged)?;
    match parts.get_cost() {
        4..=MAX_BCRYPT_COST => Ok(()),
        0..4 => Err(Unusable::Damaged),
        _ => Err(Unusable::TooDear),
    }
}

fn scrypt(hash: &str) -> Result<(), Unusable> {
    let hash = whole(hash)?;
    let params = scrypt::Params::try_from(&hash).map_err(|_| Unusable::Damaged)?;
    // The sizes are the hash's own words: nothing here may overflow.
    let (n, r, p) = (1_u64.checked_shl(params.log_n().into()), u64::from(params.r()), u64::from(params.p()));
    let memory = n.and_then(|n| n.checked_mul(r)?.checked_mul(128));
    let work = n.and_then(|n| n.checked_mul(r)?.checked_mul(p));
    match (memory, work) {
        (Some(..=MAX_SCRYPT_BYTES), Some(..=MAX_SCRYPT_WORK)) => Ok(()),
        _ => Err(Unusable::TooDear),
    }
}

fn argon2(hash: &str) -> Result<(), Unusable> {
    let params = Params::try_from(&whole(hash)?).map_err(|_| Unusable::Damaged)?;
    let within = params.m_cost() <= MAX_ARGON2_KIB
        && params.t_cost() <= MAX_ARGON2_PASSES
        && params.p_cost() <= MAX_ARGON2_LANES;
    if within { Ok(()) } else { Err(Unusable::TooDear) }
}

/// A PHC string with salt and hash in it.
fn whole(hash: &str) -> Result<PasswordHash, Unusable> {
    let hash = PasswordHash::new(hash).map_err(|_| Unusable::Damaged)?;
    if hash.salt.is_some() && hash.hash.is_some() { Ok(hash) } else { Err(Unusable::Damaged) }
}

/// Whether `password` is the one of a hash by bcrypt or scrypt. Their makers took the password as it was typed, so both forms
/// are tried where they differ: as it came, and with composed accents.
pub fn verify(password: &Secret, hash: &str) -> Result<bool, HashError> {
    let typed = password.expose();
    let composed: String = typed.nfc().collect();
    Ok(verify_form(typed, hash)? || composed != typed && verify_form(&composed, hash)?)
}

fn verify_form(password: &str, hash: &str) -> Result<bool, HashError> {
    use argon2::password_hash::{Error, PasswordVerifier};
    match Scheme::of(hash) {
        // Beyond 72 bytes bcrypt reads nothing, here as where the hash was made.
        Ok(Scheme::Bcrypt) => bcrypt::verify(password, hash).map_err(|error| HashError::Foreign(error.to_string())),
        Ok(Scheme::Scrypt) => {
            let hash = whole(hash).map_err(|error| HashError::Foreign(error.to_string()))?;
            match Scrypt::new().verify_password(password.as_bytes(), &hash) {
                Ok(()) => Ok(true),
                Err(Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(HashError::Foreign(error.to_string())),
            }
        }
        Ok(Scheme::Argon2) => Err(HashError::Foreign("argon2 is our own".into())),
        Err(error) => Err(HashError::Foreign(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(password: &str, hash: &str) -> bool {
        verify(&Secret::new(password), hash).unwrap()
    }

    #[test]
    fn a_bcrypt_hash_of_each_kind_is_checked() {
        // Made by libxcrypt, which gives the same under each mark.
        let tail = "06$DCq7YPn5Rq63x1Lad4cll.d.LDdhiA4IgbK.oJt3ASoyWKM.yG2ZW";
        for mark in ["$2a$", "$2b$", "$2y$"] {
            let hash = format!("{mark}{tail}");
            assert_eq!(Scheme::of(&hash), Ok(Scheme::Bcrypt));
            assert!(right("securepassword123", &hash) && !right("securepassword124", &hash), "{mark}");
        }
        let long = bcrypt::hash("x".repeat(80), 4).unwrap();
        assert!(right(&"x".repeat(72), &long) && !right(&"x".repeat(71), &long));
        let typed = bcrypt::hash("Zoe\u{301}", 4).unwrap();
        assert!(right("Zoe\u{301}", &typed));
        let composed = bcrypt::hash("Zo\u{e9}", 4).unwrap();
        assert!(right("Zoe\u{301}", &composed));
    }

    #[test]
    fn a_scrypt_hash_is_checked() {
        // Python: hashlib.scrypt(b"password", salt=b"0123456789abcdef", n=16, r=8, p=1, dklen=32).
        let hash = "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$jU+wVnnRO8xMJ6kk2pn2W1IFgOT9r8PK+dHZ+HH3bt4";
        assert_eq!(Scheme::of(hash), Ok(Scheme::Scrypt));
        assert!(right("password", hash) && !right("Password", hash));
    }

    #[test]
    fn what_costs_too_much_or_is_none_is_refused() {
        let bcrypt = |cost: u32| format!("$2b${cost:02}$DCq7YPn5Rq63x1Lad4cll.d.LDdhiA4IgbK.oJt3ASoyWKM.yG2ZW");
        assert_eq!(Scheme::of(&bcrypt(14)), Ok(Scheme::Bcrypt));
        for cost in [15, 31] {
            assert_eq!(Scheme::of(&bcrypt(cost)), Err(Unusable::TooDear), "{cost}");
        }
        let scrypt = |ln: u32, r: u32, p: u32| {
            format!("$scrypt$ln={ln},r={r},p={p}$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
        };
        assert_eq!(Scheme::of(&scrypt(17, 8, 1)), Ok(Scheme::Scrypt));
        for (ln, r, p) in [(18, 8, 1), (17, 8, 3), (14, 8, 32), (30, 1, 1), (10, 100_000, 1)] {
            assert!(Scheme::of(&scrypt(ln, r, p)).is_err(), "{ln} {r} {p}");
        }
        let argon2 = |m: u32, t: u32| {
            format!("$argon2id$v=19$m={m},t={t},p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
        };
        assert_eq!(Scheme::of(&argon2(65_536, 3)), Ok(Scheme::Argon2));
        for (m, t) in [(1 << 20, 1), (65_536, 100)] {
            assert_eq!(Scheme::of(&argon2(m, t)), Err(Unusable::TooDear));
        }
        for damaged in [
            "$2b$10$short",
            "$scrypt$ln=4,r=8,p=1",
            "$argon2id$v=19$m=65536,t=3,p=4",
            "$2b$xx$DCq7YPn5Rq63x1Lad4cll.d.LDdhiA4IgbK.oJt3ASoyWKM.yG2ZW",
        ] {
            assert_eq!(Scheme::of(damaged), Err(Unusable::Damaged), "{damaged}");
        }
        for unknown in
            ["", "password", "$2x$06$DCq7YPn5Rq63x1Lad4cll.d.LDdhiA4IgbK.oJt3ASoyWKM.yG2ZW", "$1$abc$def", "{SSHA}x"]
        {
            assert_eq!(Scheme::of(unknown), Err(Unusable::Unknown), "{unknown}");
        }
    }
}

//! Passwords into argon2id hashes and back to yes or no, on a pool with a bound.
//!
//! One hash takes 64 MiB and a good part of a second of one core. So only a few run at once, a caller waits for a place no
//! longer than [`QUEUE_DEADLINE`] and is then told to come again, and a caller who hung up gives the place away. A wave of
//! sign-ins thereby slows sign-ins, and nothing else.

use std::{sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use contract::{Secret, auth};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use unicode_normalization::UnicodeNormalization;

use super::{
    cost::{Cost, decoys},
    foreign::{self, Scheme},
};
use crate::metrics::Metrics;

/// Who waits longer than this for a place is better told to come again.
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);
/// Bounds the memory of those who wait, too.
const LONGEST_QUEUE: i64 = 1_000;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Hashing {
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Why a password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("too many are signing in: no place in the queue for password hashes")]
    Busy,
    #[error("argon2: {0}")]
    Argon2(String),
    #[error("a hash of another system: {0}")]
    Foreign(String),
}

impl Hashing {
    /// A pool of `threads`; 0 means half of the cores, so that requests without a password keep the other half.
    pub fn new(threads: usize, metrics: Arc<Metrics>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { (cores / 2).max(1) } else { threads };
        Self { places: Arc::new(Semaphore::new(threads)), metrics }
    }

    /// A new PHC string for `password`.
    pub async fn hash(&self, password: Secret, parameters: auth::Argon2) -> Result<String, HashError> {
        let metrics = Arc::clone(&self.metrics);
        self.run(move || {
            metrics.hashes.inc();
            let hasher = hasher(parameters)?;
            hasher.hash_password(&normalized(&password)).map(|hash| hash.to_string()).map_err(argon2_error)
        })
        .await
    }

    /// Whether `password` is the one of `hash`. Where it is not, or there is no hash (nobody has this address), it does the
    /// work of all of `costs` and says no, so that the time to answer tells neither who exists nor what their hash is.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<String>,
        mut costs: Vec<Cost>,
        parameters: auth::Argon2,
    ) -> Result<Verdict, HashError> {
        costs.push(cost(parameters)?);
        let metrics = Arc::clone(&self.metrics);
        self.run(move || {
            let check = |hash: &str| {
                metrics.hashes.inc();
                check(&password, hash, parameters)
            };
            let verdict = hash.as_deref().map_or(Ok(Verdict::Wrong), check)?;
            if verdict == Verdict::Wrong {
                for decoy in decoys(hash.as_deref(), costs) {
                    check(&decoy)?;
                }
            }
            Ok(verdict)
        })
        .await
    }

    /// Whether `password` is the one of the signed-in user, who is known to exist.
    pub async fn confirm(
        &self,
        password: Secret,
        hash: Option<String>,
        parameters: auth::Argon2,
    ) -> Result<Verdict, HashError> {
        let Some(hash) = hash else { return Ok(Verdict::Wrong) };
        let metrics = Arc::clone(&self.metrics);
        self.run(move || {
            metrics.hashes.inc();
            check(&password, &hash, parameters)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let busy = || {
            self.metrics.hash_refused.inc();
            HashError::Busy
        };
        if self.metrics.hash_waiting.get() >= LONGEST_QUEUE {
            return Err(busy());
        }
        let asked = Instant::now();
        let waiting = Waiting::enter(&self.metrics);
        let place = timeout(QUEUE_DEADLINE, Arc::clone(&self.places).acquire_owned()).await;
        drop(waiting);
        self.metrics.hash_wait.observe(asked.elapsed().as_secs_f64());
        let place = place.ok().and_then(Result::ok).ok_or_else(busy)?;
        // The place goes along: a caller who hangs up now cannot free it while the core is still busy.
        let done = spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|error| HashError::Argon2(error.to_string()))?
    }
}

/// What checking a password found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Right, and hashed by another system or with other parameters than the tenant's: hash it anew while it is at hand.
    RightButOutdated,
    Wrong,
}

fn check(password: &Secret, hash: &str, parameters: auth::Argon2) -> Result<Verdict, HashError> {
    if Scheme::of(hash) != Ok(Scheme::Argon2) {
        return Ok(if foreign::verify(password, hash)? { Verdict::RightButOutdated } else { Verdict::Wrong });
    }
    let parsed = PasswordHash::new(hash).map_err(|error| HashError::Argon2(error.to_string()))?;
    match Argon2::default().verify_password(&normalized(password), &parsed) {
        Ok(()) if is_current(&parsed, parameters) => Ok(Verdict::Right),
        Ok(()) => Ok(Verdict::RightButOutdated),
        Err(password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(argon2_error(error)),
    }
}

/// What a hash of the tenant's own costs.
fn cost(parameters: auth::Argon2) -> Result<Cost, HashError> {
    let hasher = hasher(parameters)?;
    let params = hasher.params();
    Ok(Cost::of_argon2id(params.m_cost(), params.t_cost(), params.p_cost()))
}

fn hasher(parameters: auth::Argon2) -> Result<Argon2<'static>, HashError> {
    // The document is checked by the operator, and a floor holds even where it was not.
    let floor = auth::Argon2::FLOOR;
    let (memory, iterations) =
        (parameters.memory_kib.max(floor.memory_kib), parameters.iterations.max(floor.iterations));
    let params = Params::new(memory, iterations, parameters.parallelism.max(1), None);
    let params = params.map_err(|error| HashError::Argon2(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn is_current(hash: &PasswordHash, wanted: auth::Argon2) -> bool {
    let Ok(wanted) = hasher(wanted) else { return true };
    Params::try_from(hash).is_ok_and(|has| {
        let of = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        of(&has) == of(wanted.params())
    }) && hash.algorithm == Algorithm::Argon2id.ident()
}

/// One password has one form, whichever keyboard composed its accents.
fn normalized(password: &Secret) -> Vec<u8> {
    password.expose().nfc().collect::<String>().into_bytes()
}

fn argon2_error(error: impl std::fmt::Display) -> HashError {
    HashError::Argon2(error.to_string())
}

/// Counts one who waits, also when they leave.
struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    fn enter(metrics: &'a Metrics) -> Self {
        metrics.hash_waiting.inc();
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.hash_waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> Hashing {
        Hashing::new(threads, Arc::new(Metrics::new()))
    }

    #[tokio::test]
    async fn a_password_is_known_again_in_either_unicode_form() {
        let (pool, parameters) = (pool(1), auth::Argon2::FLOOR);
        let hash = pool.hash(Secret::new("Zo\u{e9}-Passwort-1"), parameters).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify =
            |password: &str, parameters| pool.verify(Secret::new(password), Some(hash.clone()), vec![], parameters);
        assert_eq!(verify("Zoe\u{301}-Passwort-1", parameters).await.unwrap(), Verdict::Right);
        assert_eq!(verify("Zoe-Passwort-1", parameters).await.unwrap(), Verdict::Wrong);
        let raised = auth::Argon2 { iterations: 3, ..parameters };
        assert_eq!(verify("Zo\u{e9}-Passwort-1", raised).await.unwrap(), Verdict::RightButOutdated);
        assert_eq!(pool.verify(Secret::new("x"), None, vec![], parameters).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_to_come_again() {
        let pool = pool(1);
        let _only_place = Arc::clone(&pool.places).acquire_owned().await.unwrap();
        let refused = pool.hash(Secret::new("x"), auth::Argon2::FLOOR).await;
        assert!(matches!(refused, Err(HashError::Busy)));
        assert_eq!((pool.metrics.hash_refused.get(), pool.metrics.hash_waiting.get()), (1, 0));
    }
}

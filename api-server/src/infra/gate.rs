//! Whether PostgreSQL is worth asking. While it is away callers get their answer at once, and one at a time tries.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use tokio::sync::Mutex;

/// Connections are looked at more closely for this long after something went wrong: some of them may lead nowhere.
const SUSPICION_MS: u64 = 60_000;

/// One for each pool.
#[derive(Debug)]
pub struct Gate {
    began: Instant,
    away: AtomicBool,
    /// When somebody last got through, in milliseconds since `began`; 0 is never.
    answered: AtomicU64,
    /// In milliseconds since `began`; 0 is never.
    suspicious_until: AtomicU64,
    trial: Mutex<()>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            away: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            suspicious_until: AtomicU64::new(0),
            trial: Mutex::new(()),
        }
    }
}

impl Gate {
    /// Asks for a connection, unless somebody is trying already and the last one was told that there is none.
    pub async fn pass<T>(&self, ask: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let _sole = if self.away.load(Relaxed) {
            Some(self.trial.try_lock().map_err(|_| sqlx::Error::PoolTimedOut)?)
        } else {
            None
        };
        let asked = self.now_ms();
        let answer = ask.await;
        match &answer {
            Ok(_) => {
                self.answered.store(self.now_ms(), Relaxed);
                self.away.store(false, Relaxed);
            }
            Err(error) if is_away(error) => {
                self.trouble();
                // Whoever waited in vain while others got through met a queue, not an absence: refusing everybody else for
                // it would turn a slow database into a lost one.
                let slow = matches!(error, sqlx::Error::PoolTimedOut) && self.answered.load(Relaxed) > asked;
                self.away.store(!slow, Relaxed);
            }
            Err(_) => {}
        }
        answer
    }

    /// Something took too long: what was in use then is not to be trusted.
    pub fn trouble(&self) {
        self.suspicious_until.store(self.now_ms() + SUSPICION_MS, Relaxed);
    }

    pub fn is_suspicious(&self) -> bool {
        self.now_ms() < self.suspicious_until.load(Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether the error says that the database is away, overloaded, or changing places: what may work a moment later.
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    }
}

/// By SQLSTATE: lost connections (08), rejected log-ins (28, 3D: a password or a database that is being exchanged), lack of
/// resources (53), shutdown and start (57P), and a primary that has become a standby (25006).
fn is_passing(code: &str) -> bool {
    ["08", "28", "3D", "53", "57P"].iter().any(|class| code.starts_with(class)) || code == "25006"
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn while_it_is_away_one_tries_and_the_others_are_told_at_once() {
        let gate = Gate::default();
        let refused = gate.pass(async { Err::<(), _>(sqlx::Error::PoolTimedOut) }).await;
        assert!(refused.is_err() && gate.is_suspicious());
        let (comes_back, back) = oneshot::channel();
        let first = gate.pass(async { back.await.map_err(|_| sqlx::Error::PoolTimedOut) });
        let others = async {
            let mut asked = false;
            let ask = async {
                asked = true;
                Ok::<_, sqlx::Error>(())
            };
            assert!(gate.pass(ask).await.is_err());
            assert!(!asked, "nobody else asks");
            comes_back.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(first, others);
        answer.unwrap();
        // Now everybody asks again, also at once.
        let (one, two) = tokio::join!(gate.pass(async { Ok(()) }), gate.pass(async { Ok(()) }));
        assert!(one.is_ok() && two.is_ok());
    }

    #[tokio::test]
    async fn who_waits_in_vain_while_others_get_through_closes_the_gate_for_nobody() {
        let gate = Gate::default();
        let (gives_up, time) = oneshot::channel();
        let unlucky = gate.pass(async {
            let _ = time.await;
            Err::<(), _>(sqlx::Error::PoolTimedOut)
        });
        let lucky = async {
            // The gate counts in milliseconds.
            let asked = gate.now_ms();
            while gate.answered.load(Relaxed) <= asked {
                gate.pass(async { Ok(()) }).await.unwrap();
            }
            gives_up.send(()).unwrap();
        };
        assert!(tokio::join!(unlucky, lucky).0.is_err());
        assert!(!gate.away.load(Relaxed) && gate.is_suspicious());
        // The same without anybody who got through in the meantime.
        let _ = gate.pass(async { Err::<(), _>(sqlx::Error::PoolTimedOut) }).await;
        assert!(gate.away.load(Relaxed));
    }

    #[tokio::test]
    async fn a_query_that_went_wrong_is_not_a_database_that_is_away() {
        let gate = Gate::default();
        let _ = gate.pass(async { Err::<(), _>(sqlx::Error::RowNotFound) }).await;
        assert!(!gate.away.load(Relaxed));
    }

    #[test]
    fn a_primary_that_stops_or_moves_may_be_asked_again_and_a_broken_rule_may_not() {
        for passing in ["57P01", "57P03", "53300", "08006", "28P01", "25006"] {
            assert!(is_passing(passing), "{passing}");
        }
        for lasting in ["23505", "42P01", "57014", "22001"] {
            assert!(!is_passing(lasting), "{lasting}");
        }
    }
}

//! Leader election by a Lease with compare-and-swap: every write is a `replace` of the version that was read, so of two
//! contenders the API server lets exactly one win.
//!
//! A leader that cannot renew gives up before anyone else may take over: it stops at the *renew deadline*, counted from
//! the start of its last successful renewal, and the others wait for the whole *duration*. Time is tokio's monotonic
//! clock, which tests can move.

mod decide;

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::sync::Arc;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use self::decide::{Step, decide};
use crate::clock::Clock;

/// Name of the Lease.
pub const LEASE_NAME: &str = "tenantry-operator";

/// How long a leader is trusted and how often it renews.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub duration: Duration,
    pub renew: Duration,
}

impl Timing {
    /// Where a leader that could not renew stops: two thirds of the duration leave the last third for clocks that run
    /// unevenly and for work that is being cancelled.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }
}

/// One contender for the Lease.
pub struct Election {
    leases: Api<Lease>,
    clock: Arc<dyn Clock>,
    /// Unique to this process: a restarted container must not take itself for its predecessor.
    me: String,
    timing: Timing,
    /// The version that was read last, and when it was first seen.
    seen: Option<(String, Instant)>,
}

/// Proof of leadership, with what the next renewal must replace.
#[derive(Debug)]
pub struct Term {
    lease: Lease,
    /// When the request that renewed it began: the others count from later.
    renewed: Instant,
}

impl Election {
    pub fn new(client: Client, namespace: &str, pod: &str, timing: Timing, clock: Arc<dyn Clock>) -> Self {
        let me = format!("{pod}_{:08x}", rand::random::<u32>());
        Self { leases: Api::namespaced(client, namespace), clock, me, timing, seen: None }
    }

    /// Returns when this process leads. An API server that does not answer only makes it take longer.
    pub async fn acquire(&mut self) -> Term {
        loop {
            match self.try_acquire().await {
                Ok(Ok(term)) => {
                    tracing::info!(identity = self.me, "leading");
                    return term;
                }
                // Looking more often than the leader renews makes a clean handover quick.
                Ok(Err(wait)) => sleep(wait.min(self.timing.renew / 4)).await,
                Err(error) => {
                    tracing::warn!(error = %error, "the Lease could not be read or written");
                    sleep(self.timing.renew).await;
                }
            }
        }
    }

    /// One attempt: a term, or how long to wait.
    async fn try_acquire(&mut self) -> kube::Result<Result<Term, Duration>> {
        let began = Instant::now();
        let current = self.leases.get_opt(LEASE_NAME).await?;
        let unchanged_for = self.observe(current.as_ref());
        let written = match (decide(&self.me, current.as_ref(), unchanged_for), current) {
            (Step::Wait(left), _) => return Ok(Err(left)),
            (Step::Create, _) | (_, None) => self.leases.create(&PostParams::default(), &self.claim(None)).await,
            (Step::Take | Step::Renew, Some(lease)) => self.replace(&self.claim(Some(&lease))).await,
        };
        match written {
            Ok(lease) => Ok(Ok(Term { lease, renewed: began })),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Err(self.timing.renew))
            }
            Err(error) => Err(error),
        }
    }

    /// Renews until it cannot: returns when leadership is lost. Cancel-safe: dropping it leaves the Lease to run out.
    pub async fn keep(&mut self, term: &mut Term) {
        loop {
            let deadline = term.renewed + self.timing.deadline();
            sleep_until((term.renewed + self.timing.renew).min(deadline)).await;
            loop {
                let began = Instant::now();
                let claim = self.claim(Some(&term.lease));
                match timeout_at(deadline, self.replace(&claim)).await {
                    Ok(Ok(lease)) => {
                        *term = Term { lease, renewed: began };
                        break;
                    }
                    // Somebody else wrote it; or our own write arrived and its answer did not. Only a read can tell.
                    Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => {
                        match timeout_at(deadline, self.leases.get(LEASE_NAME)).await {
                            Ok(Ok(lease)) if holder(&lease) == self.me => term.lease = lease,
                            Ok(Ok(lease)) => {
                                return tracing::warn!(holder = holder(&lease), "leadership was taken over");
                            }
                            _ => return tracing::warn!("the Lease is gone"),
                        }
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(error = %error, "the Lease could not be renewed");
                        let pause = sleep(self.timing.renew / 4);
                        if timeout_at(deadline, pause).await.is_err() {
                            return tracing::warn!("leadership ran out");
                        }
                    }
                    Err(_) => return tracing::warn!("leadership ran out while the API server did not answer"),
                }
            }
        }
    }

    /// Gives the Lease up, so that another takes over at once.
    pub async fn release(&self, term: Term) {
        // After so long it has run out, and another takes over anyway.
        match timeout(self.timing.duration, self.give_up(term.lease)).await {
            Ok(Ok(())) => tracing::info!("stepped down"),
            Ok(Err(error)) => tracing::warn!(error = %error, "could not step down; the Lease will run out"),
            Err(_) => tracing::warn!("could not step down in time; the Lease will run out"),
        }
    }

    /// Writes that nobody holds the Lease. A renewal that was under way when the term ended may have arrived without
    /// anybody waiting for its answer: then what stands is ours too, in a newer version than `lease`.
    async fn give_up(&self, mut lease: Lease) -> kube::Result<()> {
        loop {
            let mut free = self.claim(Some(&lease));
            if let Some(spec) = &mut free.spec {
                // Left out: an empty one is refused.
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
            }
            match self.replace(&free).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    lease = self.leases.get(LEASE_NAME).await?;
                    if holder(&lease) != self.me {
                        return Ok(());
                    }
                }
                written => return written.map(drop),
            }
        }
    }

    /// Writes over the version that `lease` was made from, and over no other.
    async fn replace(&self, lease: &Lease) -> kube::Result<Lease> {
        self.leases.replace(LEASE_NAME, &PostParams::default(), lease).await
    }

    /// How long this version has been known.
    fn observe(&mut self, lease: Option<&Lease>) -> Duration {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
        match (version, &self.seen) {
            (Some(version), Some((known, since))) if *known == version => since.elapsed(),
            (Some(version), _) => {
                self.seen = Some((version, Instant::now()));
                Duration::ZERO
            }
            (None, _) => Duration::ZERO,
        }
    }

    /// The Lease with us as its holder, in place of the version that was read.
    fn claim(&self, current: Option<&Lease>) -> Lease {
        let now = MicroTime(self.clock.now());
        let before = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(&self.me);
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| ours).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours && current.is_some())),
            ..LeaseSpec::default()
        };
        let metadata = current.map_or_else(
            || ObjectMeta { name: Some(LEASE_NAME.into()), ..ObjectMeta::default() },
            |lease| ObjectMeta { managed_fields: None, ..lease.metadata.clone() },
        );
        Lease { metadata, spec: Some(spec) }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

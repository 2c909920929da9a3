//! Sends what is in the outboxes: in every replica, beside the requests, which never wait for it.
//!
//! Tenants take turns, a few mails each, so that one with ten thousand mails delays nobody's password. Which tenants have
//! mail is known from this process's own commits at once, from earlier looks (a mail that is to be tried again), and from going
//! around all tenants: that finds what a replica left that is gone. A look at a tenant with a database of its own costs a
//! connection to it, so those are visited more rarely, and by visits of their own: one of these databases can be away, and
//! whoever waits for it must not be everybody.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use contract::TenantId;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    delivery::{Visit, visit},
    repo::{self, Standing},
    smtp::Smtp,
};
use crate::{app::App, tenancy::TenantSnapshot};

/// Tenants at a time; times the mails of each, the connections to the server.
const TENANTS: usize = 4;
/// Of these, tenants with a database of their own: what hangs there leaves places for the others.
const OWN_TENANTS: usize = 2;
/// Until a tenant is looked at again whose database was away.
const DATABASE_AWAY: SignedDuration = SignedDuration::from_secs(30);
/// Once around all tenants.
const ROUND: Duration = Duration::from_secs(20);
/// Tenants of the shared database that one query looks at, at least.
const CHUNK: usize = 25;
/// Between two such queries.
const LOOK: Duration = Duration::from_secs(1);
/// Rounds between two looks into a tenant's own database: more than its idle connections live.
const OWN_EVERY: u64 = 30;
/// Between two looks at a server that is away.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is known between visits.
struct Rota {
    /// In the order of their turns.
    queue: VecDeque<TenantId>,
    /// In the queue or being visited.
    busy: HashSet<TenantId>,
    /// Those with a database of their own that are being visited.
    own: HashSet<TenantId>,
    /// Woken while being visited.
    again: HashSet<TenantId>,
    /// When to look again.
    later: BTreeSet<(Timestamp, TenantId)>,
    figures: HashMap<TenantId, Standing>,
    /// Left of the way around all tenants.
    round: Vec<Arc<TenantSnapshot>>,
    round_began: Option<Instant>,
    rounds: u64,
    chunk: usize,
    /// Of the tenants of this round.
    names: HashMap<TenantId, String>,
}

/// Sends until `stop` ends, then finishes what it has in hand.
pub async fn run(app: App, stop: impl Future<Output = ()> + Send) {
    let mut stop = pin!(stop);
    let Some(smtp) = app.mail.smtp() else {
        tracing::info!("no mail is sent: no mail server is configured");
        return;
    };
    let mut rota = Rota::new();
    let mut visits = JoinSet::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = None::<Duration>;
    loop {
        if let Some(duration) = pause {
            // Not all replicas at once.
            let jittered = duration.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                () = sleep(jittered) => {}
                () = &mut stop => break,
            }
            pause = still_away(&app, smtp, duration).await;
            continue;
        }
        while visits.len() < TENANTS
            && let Some((tenant, snapshot)) = rota.next(&app)
        {
            let app = app.clone();
            visits.spawn(async move {
                let visit = match &snapshot {
                    Some(snapshot) => visit(&app, snapshot).await,
                    None => Ok(Visit::default()),
                };
                (tenant, visit)
            });
        }
        tokio::select! {
            Some(done) = visits.join_next() => {
                // A task that panicked has lost its tenant's turn; the lease ends by itself.
                let Ok((tenant, visit)) = done else { rota.forget_busy(); continue };
                match visit {
                    Ok(visit) => {
                        rota.visited(tenant, &visit);
                        if let Some(reason) = visit.away {
                            tracing::warn!(server = %smtp.name(), reason, "the mail server is away: mails wait");
                            pause = Some(FIRST_PAUSE);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the outbox cannot be read");
                        rota.failed(tenant, app.clock.now());
                    }
                }
            }
            () = app.mail.woken().bell() => {
                let woken = app.mail.woken().take();
                for tenant in woken {
                    rota.wake(tenant);
                }
            }
            _ = looks.tick() => rota.look(&app).await,
            () = &mut stop => break,
        }
    }
    while visits.join_next().await.is_some() {}
    smtp.close().await;
}

/// `None` once the server lets us in.
async fn still_away(app: &App, smtp: &Smtp, pause: Duration) -> Option<Duration> {
    match smtp.is_there().await {
        Ok(()) => {
            tracing::info!(server = %smtp.name(), "the mail server is back");
            app.metrics.dependencies.seen("smtp", true);
            None
        }
        Err(error) => {
            tracing::debug!(server = %smtp.name(), error, "the mail server is still away");
            app.metrics.dependencies.seen("smtp", false);
            Some((pause * 2).min(LONGEST_PAUSE))
        }
    }
}

impl Rota {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            busy: HashSet::new(),
            own: HashSet::new(),
            again: HashSet::new(),
            later: BTreeSet::new(),
            figures: HashMap::new(),
            round: Vec::new(),
            round_began: None,
            rounds: 0,
            chunk: CHUNK,
            names: HashMap::new(),
        }
    }

    fn wake(&mut self, tenant: TenantId) {
        if self.busy.insert(tenant) {
            self.queue.push_back(tenant);
        } else if !self.queue.contains(&tenant) {
            self.again.insert(tenant);
        }
    }

    /// Whose turn it is, unless too many are waiting for databases of their own already.
    fn next(&mut self, app: &App) -> Option<(TenantId, Option<Arc<TenantSnapshot>>)> {
        for place in 0..self.queue.len() {
            let tenant = *self.queue.get(place)?;
            let snapshot = self.snapshot(app, tenant);
            let is_own = snapshot.as_ref().is_some_and(|snapshot| snapshot.database.is_some());
            if !is_own || self.own.len() < OWN_TENANTS {
                self.queue.remove(place);
                if is_own {
                    self.own.insert(tenant);
                }
                return Some((tenant, snapshot));
            }
        }
        None
    }

    fn visited(&mut self, tenant: TenantId, visit: &Visit) {
        self.end(tenant);
        match visit.standing {
            Some(standing) => self.figures.insert(tenant, standing),
            None => self.figures.remove(&tenant),
        };
        if self.again.remove(&tenant) || (visit.taken > 0 && visit.away.is_none()) {
            self.wake(tenant);
        } else if let Some(due) = visit.standing.and_then(|standing| standing.due) {
            self.later.insert((due, tenant));
        }
    }

    /// Its database did not answer. The figures of before stand.
    fn failed(&mut self, tenant: TenantId, now: Timestamp) {
        self.end(tenant);
        self.again.remove(&tenant);
        self.later.insert((now.saturating_add(DATABASE_AWAY).unwrap_or(now), tenant));
    }

    fn end(&mut self, tenant: TenantId) {
        self.busy.remove(&tenant);
        self.own.remove(&tenant);
    }

    /// Which visit failed is not known: those that wait are the only ones that are busy for sure.
    fn forget_busy(&mut self) {
        self.busy = self.queue.iter().copied().collect();
        self.own.clear();
    }

    fn snapshot(&self, app: &App, tenant: TenantId) -> Option<Arc<TenantSnapshot>> {
        let known = self.names.get(&tenant).and_then(|name| app.tenants.by_name(name));
        // A tenant that came since the round began is looked for among all.
        let found = known
            .filter(|snapshot| snapshot.id == tenant)
            .or_else(|| app.tenants.active().into_iter().find(|snapshot| snapshot.id == tenant));
        found.filter(|snapshot| !snapshot.is_suspended())
    }

    /// Wakes those whose time has come, and looks at some more tenants.
    async fn look(&mut self, app: &App) {
        let now = app.clock.now();
        while let Some((due, tenant)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.remove(&(due, tenant));
            self.wake(tenant);
        }
        if self.round.is_empty() && self.round_began.is_none_or(|began| began.elapsed() >= ROUND) {
            self.begin_round(app, now);
        }
        let some = self.round.split_off(self.round.len().saturating_sub(self.chunk));
        let (own, shared): (Vec<_>, Vec<_>) = some.into_iter().partition(|tenant| tenant.database.is_some());
        let shared: Vec<_> = shared.iter().map(|tenant| tenant.id).collect();
        self.survey(app, &shared, now).await;
        if self.rounds % OWN_EVERY == 1 {
            for tenant in own {
                self.wake(tenant.id);
            }
        }
    }

    fn begin_round(&mut self, app: &App, now: Timestamp) {
        self.tell(app, now);
        self.round = app.tenants.active();
        self.round_began = Some(Instant::now());
        self.rounds += 1;
        let looks = ROUND.as_secs() / LOOK.as_secs();
        self.chunk = self.round.len().div_ceil(usize::try_from(looks).unwrap_or(1)).max(CHUNK);
        self.names = self.round.iter().map(|tenant| (tenant.id, tenant.name.to_string())).collect();
        self.figures.retain(|tenant, _| self.names.contains_key(tenant));
    }

    /// Looks at tenants that share a database.
    async fn survey(&mut self, app: &App, tenants: &[TenantId], now: Timestamp) {
        let Some(first) = tenants.first() else { return };
        let ids: Vec<_> = tenants.iter().map(|tenant| tenant.as_uuid()).collect();
        let looked = async {
            let mut tx = app.db.begin(*first).await?;
            let standing = repo::survey(&mut tx, &ids).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(standing)
        };
        let Ok(standing) = looked.await else { return };
        self.figures.retain(|tenant, _| !tenants.contains(tenant));
        for one in standing {
            let tenant = TenantId::from_uuid(one.tenant);
            self.figures.insert(tenant, one);
            match one.due {
                Some(due) if due <= now => self.wake(tenant),
                Some(due) => {
                    self.later.insert((due, tenant));
                }
                None => {}
            }
        }
    }

    fn tell(&self, app: &App, now: Timestamp) {
        let metrics = app.mail.metrics();
        let oldest = self.figures.values().filter_map(|standing| standing.oldest).min();
        metrics.queued.set(self.figures.values().map(|standing| standing.queued).sum());
        metrics.dead.set(self.figures.values().map(|standing| standing.dead).sum());
        metrics.oldest.set(oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs()));
    }
}

#[cfg(test)]
mod tests {
    use contract::Secret;

    use super::*;
    use crate::{infra::apart, testing::TestApp};

    #[tokio::test]
    async fn tenants_with_databases_of_their_own_leave_places_for_the_others() {
        let app = TestApp::empty().await;
        let mut rota = Rota::new();
        for n in 0..5 {
            app.serve(&apart(&app, &format!("own{n}"), &Secret::new("postgres://a:b@127.0.0.1:1/c")));
            rota.wake(app.tenant(&format!("own{n}")).id);
        }
        app.serve(&app.tenant("shared"));
        rota.wake(app.tenant("shared").id);
        let mut turn = || rota.next(&app.app).map(|(_, snapshot)| snapshot.unwrap().name.to_string());
        assert_eq!([turn(), turn(), turn()].map(Option::unwrap), ["own0", "own1", "shared"]);
        assert_eq!(turn(), None, "nobody else is visited, though there is a place");

        let now = app.clock.now();
        rota.failed(app.tenant("own1").id, now);
        assert_eq!(rota.next(&app.app).unwrap().1.unwrap().name.as_str(), "own2");
        assert!(rota.later.contains(&(now + DATABASE_AWAY, app.tenant("own1").id)), "it is looked at again");
    }
}

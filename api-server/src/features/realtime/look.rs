//! Whether the open sockets still count.
//!
//! One question for all of them, over and over, and nothing that tells of ends: a message could get lost, and then a socket
//! would outlive its session. Redis answers for 500 sessions at once, and for what it does not know, or while it is away,
//! PostgreSQL does. 10,000 sockets cost forty questions a second.
//!
//! A look sees as well what became of users, and tells the sockets that are in their rooms, if it is news to them.

use std::{collections::HashMap, future::Future, pin::pin, sync::Arc, time::Duration};

use contract::TenantName;
use futures::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    events::{may_watch, meet},
    hub::{Held, Socket},
    model::End,
};
use crate::{
    app::App,
    extract::{CurrentUser, UserId},
    features::auth::{AuthError, SessionState, TokenError},
    tenancy::TenantSnapshot,
};

/// An end is felt within a second: one of these, and time for the look itself.
const EVERY: Duration = Duration::from_millis(500);
const AT_ONCE: usize = 500;
/// Tenants may have databases of their own: one that does not answer must not keep the others waiting.
const TENANTS_AT_ONCE: usize = 64;

/// Looks until `stop` ends, then closes all sockets.
pub async fn run(app: App, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = async {
                ticks.tick().await;
                look(&app).await;
            } => {}
        }
    }
    app.realtime.close().await;
}

/// Looks at all sockets once.
pub async fn look(app: &App) {
    let mut tenants: HashMap<TenantName, Vec<Arc<Socket>>> = HashMap::new();
    for socket in app.realtime.sockets() {
        tenants.entry(socket.handshake.tenant.clone()).or_default().push(socket);
    }
    let look = |(name, sockets)| async move { at_tenant(app, &name, sockets).await };
    stream::iter(tenants).for_each_concurrent(TENANTS_AT_ONCE, look).await;
}

async fn at_tenant(app: &App, name: &TenantName, sockets: Vec<Arc<Socket>>) {
    let Some(tenant) = app.tenants.by_name(name.as_str()) else {
        return sockets.iter().for_each(|socket| socket.end(End::TenantGone));
    };
    if tenant.is_suspended() {
        return sockets.iter().for_each(|socket| socket.end(End::TenantSuspended));
    }
    let mut held = vec![];
    for socket in sockets {
        let by = socket.held();
        match app.auth.check(&tenant, by.token.expose()) {
            Ok(_) => held.push((socket, by)),
            Err(AuthError::Token(TokenError::Expired)) => socket.end_by(&by, End::TokenExpired),
            Err(_) => socket.end_by(&by, End::TokenInvalid),
        }
    }
    for some in held.chunks(AT_ONCE) {
        at_sessions(app, &tenant, some).await;
    }
}

async fn at_sessions(app: &App, tenant: &Arc<TenantSnapshot>, sockets: &[(Arc<Socket>, Arc<Held>)]) {
    let mut sessions: Vec<_> = sockets.iter().map(|(_, held)| held.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    let states = match app.auth.sessions_now(tenant.id, &sessions).await {
        Ok(states) => states,
        Err(error) => {
            tracing::debug!(%error, tenant = %tenant.name, "nobody knows whether sessions of open sockets count");
            let now = app.clock.now();
            return sockets.iter().for_each(|(socket, _)| socket.unknown(now));
        }
    };
    let mut watching = vec![];
    for (socket, held) in sockets {
        let Some(SessionState::Live(user)) = states.get(&held.session).filter(|_| tenant.id == socket.owner.tenant)
        else {
            socket.end_by(held, End::SessionEnded);
            continue;
        };
        socket.known();
        let mut me = CurrentUser::new(held.session, Arc::clone(user), Arc::clone(tenant), app.clock.now());
        meet(app, &socket.handshake, &mut me);
        socket.tell_own(&me);
        let watched = socket.watched();
        if watched.is_empty() {
            continue;
        }
        if may_watch(&me) {
            watching.push((socket, watched));
        } else {
            for user in watched {
                socket.expel(user, "forbidden");
            }
        }
    }
    at_rooms(app, tenant, &watching).await;
}

/// Tells who is in the rooms of others what became of these. Few are: frontends for administration.
async fn at_rooms(app: &App, tenant: &TenantSnapshot, watching: &[(&Arc<Socket>, Vec<UserId>)]) {
    let mut ids: Vec<_> = watching.iter().flat_map(|(_, watched)| watched).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    for some in ids.chunks(AT_ONCE) {
        // Where the database does not answer, the next look tells it.
        let Ok(users) = app.users.find_all(tenant.id, some).await else { return };
        let users: HashMap<_, _> = users.into_iter().map(|user| (user.id, user)).collect();
        for (socket, watched) in watching {
            for id in watched.iter().filter(|id| some.binary_search(id).is_ok()) {
                match users.get(id) {
                    Some(user) => socket.tell(user),
                    None => socket.expel(*id, "gone"),
                }
            }
        }
    }
}

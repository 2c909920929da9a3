//! Whether the open sockets still count.
//!
//! One question for all of them, over and over, and nothing that tells of ends: a message could get lost, and then a socket
//! would outlive its session. Redis answers for 500 sessions at once, and for what it does not know, or while it is away,
//! PostgreSQL does. 10,000 sockets cost forty questions a second.

use std::{collections::HashMap, future::Future, pin::pin, sync::Arc, time::Duration};

use contract::TenantName;
use futures::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    events::may_watch,
    hub::{Held, Socket},
    model::End,
};
use crate::{
    app::App,
    extract::CurrentUser,
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
        tenants.entry(socket.tenant.clone()).or_default().push(socket);
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
    for (socket, held) in sockets {
        let Some(SessionState::Live(user)) = states.get(&held.session).filter(|_| tenant.id == socket.room.tenant)
        else {
            socket.end_by(held, End::SessionEnded);
            continue;
        };
        socket.known();
        if !socket.watched().is_empty() {
            let user = CurrentUser::new(held.session, Arc::clone(user), Arc::clone(tenant), app.clock.now());
            if !may_watch(app, &socket.handshake, user) {
                app.realtime.unwatch_all(socket);
            }
        }
    }
}

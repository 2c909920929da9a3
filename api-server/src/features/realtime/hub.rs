//! Which sockets are open in this process, and how many may be.

use std::{collections::HashMap, sync::Arc};

use contract::{Secret, TenantId, TenantName};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{
    metrics::SocketMetrics,
    model::{End, News, Owner, room_name},
    packet,
};
use crate::{
    error::ApiError,
    extract::{CurrentUser, SessionId, User, UserId},
    features::users::UserOut,
    middleware::Scope,
    tenancy::TenantSnapshot,
};

/// A browser has a few tabs.
const MAX_OF_SESSION: usize = 10;
const MAX_OF_USER: usize = 50;
/// Rooms of others that one socket may be in.
const MAX_ROOMS: usize = 50;
/// What waits to be sent; a client that lets more come about is too slow.
const QUEUE: usize = 64;
/// How long a socket stays open while nobody can say whether its session counts.
const PATIENCE_SECONDS: i64 = 10;

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Realtime(Arc<Hub>);

struct Hub {
    table: Mutex<Table>,
    metrics: SocketMetrics,
    max: usize,
    /// Connections, also those that have not shown a token yet.
    open: watch::Sender<usize>,
    shutdown: watch::Sender<bool>,
}

#[derive(Default)]
struct Table {
    open_of: HashMap<TenantId, usize>,
    sockets: HashMap<Uuid, Arc<Socket>>,
    of_user: HashMap<Owner, HashMap<Uuid, Arc<Socket>>>,
}

/// What the request was that opened a connection: conditions of role bindings speak of it. It names the tenant and does not
/// hold it: a connection outlives many revisions.
pub struct Handshake {
    pub tenant: TenantName,
    pub tenant_id: TenantId,
    pub scope: Scope,
    pub method: Method,
    pub headers: HeaderMap,
}

/// By what a socket is open.
pub struct Held {
    pub token: Secret,
    pub session: SessionId,
}

/// A connection that was let in.
pub struct Socket {
    pub id: Uuid,
    pub owner: Owner,
    pub handshake: Arc<Handshake>,
    held: Mutex<Arc<Held>>,
    /// What it was told of its own user.
    own: Mutex<News>,
    /// The others in whose rooms it is, and what it was told of them.
    watched: Mutex<HashMap<UserId, News>>,
    outgoing: mpsc::Sender<String>,
    end: watch::Sender<Option<End>>,
    unknown_since: Mutex<Option<Timestamp>>,
}

impl Realtime {
    /// At most `max` connections at once; half of them for one tenant.
    pub fn new(max: usize, metrics: SocketMetrics) -> Self {
        let (open, shutdown) = (watch::Sender::new(0), watch::Sender::new(false));
        Self(Arc::new(Hub { table: Mutex::default(), metrics, max, open, shutdown }))
    }

    /// A place for one more connection to a tenant.
    pub fn admit(&self, tenant: &TenantSnapshot) -> Result<Place, ApiError> {
        let mut table = self.0.table.lock();
        let of_tenant = table.open_of.get(&tenant.id).copied().unwrap_or_default();
        let full = *self.0.open.borrow() >= self.0.max || of_tenant >= self.0.max.div_ceil(2);
        if full || *self.0.shutdown.borrow() {
            self.0.metrics.refused.inc();
            return Err(ApiError::unavailable("There is no place for one more connection here: try again", 5));
        }
        *table.open_of.entry(tenant.id).or_default() += 1;
        self.0.open.send_modify(|open| *open += 1);
        self.0.metrics.open.inc();
        Ok(Place { hub: self.clone(), tenant: tenant.id })
    }

    /// Lets a socket in, within the bounds of its user.
    pub fn join(
        &self,
        tenant: &TenantSnapshot,
        user: &CurrentUser,
        handshake: Arc<Handshake>,
        held: Held,
    ) -> Result<(Seat, mpsc::Receiver<String>), ApiError> {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let owner = Owner { tenant: tenant.id, user: user.id };
        let mut table = self.0.table.lock();
        let own = table.of_user.get(&owner);
        let of_session =
            own.map_or(0, |own| own.values().filter(|socket| socket.held().session == held.session).count());
        if own.map_or(0, HashMap::len) >= MAX_OF_USER || of_session >= MAX_OF_SESSION {
            let message = format!(
                "Too many connections: {MAX_OF_SESSION} of a session and {MAX_OF_USER} of a user are open at most"
            );
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_SOCKETS", message));
        }
        let socket = Arc::new(Socket {
            id: Uuid::now_v7(),
            owner,
            handshake,
            held: Mutex::new(Arc::new(held)),
            own: Mutex::new(News::own(user)),
            watched: Mutex::default(),
            outgoing,
            end: watch::Sender::new(None),
            unknown_since: Mutex::default(),
        });
        table.of_user.entry(owner).or_default().insert(socket.id, Arc::clone(&socket));
        table.sockets.insert(socket.id, Arc::clone(&socket));
        drop(table);
        Ok((Seat { hub: self.clone(), socket }, queue))
    }

    /// All sockets that are open now.
    pub fn sockets(&self) -> Vec<Arc<Socket>> {
        self.0.table.lock().sockets.values().cloned().collect()
    }

    /// Ends all connections and takes no more. Gives when the last one is gone.
    pub async fn close(&self) {
        self.0.shutdown.send_replace(true);
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Ends when connections are to.
    pub async fn closing(&self) {
        // An error means that the hub is gone, which is an end as well.
        let _ = self.0.shutdown.subscribe().wait_for(|shutdown| *shutdown).await;
    }

    #[cfg(test)]
    pub async fn until_open(&self, wanted: usize) {
        let _ = self.0.open.subscribe().wait_for(|open| *open == wanted).await;
    }
}

impl Socket {
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.lock())
    }

    /// From now on it is open by this.
    pub fn renew(&self, held: Held) {
        *self.held.lock() = Arc::new(held);
    }

    /// Enters another user's room, knowing `news` of them. Whether it may is asked before.
    pub fn enter(&self, user: UserId, news: News) -> Result<(), ApiError> {
        let mut watched = self.watched.lock();
        if watched.len() >= MAX_ROOMS && !watched.contains_key(&user) {
            let message = format!("A connection is in {MAX_ROOMS} rooms at most: leave one");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ROOMS", message));
        }
        watched.insert(user, news);
        Ok(())
    }

    /// Leaves another user's room; false where it was not there.
    pub fn leave(&self, user: UserId) -> bool {
        self.watched.lock().remove(&user).is_some()
    }

    /// As [`Socket::leave`], at our wish: the client is told why.
    pub fn expel(&self, user: UserId, reason: &str) {
        if self.leave(user) {
            self.emit("room-left", &json!({ "room": room_name(user), "reason": reason }));
        }
    }

    /// The others in whose rooms it is.
    pub fn watched(&self) -> Vec<UserId> {
        self.watched.lock().keys().copied().collect()
    }

    /// This is what its own user is now: it is told, if that is news.
    pub fn tell_own(&self, me: &CurrentUser) {
        let news = News::own(me);
        if std::mem::replace(&mut *self.own.lock(), news) != news {
            self.emit_user(&UserOut::from(me));
        }
    }

    /// This is what another is now: if the socket is in their room and knows them otherwise, it is told.
    pub fn tell(&self, user: &User) {
        let news = News::of(user);
        let known = self.watched.lock().get_mut(&user.id).map(|known| std::mem::replace(known, news));
        if known.is_some_and(|known| known != news) {
            self.emit_user(&UserOut::from(user));
        }
    }

    fn emit_user(&self, user: &UserOut) {
        self.emit("user-updated", &json!({ "room": room_name(user.id), "user": user }));
    }

    /// Sends an event. Who does not read their events is cut off: there is no place to keep them.
    pub fn emit(&self, event: &str, data: &Value) {
        if self.outgoing.try_send(packet::event(event, data)).is_err() {
            self.end(End::TooSlow);
        }
    }

    /// Ends the connection, for the first reason that is given.
    pub fn end(&self, end: End) {
        self.end.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(end);
            first
        });
    }

    /// As [`Socket::end`], unless the socket is open by something newer than `held` by now.
    pub fn end_by(&self, held: &Arc<Held>, end: End) {
        if Arc::ptr_eq(&self.held.lock(), held) {
            self.end(end);
        }
    }

    /// Ends when the connection is to, and says why.
    pub async fn ended(&self) -> End {
        let mut told = self.end.subscribe();
        let end = told.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        end.unwrap_or(End::Left)
    }

    /// Somebody knew whether its session counts.
    pub fn known(&self) {
        *self.unknown_since.lock() = None;
    }

    /// Nobody did; for a while that is borne.
    pub fn unknown(&self, now: Timestamp) {
        let since = *self.unknown_since.lock().get_or_insert(now);
        if now.duration_since(since).as_secs() >= PATIENCE_SECONDS {
            self.end(End::Unavailable);
        }
    }
}

/// A connection counts for as long as this lives.
pub struct Place {
    hub: Realtime,
    tenant: TenantId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.hub.0.table.lock();
        if let Some(open) = table.open_of.get_mut(&self.tenant) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                table.open_of.remove(&self.tenant);
            }
        }
        self.hub.0.metrics.open.dec();
        self.hub.0.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// A socket is found for as long as this lives.
pub struct Seat {
    hub: Realtime,
    pub socket: Arc<Socket>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.hub.0.table.lock();
        table.sockets.remove(&self.socket.id);
        if let Some(own) = table.of_user.get_mut(&self.socket.owner) {
            own.remove(&self.socket.id);
            if own.is_empty() {
                table.of_user.remove(&self.socket.owner);
            }
        }
    }
}

//! One connection, from its first packet to its last.
//!
//! What the client sends is worked on one packet after the other, so who sends faster than is answered waits by TCP. Whatever
//! is in hand is dropped when the connection is to end: an end must not wait for a client that does not read.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    events,
    hub::{Handshake, Place, Seat, Socket},
    model::{Allowance, End, Farewell},
    packet::{self, Incoming},
};
use crate::{app::App, error::ApiError, middleware::bearer};

/// From the open connection to its token.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is not there.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// For the last words; the connection is closed with them or without.
const FAREWELL_WITHIN: Duration = Duration::from_millis(200);

pub async fn serve(app: App, socket: WebSocket, handshake: Arc<Handshake>, place: Place) {
    let mut wire = Wire(socket);
    let end = tokio::select! {
        biased;
        () = app.realtime.closing() => End::Shutdown,
        end = talk(&app, &mut wire, &handshake) => end,
    };
    // The counter first: once the client sees the end, it has been counted.
    app.metrics.sockets.closed(end);
    tracing::debug!(request_id = handshake.scope.request_id(), reason = end.as_str(), "socket closed");
    let _ = timeout(FAREWELL_WITHIN, wire.part(end)).await;
    drop(wire);
    drop(place);
}

async fn talk(app: &App, wire: &mut Wire, handshake: &Arc<Handshake>) -> End {
    match timeout(JOIN_WITHIN, begin(app, wire, handshake)).await {
        Ok(Ok((seat, queue))) => tokio::select! {
            biased;
            end = seat.socket.ended() => end,
            end = go_on(app, wire, &seat.socket, queue) => end,
        },
        Ok(Err(end)) => end,
        Err(_) => End::NeverJoined,
    }
}

/// Until the client is let in.
async fn begin(app: &App, wire: &mut Wire, handshake: &Arc<Handshake>) -> Result<(Seat, mpsc::Receiver<String>), End> {
    wire.send(packet::open(Uuid::now_v7())).await?;
    loop {
        match wire.receive().await? {
            Incoming::Connect { auth } => {
                let joined = join(app, handshake, &auth).await;
                return match joined {
                    Ok((seat, queue)) => {
                        wire.send(packet::connected(seat.socket.id)).await?;
                        Ok((seat, queue))
                    }
                    Err(error) => {
                        tracing::debug!(
                            request_id = handshake.scope.request_id(),
                            code = error.code(),
                            "socket refused"
                        );
                        wire.send(packet::refused("/", "Authentication error", &told(&error))).await?;
                        Err(End::Refused)
                    }
                };
            }
            Incoming::Elsewhere { namespace } => wire.refuse_namespace(&namespace).await?,
            Incoming::Pong => {}
            Incoming::Leave => return Err(End::Left),
            Incoming::Event { .. } | Incoming::Ack => return Err(End::Protocol),
        }
    }
}

async fn join(app: &App, handshake: &Arc<Handshake>, auth: &Value) -> Result<(Seat, mpsc::Receiver<String>), ApiError> {
    let token = events::token(auth).or_else(|| bearer(&handshake.headers)).ok_or_else(ApiError::unauthenticated)?;
    let (user, held) = events::enter(app, handshake, token).await?;
    let tenant = events::tenant_of(app, handshake)?;
    app.realtime.join(&tenant, &user, Arc::clone(handshake), held)
}

/// From then on.
async fn go_on(app: &App, wire: &mut Wire, socket: &Arc<Socket>, mut queue: mpsc::Receiver<String>) -> End {
    let mut allowance = Allowance::new(Instant::now());
    let (mut pinged, mut awaits_pong) = (Instant::now(), false);
    loop {
        let due = pinged + if awaits_pong { packet::PING_TIMEOUT } else { packet::PING_INTERVAL };
        let done = tokio::select! {
            () = sleep_until(due) => {
                if awaits_pong {
                    return End::Silent;
                }
                (pinged, awaits_pong) = (Instant::now(), true);
                wire.send(packet::PING).await
            }
            Some(text) = queue.recv() => wire.send(text).await,
            incoming = wire.receive() => match incoming {
                _ if !allowance.take(Instant::now()) => return End::TooManyEvents,
                Ok(Incoming::Pong) => {
                    awaits_pong = false;
                    Ok(())
                }
                Ok(Incoming::Event { name, argument, ack }) => {
                    let answer = events::answer(app, socket, &name, &argument).await;
                    wire.acknowledge(&name, ack, answer).await
                }
                Ok(Incoming::Elsewhere { namespace }) => wire.refuse_namespace(&namespace).await,
                // A second wish to be let in changes nothing.
                Ok(Incoming::Connect { .. } | Incoming::Ack) => Ok(()),
                Ok(Incoming::Leave) => return End::Left,
                Err(end) => return end,
            },
        };
        if let Err(end) = done {
            return end;
        }
    }
}

/// What a client is told of an error: no cause, as in answers to requests.
pub fn told(error: &ApiError) -> Value {
    json!({ "code": error.code(), "message": error.message(), "details": error.details() })
}

/// The connection as packets.
struct Wire(WebSocket);

impl Wire {
    async fn send(&mut self, text: impl Into<String>) -> Result<(), End> {
        let sending = self.0.send(Message::text(text.into()));
        match timeout(SEND_WITHIN, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::TooSlow),
        }
    }

    /// The next packet; pings of the WebSocket itself are answered below.
    async fn receive(&mut self) -> Result<Incoming, End> {
        match self.0.recv().await {
            Some(Ok(Message::Text(text))) => packet::parse(&text).map_err(|_| End::Protocol),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Incoming::Ack),
            Some(Ok(Message::Binary(_))) => Err(End::Protocol),
            Some(Ok(Message::Close(_))) | None => Err(End::Left),
            // Cut off; or no WebSocket, or a message that is too long.
            Some(Err(error)) => {
                let cut_off = error.into_inner().is::<std::io::Error>();
                Err(if cut_off { End::Left } else { End::Protocol })
            }
        }
    }

    /// Tells who asked, where they want to know; who did not is told of a refusal alone.
    async fn acknowledge(&mut self, event: &str, ack: Option<u64>, answer: Result<Value, ApiError>) -> Result<(), End> {
        match (ack, answer) {
            (Some(ack), Ok(mut answer)) => {
                answer["ok"] = true.into();
                self.send(packet::ack(ack, &answer)).await
            }
            (Some(ack), Err(error)) => {
                self.send(packet::ack(ack, &json!({ "ok": false, "error": told(&error) }))).await
            }
            (None, Err(error)) => {
                self.send(packet::event("refused", &json!({ "event": event, "error": told(&error) }))).await
            }
            (None, Ok(_)) => Ok(()),
        }
    }

    async fn refuse_namespace(&mut self, namespace: &str) -> Result<(), End> {
        self.send(packet::refused(namespace, "Invalid namespace", &Value::Null)).await
    }

    /// The last words. Nobody minds when they do not arrive.
    async fn part(&mut self, end: End) {
        let Farewell { event, for_good, code } = end.farewell();
        let mut words = vec![];
        if let Some(event) = event {
            words.push(Message::text(packet::event(event, &json!({ "reason": end.as_str() }))));
        }
        if for_good {
            words.push(Message::text(packet::DISCONNECT));
        }
        words.push(Message::Close(Some(CloseFrame { code, reason: end.as_str().into() })));
        for word in words {
            if self.0.send(word).await.is_err() {
                return;
            }
        }
        // A connection that is closed over unread bytes is reset, and the last words with it.
        while let Some(Ok(_)) = self.0.recv().await {}
    }
}

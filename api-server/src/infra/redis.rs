//! Redis: counters, and what may be looked up again. Nothing lives here alone; when Redis is away the API still serves.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::patience;

/// A request waits no longer than this for what Redis knows: the database knows it too. The time counts from the call, so
/// it also bounds the wait for a connection that is being made anew.
const DEADLINE: Duration = Duration::from_millis(100);
/// What others are to be told is worth more patience.
const WRITE_DEADLINE: Duration = Duration::from_secs(1);
/// A connection from which nothing came for this long, although it was asked, is given up for a new one. It makes itself
/// anew when it is cut, but not when it falls silent, nor when the server refuses its greeting (while it loads its data,
/// or while its password is exchanged).
const SILENCE_MS: u64 = 2_000;

/// One multiplexed connection that comes back by itself. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    link: Arc<Link>,
    prefix: String,
}

struct Link {
    client: Client,
    connection: ArcSwap<ConnectionManager>,
    began: Instant,
    /// When something came last, or a new connection was begun: in milliseconds since `began`.
    heard: AtomicU64,
}

impl Redis {
    /// Connects when first asked. All keys begin with `prefix`, so that platforms (and tests) can share a server.
    pub fn lazy(url: &str, prefix: impl Into<String>) -> Result<Self, RedisError> {
        let client = Client::open(url)?;
        let link = Link {
            connection: ArcSwap::from_pointee(connect(&client)?),
            client,
            began: Instant::now(),
            heard: AtomicU64::new(0),
        };
        Ok(Self { link: Arc::new(link), prefix: prefix.into() })
    }

    /// The full name of a key.
    pub fn key(&self, parts: std::fmt::Arguments<'_>) -> String {
        format!("{}{parts}", self.prefix)
    }

    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.connection();
        self.link.judge(within(DEADLINE, command.query_async(&mut connection)).await)
    }

    /// Runs several commands in one round trip, their answers unread.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<(), RedisError> {
        let mut connection = self.connection();
        self.link.judge(within(WRITE_DEADLINE, commands.query_async(&mut connection)).await)
    }

    /// Runs a script by its hash, loading it where the server does not know it yet.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let mut connection = self.connection();
        self.link.judge(within(DEADLINE, script.invoke_async(&mut connection)).await)
    }

    pub async fn check(&self) -> Result<(), RedisError> {
        self.query::<String>(&redis::cmd("PING")).await.map(|_| ())
    }

    fn connection(&self) -> ConnectionManager {
        self.link.connection.load().as_ref().clone()
    }
}

impl Link {
    /// Remembers that something came, or begins anew where nothing has come for too long.
    fn judge<T>(&self, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        let (now, heard) =
            (u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), self.heard.load(Relaxed));
        let since = now.saturating_sub(heard);
        if answer.as_ref().err().is_none_or(is_answer) {
            // Not by every request: a store by each core would pass the cache line around.
            if since > SILENCE_MS / 4 {
                self.heard.store(now, Relaxed);
            }
        } else if since > SILENCE_MS && self.heard.compare_exchange(heard, now, Relaxed, Relaxed).is_ok() {
            match connect(&self.client) {
                Ok(connection) => {
                    self.connection.store(Arc::new(connection.clone()));
                    tokio::spawn(warm(connection));
                }
                Err(error) => tracing::warn!(%error, "no new connection to Redis"),
            }
        }
        answer
    }
}

/// Brings a connection about. Requests alone would not, where it takes longer than they wait: nothing goes on between them.
async fn warm(mut connection: ConnectionManager) {
    let _ = redis::cmd("PING").query_async::<redis::Value>(&mut connection).await;
}

/// Whether a server that is well said no, to this command alone.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::NoScript | ServerErrorKind::ResponseError))
}

fn connect(client: &Client) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(WRITE_DEADLINE))
        .set_response_timeout(Some(WRITE_DEADLINE))
        .set_max_delay(Duration::from_secs(1));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

async fn within<T>(deadline: Duration, answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} ms", deadline.as_millis()));
    patience::within(deadline, answer).await.unwrap_or_else(|| Err(late().into()))
}

//! Redis: counters, and what may be looked up again. Nothing lives here alone; when Redis is away the API still serves.

use std::{future::Future, io, time::Duration};

use redis::{
    Client, Cmd, FromRedisValue, Pipeline, RedisError, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::timeout;

/// A request waits no longer than this for what Redis knows: the database knows it too. The time counts from the call, so
/// it also bounds the wait for a connection that is being made anew.
const DEADLINE: Duration = Duration::from_millis(100);
/// What others are to be told is worth more patience.
const WRITE_DEADLINE: Duration = Duration::from_secs(1);

/// One multiplexed connection that comes back by itself. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    prefix: String,
}

impl Redis {
    /// Connects when first asked. All keys begin with `prefix`, so that platforms (and tests) can share a server.
    pub fn lazy(url: &str, prefix: impl Into<String>) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(WRITE_DEADLINE))
            .set_response_timeout(Some(WRITE_DEADLINE))
            .set_max_delay(Duration::from_secs(1));
        let connection = ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?;
        Ok(Self { connection, prefix: prefix.into() })
    }

    /// The full name of a key.
    pub fn key(&self, parts: std::fmt::Arguments<'_>) -> String {
        format!("{}{parts}", self.prefix)
    }

    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        within(DEADLINE, command.query_async(&mut self.connection.clone())).await
    }

    /// Runs several commands in one round trip, their answers unread.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<(), RedisError> {
        within(WRITE_DEADLINE, commands.query_async(&mut self.connection.clone())).await
    }

    /// Runs a script by its hash, loading it where the server does not know it yet.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        script.invoke_async(&mut self.connection.clone()).await
    }

    pub async fn check(&self) -> Result<(), RedisError> {
        self.query::<String>(&redis::cmd("PING")).await.map(|_| ())
    }
}

async fn within<T>(deadline: Duration, answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} ms", deadline.as_millis()));
    timeout(deadline, answer).await.unwrap_or_else(|_| Err(late().into()))
}

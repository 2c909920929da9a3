//! What the rooms stand on: the database, Redis, the clock. Nothing here knows a feature.

pub mod clock;
pub mod db;
pub mod gate;
pub mod outbound;
mod own_databases;
pub mod patience;
pub mod redis;
#[cfg(test)]
mod tests;
pub mod token;

pub use clock::Clock;
pub use db::{Db, TenantTx};
pub use outbound::Outbound;
pub use own_databases::OwnDatabases;
pub use redis::Redis;
pub use token::Token;

#[cfg(test)]
pub(crate) use own_databases::tests::{apart, provisioned};

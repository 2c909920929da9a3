//! What the rooms stand on: the database, Redis, the clock. Nothing here knows a feature.

pub mod clock;
pub mod db;
pub mod gate;
pub mod redis;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use db::{Db, TenantTx};
pub use redis::Redis;

//! How a release takes over: what runs in which colour, which of them takes the requests, and when that changes.

pub mod analysis;
pub mod command;
pub mod machine;
pub mod observed;
pub mod release;

pub use self::{observed::Observed, release::Release};

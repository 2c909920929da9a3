//! Move money in: a payment is meant, opened at the tenant's provider, paid there, and completed by the provider's word.
//!
//! - The intent is committed before the provider is called, and the provider is called with the payment's id as the
//!   idempotency key: whatever breaks in between, a repetition finds the same payment and the same page to pay on.
//! - No transaction is open while a provider works.
//! - States only move forward ([`model::Status::next`]); what a provider says late or twice changes nothing, and what it
//!   says of other money is not believed.
//! - Each move is written with its row in `payment_transactions` and its audit entry, or not at all.
//! - One's own payments are one's own; those of others take `payments:read`, and without it are not there.

mod http;
pub mod idempotency;
pub mod metrics;
pub mod model;
pub mod money;
pub mod providers;
mod repo;
mod service;
mod settle;
mod webhooks;

#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    http::{router, shown_of},
    providers::transport::Transport,
    service::Payments,
    webhooks::{named as named_webhooks, router as webhooks},
};

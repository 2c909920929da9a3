//! Custom resources → the contract. Pure: no client, no clock, no order of arrival; equal wishes give equal bytes.
//!
//! | room | from | to |
//! |---|---|---|
//! | [`access`] | RoleBindings | who may do what |
//! | [`payments`] | PaymentProviders and their Secrets | accounts with sealed keys |
//! | [`limits`], [`layers`] | RateLimitPolicies of Platform and Tenant | the limits in force |
//! | [`auth`] | `Tenant.spec.auth` | how people sign in |
//!
//! Each also gives a [`verdict`] for every object: what is wrong with it, and whether the document speaks of it. The
//! objects' own reconcilers write these verdicts into their status, so that there is one truth.

pub mod access;
pub mod auth;
pub mod expression;
pub mod layers;
pub mod limits;
pub mod payments;
pub mod problem;
pub mod secrets;
pub mod verdict;

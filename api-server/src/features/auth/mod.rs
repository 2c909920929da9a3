//! Prove who you are: register, sign in, stay signed in, sign out.
//!
//! - An access token is short-lived and signed with the tenant's key; whether its session still counts is asked on every
//!   request, so that a logout is felt at once.
//! - A refresh token is good once; presented again it ends its family, but for the grace that a lost answer deserves.
//! - An unknown address and a wrong password are told apart neither by words nor by time.
//! - Whoever says who they are comes in through [`Auth::enter`], where the tenant's policy may ask for a second factor.
//! - Passwords are tried a few times freely and then ever more slowly, per account and per address, across replicas.

mod attempts;
mod breached;
mod cost;
mod device;
#[cfg(test)]
mod dialects;
mod enter;
#[cfg(test)]
mod felt_everywhere;
mod foreign;
mod hashing;
#[cfg(test)]
mod hostile_tokens;
mod http;
mod keep;
mod lasting;
mod leave;
mod model;
mod proof;
#[cfg(test)]
mod refresh_storm;
mod refusals;
mod repo;
mod service;
mod session_out;
mod sessions;
mod step_up;
#[cfg(test)]
mod tests;
mod throttle;
mod tokens;

pub use cost::{Cost, MOST_COSTS};
pub use device::Device;
pub use enter::{Entered, Limited, Pending};
pub use foreign::{Scheme, Unusable};
pub use http::{router, well_known};
pub use keep::Keep;
pub use model::{AuthError, DEFAULT_ROLE, MAX_PASSWORD_CHARS};
pub use proof::{Method, Proof};
pub use repo::all_sessions;
pub use service::{Auth, SignedIn};
pub use session_out::SessionOut;
pub use sessions::State as SessionState;
pub use step_up::{Asked, FactorStepUp, MayEnrol, RECENT, Standing, StepUp};
pub use throttle::Attempt;
pub use tokens::TokenError;

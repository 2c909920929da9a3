//! Sign in with an account that one has elsewhere: OpenID Connect Core 1.0, as the relying party.
//!
//! - The code flow with PKCE (RFC 7636) and nonce, for every provider that the Tenant names. A page of the frontend is
//!   returned to; it hands the code on, with a secret that only the browser which began has: a code that somebody slips in
//!   (login CSRF) is of no use.
//! - An identity is an issuer and a subject. An address links to an account that exists only where the tenant trusts the
//!   provider with addresses and both sides have verified it; otherwise the user links it, signed in.
//! - What a provider says is checked before anything of it is believed; its outage is told apart from its refusal.

mod http;
mod model;
mod openid;
mod repo;
mod service;
#[cfg(test)]
mod tests;

pub use self::{
    http::{IdentityOut, router},
    repo::identities_of,
    service::Identities,
};

//! Who exists in a tenant. The accounts themselves are kept by [`crate::features::auth`]; here they are looked at.

mod http;
#[cfg(test)]
mod tests;

pub use http::router;

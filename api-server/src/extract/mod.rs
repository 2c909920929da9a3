//! What a handler may ask for. A handler that names a thing here has it checked before its first line runs.
//!
//! Order matters in a signature: who may do it comes first, so that a stranger learns nothing about the rest.

mod can;
mod input;
mod me;
mod page;
mod params;
mod tenant;
mod text;
mod user;

pub use can::{Can, Permission, permissions};
pub use input::{Json, Valid, Validate, Violations};
pub use me::{Me, Principal};
pub use page::{Page, PageQuery};
pub use params::{Path, Query};
pub use tenant::Tenant;
pub use user::{CurrentUser, Machine, SessionId, User, UserId};

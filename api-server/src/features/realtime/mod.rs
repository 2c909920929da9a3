//! Open connections: Socket.IO over WebSockets, at `/socket.io/` of a tenant's host.
//!
//! - A socket is opened with an access token, which is checked by what checks the tokens of requests, and it is good for as
//!   long as a request with that token would be: [`look`] asks that of all open sockets every half second, so that a logout,
//!   a ban or a new password closes them within a second on whichever replica they are.
//! - Nothing in the token says which rooms a socket may join: that is asked of the user's rights, and asked again at each
//!   look. A room is told of what changes about its user, which a look sees as well.
//! - There is no polling. Its requests would have to reach the same replica each time, and any other would refuse them: it
//!   would work with one replica and fail with two. Clients that begin with it are told so in their `connect_error`.
//! - The protocol is written here: the crate for it (socketioxide) takes a client out of a namespace but cannot close its
//!   connection, cannot even do the former while its queue is full, and starts a task for every event that comes in.
//!
//! | file | what |
//! |---|---|
//! | `http` | who may open a connection at all |
//! | `connection` | one connection from its first packet to its last |
//! | `events` | what a client may ask for |
//! | `look` | whether sockets still count |
//! | `hub` | which sockets are open here, within which bounds |
//! | `packet` | Engine.IO 4 and Socket.IO 5 as text |

mod connection;
mod events;
mod http;
mod hub;
mod look;
pub mod metrics;
mod model;
mod packet;
#[cfg(test)]
mod tests;

pub use http::router;
pub use hub::Realtime;
pub use look::run;

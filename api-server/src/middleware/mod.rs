//! What a request passes on its way in, and an answer on its way out. One page, in order, with the reasons.
//!
//! | # | layer | why it stands here |
//! |---|---|---|
//! | 1 | [`context`] | outermost: every answer, even of a panic, has a request id, a log line and a place in the metrics |
//! | 2 | [`answer`] | writes the bodies of all that is within, so errors of every layer have one shape |
//! | 3 | [`panics`] | within `answer`, so that a panic becomes an ordinary 500; outside of all that could panic |
//! | 4 | [`deadline`] | within `panics`, whose answer it must not cut off; outside of all that could wait |
//! | 5 | [`tenant`] | before anything that has a tenant's policy: CORS, sessions, limits |
//! | 6 | [`cors`] | after the tenant, whose list it is; before the session, since a preflight carries no token |
//! | 7 | [`session`] | before the limits, which count signed-in users by id and others by address |
//! | 8 | [`rate_limit`] | last before the handler: what is refused above costs nobody their allowance |

use axum::{Router, extract::DefaultBodyLimit, middleware::from_fn_with_state};

use crate::app::App;

mod answer;
mod context;
mod cors;
mod deadline;
mod panics;
mod rate_limit;
mod scope;
mod session;
mod tenant;
#[cfg(test)]
mod tests;

pub use scope::{Client, Scope};
pub use session::{Credential, bearer, recognize};
pub use tenant::host;

/// Bodies are read into memory: more than this is not. A route may set less.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// Routes that belong to a tenant. The last layer named is the outermost.
pub fn tenant_stack(router: Router<App>, app: &App) -> Router<App> {
    router
        .layer(from_fn_with_state(app.clone(), rate_limit::limit))
        .layer(from_fn_with_state(app.clone(), session::authenticate))
        .layer(from_fn_with_state(app.clone(), cors::share))
        .layer(from_fn_with_state(app.clone(), tenant::find))
}

/// Every route.
pub fn outer_stack(router: Router<App>, app: &App) -> Router<App> {
    router
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(app.clone(), deadline::keep))
        .layer(panics::layer(app))
        .layer(from_fn_with_state(app.clone(), answer::write))
        .layer(from_fn_with_state(app.clone(), context::begin))
}

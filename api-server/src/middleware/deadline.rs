//! The longest that a request may take: whatever it waits for, the caller gets an answer.

use std::{pin::pin, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;
use tokio::time::timeout;

use crate::{app::App, error::ApiError};

const LONGEST: Duration = Duration::from_secs(30);
/// A payment is opened and closed at its provider, who may take what the tenant allows: 60 seconds at most.
const WITH_A_PROVIDER: Duration = Duration::from_secs(90);

pub async fn keep(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let asks_a_provider = match *request.method() {
        Method::POST => route.ends_with("/payments"),
        Method::DELETE => route.ends_with("/payments/{id}"),
        _ => false,
    };
    let mut answer = pin!(next.run(request));
    if let Ok(response) = timeout(if asks_a_provider { WITH_A_PROVIDER } else { LONGEST }, &mut answer).await {
        return response;
    }
    // Before the request is dropped with the connection that it may hold.
    app.db.distrust();
    ApiError::unavailable("This takes too long at the moment: try again", 5).into_response()
}

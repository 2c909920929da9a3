//! A panic ends one request, not the process: it is counted, logged with its message, and answered with 500.

use std::{any::Any, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use crate::{app::App, error::ApiError, metrics::Metrics};

pub fn layer(app: &App) -> CatchPanicLayer<OnPanic> {
    CatchPanicLayer::custom(OnPanic(Arc::clone(&app.metrics)))
}

#[derive(Clone)]
pub struct OnPanic(Arc<Metrics>);

impl ResponseForPanic for OnPanic {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send>) -> Response {
        self.0.panics.inc();
        let message =
            panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        ApiError::internal(format_args!("panic: {}", message.unwrap_or("without a message"))).into_response()
    }
}

//! Through the router, over a fresh database.

mod passwords;
mod races;
mod refresh;
mod sessions;
mod sign_in;
mod throttling;
mod tokens;

use serde_json::{Value, json};

use crate::testing::{Answer, TestApp};

const ME: &str = "/api/v1/auth/me";

fn token<'a>(session: &'a Value, name: &str) -> &'a str {
    session[name].as_str().unwrap()
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    app.post("/api/v1/auth/refresh", &json!({ "refreshToken": token })).send().await
}

//! As much of Stripe as the room sees: sessions, idempotency keys, and bad days.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use axum::{
    Form, Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the next call meets; `Fine` when nothing is said.
#[derive(Clone, Debug)]
pub enum Mood {
    /// Does as asked, and never says so.
    LosesItsAnswer,
    Says(u16, Value),
}

#[derive(Clone, Default)]
pub struct Stripe {
    pub url: String,
    state: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    moods: VecDeque<Mood>,
    sessions: HashMap<String, Value>,
    by_key: HashMap<String, String>,
    /// Path and idempotency key of each call.
    calls: Vec<(String, String)>,
}

impl Stripe {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stripe = Self { url: format!("http://{}", listener.local_addr().unwrap()), ..Self::default() };
        let router = Router::new()
            .route("/v1/checkout/sessions", post(open))
            .route("/v1/checkout/sessions/{id}", get(find))
            .route("/v1/checkout/sessions/{id}/expire", post(expire))
            .with_state(stripe.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stripe
    }

    pub fn next(&self, mood: Mood) {
        self.state.lock().moods.push_back(mood);
    }

    pub fn calls(&self) -> Vec<(String, String)> {
        self.state.lock().calls.clone()
    }

    pub fn sessions(&self) -> usize {
        self.state.lock().sessions.len()
    }

    /// The payer pays.
    pub fn pay(&self, session: &str) {
        let mut books = self.state.lock();
        let session = books.sessions.get_mut(session).unwrap();
        (session["status"], session["payment_status"], session["url"]) =
            (json!("complete"), json!("paid"), Value::Null);
    }

    /// The one session of a payment.
    pub fn session_of(&self, payment: &str) -> Value {
        let books = self.state.lock();
        books.sessions.values().find(|session| session["client_reference_id"] == payment).unwrap().clone()
    }

    fn mood(&self, path: &str, headers: &HeaderMap) -> Option<Mood> {
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default();
        let mut books = self.state.lock();
        books.calls.push((path.to_owned(), key));
        books.moods.pop_front()
    }
}

async fn open(State(stripe): State<Stripe>, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    let mood = stripe.mood("/v1/checkout/sessions", &headers);
    if let Some(Mood::Says(status, body)) = mood {
        return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    }
    assert_eq!(headers["authorization"], "Bearer sk_test_acme");
    let session = {
        let mut books = stripe.state.lock();
        let id = format!("cs_test_{}", books.sessions.len() + 1);
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        let id = books.by_key.entry(key).or_insert(id).clone();
        let session = json!({
            "id": id,
            "object": "checkout.session",
            "status": "open",
            "payment_status": "unpaid",
            "url": format!("https://checkout.stripe.test/{id}"),
            "amount_total": form["line_items[0][price_data][unit_amount]"].parse::<i64>().unwrap(),
            "currency": form["line_items[0][price_data][currency]"],
            "client_reference_id": form["client_reference_id"],
            "metadata": { "payment_id": form["metadata[payment_id]"] },
        });
        books.sessions.entry(id).or_insert(session).clone()
    };
    if let Some(Mood::LosesItsAnswer) = mood {
        std::future::pending::<()>().await;
    }
    Json(session).into_response()
}

async fn find(State(stripe): State<Stripe>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    stripe.mood("/v1/checkout/sessions/{id}", &headers);
    Json(stripe.state.lock().sessions[&id].clone()).into_response()
}

async fn expire(State(stripe): State<Stripe>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Some(Mood::Says(status, body)) = stripe.mood("/v1/checkout/sessions/{id}/expire", &headers) {
        return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    }
    let mut books = stripe.state.lock();
    let session = books.sessions.get_mut(&id).unwrap();
    if session["status"] != "open" {
        let message = "Only Checkout Sessions with a status in [\"open\"] can be expired.";
        let error = json!({ "error": { "type": "invalid_request_error", "message": message } });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    (session["status"], session["url"]) = (json!("expired"), Value::Null);
    Json(session.clone()).into_response()
}
